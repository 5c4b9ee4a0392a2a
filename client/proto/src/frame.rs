//! Frames: a length of four bytes, then so many bytes. Both directions, handshake included.
//!
//! [`split`] is a pure function over what has arrived. A frame that breaks the limit ends the
//! connection: there is no way to find the next one.

use bytes::{BufMut, BytesMut};

use crate::jute::Writer;

/// Bytes in front of every payload.
pub const PREFIX_LEN: usize = 4;

/// A frame that can be neither read nor written. The connection is of no further use to a reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The declared length is negative or above the limit.
    #[error("frame of {declared} bytes, limit is {limit}")]
    BadLength {
        /// What was read.
        declared: i32,
        /// The largest that is taken (`jute.maxbuffer`).
        limit: usize,
    },
    /// More was written than a length can say: 2 GiB. Nothing of it was kept.
    #[error("a frame cannot hold what was written into it")]
    TooLarge,
}

/// The payload of the first frame in `buf`, and how many bytes frame and prefix take.
///
/// `None` as long as the frame is not complete. An empty payload is a frame, though no record
/// fits into it.
///
/// # Errors
/// `BadLength` for a negative length or one above `limit`; exactly `limit` is taken. It is
/// reported as soon as the prefix is there.
pub fn split(buf: &[u8], limit: usize) -> Result<Option<(&[u8], usize)>, FrameError> {
    let Some((prefix, rest)) = buf.split_first_chunk::<PREFIX_LEN>() else {
        return Ok(None);
    };
    let declared = i32::from_be_bytes(*prefix);
    let len = usize::try_from(declared)
        .ok()
        .filter(|&len| len <= limit)
        .ok_or(FrameError::BadLength { declared, limit })?;
    Ok(rest.get(..len).map(|payload| (payload, PREFIX_LEN + len)))
}

/// Appends a whole frame to `out`, its payload written by `payload`.
///
/// # Errors
/// `TooLarge` if the payload, or a field of it, is longer than its length prefix can say; `out`
/// is then as before.
pub fn write(out: &mut BytesMut, payload: impl FnOnce(&mut Writer<'_>)) -> Result<(), FrameError> {
    let start = out.len();
    out.put_i32(0);
    let mut writer = Writer::new(out);
    payload(&mut writer);
    let overflowed = writer.overflowed();
    let len = i32::try_from(out.len() - start - PREFIX_LEN).ok();
    let slot = out
        .get_mut(start..)
        .and_then(|frame| frame.first_chunk_mut::<PREFIX_LEN>());
    match (len, slot) {
        (Some(len), Some(slot)) if !overflowed => {
            *slot = len.to_be_bytes();
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(FrameError::TooLarge)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FRAME_BYTES_MAX_DEFAULT as LIMIT;

    #[test]
    fn an_incomplete_frame_is_waited_for() {
        let whole = b"\0\0\0\x02ab";
        for end in 0..whole.len() {
            assert_eq!(split(&whole[..end], LIMIT), Ok(None));
        }
        assert_eq!(split(whole, LIMIT), Ok(Some((&b"ab"[..], 6))));
    }

    #[test]
    fn the_next_frame_stays_in_the_buffer() {
        assert_eq!(
            split(b"\0\0\0\x01a\0\0\0\x01b", LIMIT),
            Ok(Some((&b"a"[..], 5)))
        );
    }

    #[test]
    fn the_limit_itself_is_taken_and_one_more_is_not() {
        assert_eq!(split(&0xfffff_i32.to_be_bytes(), LIMIT), Ok(None));
        for declared in [0x10_0000, -1, i32::MAX, i32::MIN] {
            assert_eq!(
                split(&declared.to_be_bytes(), LIMIT),
                Err(FrameError::BadLength {
                    declared,
                    limit: LIMIT
                })
            );
        }
    }

    #[test]
    fn an_empty_frame_is_a_frame() {
        assert_eq!(split(&[0; 4], LIMIT), Ok(Some((&b""[..], 4))));
    }

    #[test]
    fn a_frame_is_appended_behind_what_is_there() {
        let mut out = BytesMut::from(&b"x"[..]);
        write(&mut out, |w| w.i32(7)).unwrap();
        assert_eq!(&out[..], b"x\0\0\0\x04\0\0\0\x07");
    }
}
