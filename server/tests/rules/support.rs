//! Requests, and what is asked of replies, in the words of the tests.

use quorate_proto::multi::{MultiOp, MultiReadOp};
use quorate_proto::request::{Create, PathVersion, PathWatch, SetData};
use quorate_proto::{AclRef, CreateMode, Perms, Request, Version, Xid, Zxid};
use quorate_server::testing::wire::{Frame, Response, WireClient};

pub(crate) fn open_create<'a>(path: &'a str, data: &'a [u8], mode: CreateMode) -> Create<'a> {
    Create {
        path: path.into(),
        data: Some(data),
        acl: Some(vec![AclRef {
            perms: Perms::ALL,
            scheme: Some("world".into()),
            id: Some("anyone".into()),
        }]),
        flags: mode.flags(),
    }
}

pub(crate) fn create(path: &str, mode: CreateMode) -> Request<'_> {
    Request::Create(open_create(path, b"", mode))
}

pub(crate) fn create_op(path: &str, mode: CreateMode) -> MultiOp<'_> {
    MultiOp::Create(open_create(path, b"", mode))
}

fn watched(path: &str, watch: bool) -> PathWatch<'_> {
    PathWatch {
        path: path.into(),
        watch,
    }
}

pub(crate) fn get(path: &str, watch: bool) -> Request<'_> {
    Request::GetData(watched(path, watch))
}

pub(crate) fn read_op(path: &str) -> MultiReadOp<'_> {
    MultiReadOp::GetData(watched(path, false))
}

fn setting<'a>(path: &'a str, data: &'a [u8]) -> SetData<'a> {
    SetData {
        path: path.into(),
        data: Some(data),
        version: Version(-1),
    }
}

pub(crate) fn set<'a>(path: &'a str, data: &'a [u8]) -> Request<'a> {
    Request::SetData(setting(path, data))
}

pub(crate) fn set_op<'a>(path: &'a str, data: &'a [u8]) -> MultiOp<'a> {
    MultiOp::SetData(setting(path, data))
}

fn deleting(path: &str) -> PathVersion<'_> {
    PathVersion {
        path: path.into(),
        version: Version(-1),
    }
}

pub(crate) fn delete(path: &str) -> Request<'_> {
    Request::Delete(deleting(path))
}

pub(crate) fn delete_op(path: &str) -> MultiOp<'_> {
    MultiOp::Delete(deleting(path))
}

/// The next reply, which must be to `xid`.
pub(crate) async fn reply_to(client: &mut WireClient, xid: Xid) -> Response {
    let response = client.reply().await;
    assert_eq!(response.header.xid, xid, "replies are out of order");
    response
}

/// The number in a znode that tests count in.
pub(crate) fn number(data: Option<Vec<u8>>) -> u64 {
    String::from_utf8(data.unwrap()).unwrap().parse().unwrap()
}

/// Frames until the connection ends.
pub(crate) async fn rest(client: &mut WireClient) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(frame) = client.next().await {
        frames.push(frame);
    }
    frames
}

/// Follows the zxids that one connection is told: they never fall (R4).
pub(crate) struct Told(Zxid);

impl Told {
    pub(crate) fn nothing() -> Told {
        Told(Zxid::ZERO)
    }

    pub(crate) fn hears(&mut self, zxid: Zxid) {
        assert!(zxid >= self.0, "told {zxid} after {}", self.0);
        self.0 = zxid;
    }
}
