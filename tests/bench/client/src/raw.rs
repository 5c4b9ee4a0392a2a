//! The cell without a client library: the bytes of the protocol on a blocking socket.
//!
//! What this takes is the server's and the kernel's share of every other client's time: no session is
//! kept, nothing is checked, nobody could be told of an event.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use bytes::BytesMut;
use quorate_proto::request::{Create, PathVersion, PathWatch, SetData};
use quorate_proto::{
    Acl, AclRef, ConnectRequest, ReplyHeader, Request, SessionId, Version, Xid, Zxid,
};

use crate::{Cell, DATA, Result, Taken, cpu};

struct Raw {
    socket: TcpStream,
    input: Vec<u8>,
    xid: i32,
}

impl Raw {
    fn connect(server: &str) -> Result<Raw> {
        let mut socket = TcpStream::connect(server)?;
        socket.set_nodelay(true)?;
        let mut out = BytesMut::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: 30_000,
            session: SessionId::NONE,
            password: Some(&[0; 16]),
            read_only: Some(false),
        }
        .write_frame(&mut out)?;
        socket.write_all(&out)?;
        let mut raw = Raw {
            socket,
            input: Vec::new(),
            xid: 0,
        };
        raw.frame()?;
        Ok(raw)
    }

    /// One frame, whole; a read takes what there is.
    fn frame(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some((len, rest)) = self.input.split_first_chunk::<4>() {
                let len = u32::from_be_bytes(*len) as usize;
                if rest.len() >= len {
                    let frame = rest[..len].to_vec();
                    self.input.drain(..4 + len);
                    return Ok(frame);
                }
            }
            let mut chunk = [0; 64 * 1024];
            let read = self.socket.read(&mut chunk)?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
            self.input.extend_from_slice(&chunk[..read]);
        }
    }

    /// Sends these at once, and waits for all answers.
    fn ask<'a>(&mut self, requests: impl Iterator<Item = Request<'a>>) -> Result<()> {
        let mut out = BytesMut::new();
        let mut count = 0;
        for request in requests {
            self.xid += 1;
            request.write_frame(&mut out, Xid(self.xid))?;
            count += 1;
        }
        self.socket.write_all(&out)?;
        for _ in 0..count {
            let (header, _) = ReplyHeader::decode(&self.frame()?)?;
            if header.err != 0 {
                return Err(format!("refused with {}", header.err).into());
            }
        }
        Ok(())
    }
}

pub fn run(cell: &Cell) -> Result<Taken> {
    let mut raw = Raw::connect(&cell.server)?;
    let parent = cell.parent();
    let acl = Acl::open_unsafe();
    let create = |path: &str| {
        Request::Create2(Create {
            path: path.to_owned().into(),
            data: Some(&DATA),
            acl: Some(acl.iter().map(AclRef::from).collect()),
            flags: 0,
        })
    };
    raw.ask(std::iter::once(create(&parent)))?;
    let request = |number: usize| match cell.operation.as_str() {
        "get" => Request::GetData(PathWatch {
            path: (&*parent).into(),
            watch: false,
        }),
        "set" => Request::SetData(SetData {
            path: (&*parent).into(),
            data: Some(&DATA),
            version: Version::ANY,
        }),
        _ => create(&format!("{parent}/{number}")),
    };
    let mut all = |numbers: std::ops::Range<usize>| -> Result<()> {
        let end = numbers.end;
        for start in numbers.step_by(cell.outstanding) {
            raw.ask((start..end.min(start + cell.outstanding)).map(request))?;
        }
        Ok(())
    };
    all(0..cell.warm_up())?;
    let (began, cpu) = (Instant::now(), cpu::used());
    all(cell.warm_up()..cell.warm_up() + cell.operations)?;
    let taken = Taken {
        wall: began.elapsed(),
        cpu: cpu::used() - cpu,
    };
    let children = match cell.operation.as_str() {
        "create" => cell.warm_up() + cell.operations,
        _ => 0,
    };
    let delete = |path: String| {
        Request::Delete(PathVersion {
            path: path.into(),
            version: Version::ANY,
        })
    };
    for start in (0..children).step_by(256) {
        let numbers = start..children.min(start + 256);
        raw.ask(numbers.map(|number| delete(format!("{parent}/{number}"))))?;
    }
    raw.ask(std::iter::once(delete(parent.clone())))?;
    raw.ask(std::iter::once(Request::CloseSession))?;
    Ok(taken)
}
