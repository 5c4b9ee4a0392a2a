//! Requests that are encoded once.
//!
//! A run sends millions of requests that differ in their xid and in a few digits of a path. So
//! the frame is built once, with `#` where the digits go, and each use copies it and patches.

use bytes::BytesMut;
use quorate_proto::{Request, Xid};

use super::error::BenchError;

/// Where the xid stands in a frame: behind its length.
const XID_AT: std::ops::Range<usize> = 4..8;

/// Fewer `#` than this in a row stand for themselves.
const RUN_MIN: usize = 4;

/// A request frame with places for numbers.
#[derive(Clone, Debug)]
pub(super) struct Template {
    frame: Vec<u8>,
    places: Vec<std::ops::Range<usize>>,
}

impl Template {
    /// Encodes `request`; every run of four or more `#` in it becomes a place for a number.
    pub(super) fn new(request: &Request<'_>) -> Result<Template, BenchError> {
        let mut frame = BytesMut::new();
        request.write_frame(&mut frame, Xid(0))?;
        let frame = frame.to_vec();
        let mut places = Vec::new();
        let mut at = 0;
        for run in frame.chunk_by(|a, b| (*a == b'#') == (*b == b'#')) {
            if run.first() == Some(&b'#') && run.len() >= RUN_MIN {
                places.push(at..at + run.len());
            }
            at += run.len();
        }
        Ok(Template { frame, places })
    }

    /// Appends the frame with this xid, and `numbers` in its places, in their order.
    ///
    /// A number with too many digits loses its first ones; missing numbers are 0.
    pub(super) fn write(&self, out: &mut Vec<u8>, xid: i32, numbers: &[u64]) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let Some(frame) = out.get_mut(start..) else {
            return;
        };
        if let Some(slot) = frame.get_mut(XID_AT) {
            slot.copy_from_slice(&xid.to_be_bytes());
        }
        let numbers = numbers.iter().copied().chain(std::iter::repeat(0));
        for (place, mut number) in self.places.iter().zip(numbers) {
            for digit in frame.get_mut(place.clone()).into_iter().flatten().rev() {
                *digit = b"0123456789"
                    .get(usize::try_from(number % 10).unwrap_or(0))
                    .copied()
                    .unwrap_or(b'0');
                number /= 10;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto::frame;
    use quorate_proto::request::PathWatch;
    use quorate_proto::{OpCode, RequestHeader};

    use super::*;

    fn path_of(frame_bytes: &[u8]) -> (i32, String) {
        let (payload, used) = frame::split(frame_bytes, 1 << 20).unwrap().unwrap();
        assert_eq!(used, frame_bytes.len());
        let (header, body) = RequestHeader::decode(payload).unwrap();
        match Request::decode(OpCode::from_code(header.op).unwrap(), body).unwrap() {
            Request::GetData(PathWatch { path, .. }) => (header.xid.0, path.into_owned()),
            other => panic!("{other:?}"),
        }
    }

    fn get(path: &str) -> Template {
        Template::new(&Request::GetData(PathWatch {
            path: path.into(),
            watch: false,
        }))
        .unwrap()
    }

    #[test]
    fn every_use_has_its_own_xid_and_numbers() {
        let template = get("/a####/b######");
        let mut out = Vec::new();
        template.write(&mut out, 7, &[12, 345_678]);
        assert_eq!(path_of(&out), (7, "/a0012/b345678".to_owned()));
        out.clear();
        template.write(&mut out, -2, &[0]);
        assert_eq!(path_of(&out), (-2, "/a0000/b000000".to_owned()));
    }

    #[test]
    fn a_short_run_stands_for_itself() {
        let mut out = Vec::new();
        get("/a###").write(&mut out, 1, &[5]);
        assert_eq!(path_of(&out).1, "/a###");
    }

    #[test]
    fn a_number_that_is_too_long_loses_its_first_digits() {
        let mut out = Vec::new();
        get("/####").write(&mut out, 1, &[123_456]);
        assert_eq!(path_of(&out).1, "/3456");
    }
}
