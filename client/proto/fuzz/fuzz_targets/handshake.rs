//! A byte stream from its start: frames, the first of them a handshake in either direction.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use quorate_proto::frame;
use quorate_proto::jute::Writer;
use quorate_proto::limits::FRAME_BYTES_MAX_DEFAULT;
use quorate_proto::{ConnectRequest, ConnectResponse};

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok(Some((payload, used))) = frame::split(rest, FRAME_BYTES_MAX_DEFAULT) {
        assert_eq!(used, payload.len() + frame::PREFIX_LEN);
        if let Ok(request) = ConnectRequest::decode(payload) {
            let mut out = BytesMut::new();
            request.encode(&mut Writer::new(&mut out));
            assert_eq!(ConnectRequest::decode(&out), Ok(request));
            // The last byte alone can be spelled in several ways.
            let fixed = out.len() - usize::from(request.read_only.is_some());
            assert_eq!(out[..fixed], payload[..fixed]);
        }
        if let Ok(response) = ConnectResponse::decode(payload) {
            let mut out = BytesMut::new();
            response.encode(&mut Writer::new(&mut out));
            assert_eq!(ConnectResponse::decode(&out), Ok(response));
        }
        rest = &rest[used..];
    }
});
