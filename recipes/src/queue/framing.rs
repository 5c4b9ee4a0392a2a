//! The bytes of an item in Curator's layout.
//!
//! A version, the parts of the item with their lengths, and an end. Behind the end we write how
//! often the item was already given back: Curator's readers stop at the end.

use bytes::{Buf, BufMut, Bytes, BytesMut};

const VERSION: i32 = 0x0001_0001;
const PART: u8 = 1;
const END: u8 = 2;

/// The parts of an item, and how often it was given back.
pub(super) fn encode(parts: &[Bytes], attempts: u32) -> Bytes {
    let len: usize = parts.iter().map(|part| part.len() + 5).sum();
    let mut framed = BytesMut::with_capacity(len + 9);
    framed.put_i32(VERSION);
    for part in parts {
        framed.put_u8(PART);
        // Longer ones are more than the server takes.
        framed.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
        framed.put_slice(part);
    }
    framed.put_u8(END);
    if attempts > 0 {
        framed.put_u32(attempts);
    }
    framed.freeze()
}

/// Reads an item; `None` if it is none.
pub(super) fn decode(mut framed: Bytes) -> Option<(Vec<Bytes>, u32)> {
    if framed.try_get_i32().ok()? != VERSION {
        return None;
    }
    let mut parts = Vec::new();
    loop {
        match framed.try_get_u8().ok()? {
            END => break,
            PART => {}
            _ => return None,
        }
        let len = usize::try_from(framed.try_get_i32().ok()?).ok()?;
        if len > framed.len() {
            return None;
        }
        parts.push(framed.split_to(len));
    }
    let attempts = framed.try_get_u32().unwrap_or(0);
    (!parts.is_empty()).then_some((parts, attempts))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_are_framed_as_curator_frames_them() {
        let parts = [Bytes::from_static(b"a"), Bytes::from_static(b"bc")];
        let framed = b"\x00\x01\x00\x01\x01\x00\x00\x00\x01a\x01\x00\x00\x00\x02bc\x02";
        assert_eq!(&encode(&parts, 0)[..], framed);
        assert_eq!(
            &encode(&parts[..1], 0)[..],
            &b"\0\x01\0\x01\x01\0\0\0\x01a\x02"[..]
        );
        let hello = encode(&[Bytes::from_static(b"hello")], 0);
        assert_eq!(&hello[..], b"\0\x01\0\x01\x01\0\0\0\x05hello\x02");
    }

    #[test]
    fn attempts_stand_behind_the_end() {
        let framed = encode(&[Bytes::from_static(b"a")], 3);
        assert_eq!(&framed[..], b"\0\x01\0\x01\x01\0\0\0\x01a\x02\0\0\0\x03");
        assert_eq!(decode(framed).unwrap().1, 3);
    }

    proptest! {
        #[test]
        fn what_was_framed_is_read_back(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5),
            attempts in 0_u32..9,
        ) {
            let parts: Vec<Bytes> = parts.into_iter().map(Bytes::from).collect();
            prop_assert_eq!(decode(encode(&parts, attempts)), Some((parts, attempts)));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut framed = VERSION.to_be_bytes().to_vec();
            framed.extend(&bytes);
            let _ = decode(bytes.into());
            let _ = decode(framed.into());
        }
    }
}
