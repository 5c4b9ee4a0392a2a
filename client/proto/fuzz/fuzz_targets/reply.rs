//! What a client reads: the opcode that it asked with, then a reply or a notification.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use quorate_proto::jute::Writer;
use quorate_proto::{OpCode, Reply, ServerFrame, WatcherEvent};

fuzz_target!(|data: &[u8]| {
    let Some((&op, payload)) = data.split_first() else {
        return;
    };
    let op = OpCode::ALL[usize::from(op) % OpCode::ALL.len()];
    let mut out = BytesMut::new();
    match ServerFrame::decode(payload) {
        Err(_) => {}
        Ok(ServerFrame::Event(_, event)) => {
            event.encode(&mut Writer::new(&mut out));
            assert_eq!(WatcherEvent::decode(&out), Ok(event));
        }
        Ok(ServerFrame::Reply(_, body)) => {
            if let Ok(reply) = Reply::decode(op, body) {
                reply.encode(&mut Writer::new(&mut out));
                assert_eq!(Reply::decode(op, &out), Ok(reply));
            }
        }
    }
});
