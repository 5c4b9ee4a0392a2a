//! A request behind its prefix: header, and the body of any opcode.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use quorate_proto::jute::Writer;
use quorate_proto::{OpCode, Request, RequestHeader};

fuzz_target!(|payload: &[u8]| {
    let Ok((header, body)) = RequestHeader::decode(payload) else {
        return assert!(payload.len() < RequestHeader::ENCODED_LEN);
    };
    let Some(op) = OpCode::from_code(header.op) else {
        return;
    };
    match Request::decode(op, body) {
        Err(error) => {
            let _ = Request::decode_error_code(op, error);
        }
        Ok(request) => {
            assert_eq!(request.op(), op);
            let mut out = BytesMut::new();
            request.encode(&mut Writer::new(&mut out));
            assert_eq!(Request::decode(op, &out), Ok(request));
        }
    }
});
