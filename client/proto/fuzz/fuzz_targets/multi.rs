//! The lists of a multi, of a multiRead, and of their results, from the same bytes.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use quorate_proto::jute::{Reader, Writer};
use quorate_proto::multi::{MultiOp, MultiResult};
use quorate_proto::{OpCode, Request};

fuzz_target!(|body: &[u8]| {
    for op in [OpCode::Multi, OpCode::MultiRead] {
        let Ok(request) = Request::decode(op, body) else {
            continue;
        };
        if let Request::Multi(multi) = &request {
            // A list takes memory in proportion to its bytes.
            let bound = 16 * body.len() + 4 * size_of::<MultiOp<'_>>();
            assert!(multi.ops.capacity() * size_of::<MultiOp<'_>>() <= bound);
        }
        let mut out = BytesMut::new();
        request.encode(&mut Writer::new(&mut out));
        assert_eq!(Request::decode(op, &out), Ok(request));
    }
    if let Ok(results) = MultiResult::read_list(&mut Reader::new(body)) {
        let mut out = BytesMut::new();
        MultiResult::encode_list(&results, &mut Writer::new(&mut out));
        assert_eq!(MultiResult::read_list(&mut Reader::new(&out)), Ok(results));
    }
});
