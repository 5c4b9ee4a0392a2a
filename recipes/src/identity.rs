//! Random names, as the anchors write them: one for each attempt, so that what an attempt has made
//! can be told from everything else.

use std::fmt::Write as _;

/// 32 hexadecimal digits: kazoo's `uuid4().hex`.
pub(crate) fn hex32() -> String {
    let bytes = random();
    let mut hex = String::with_capacity(32);
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// The same 32 digits in five groups: Java's `UUID.randomUUID()`.
pub(crate) fn uuid() -> String {
    let hex = hex32();
    let mut uuid = String::with_capacity(36);
    for (at, digit) in hex.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            uuid.push('-');
        }
        uuid.push(digit);
    }
    uuid
}

/// A random UUID's bytes: version 4, variant 1 (RFC 9562, section 5.4).
fn random() -> [u8; 16] {
    let mut bits: u128 = rand::random();
    bits &= !(0xf << 76) & !(0x3 << 62);
    bits |= (0x4 << 76) | (0x2 << 62);
    bits.to_be_bytes()
}

/// Whether these are 32 lower-case hexadecimal digits.
pub(crate) fn is_hex32(text: &str) -> bool {
    text.len() == 32
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_random_uuids_of_version_four() {
        let (one, two) = (uuid(), uuid());
        assert_ne!(one, two);
        for uuid in [one, two] {
            let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12], "{uuid}");
            assert_eq!(uuid.as_bytes()[14], b'4', "{uuid}");
            assert!(b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
        }
        assert!(is_hex32(&hex32()));
        assert!(!is_hex32(&uuid()));
    }
}
