//! Session passwords. Any server can check one, because it follows from the id.

use sha2::{Digest, Sha256};

use quorate_proto::SessionId;
use quorate_proto::limits::QUORATE_MARK;

/// The mark, and ten bytes of a MAC of the id under the cluster's key.
pub(super) fn own(key: &[u8; 32], session: SessionId) -> [u8; 16] {
    let mac = hmac_sha256(key, &session.0.to_be_bytes());
    let mut password = [0; 16];
    for (to, from) in password.iter_mut().zip(QUORATE_MARK.iter().chain(&mac)) {
        *to = *from;
    }
    password
}

/// What ZooKeeper gave to a session with this id: 16 bytes of `java.util.Random`.
pub(super) fn of_zookeeper(session: SessionId) -> [u8; 16] {
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut seed = ((session.0 ^ 0xB341_5C00).cast_unsigned() ^ MULTIPLIER) & MASK;
    let mut password = [0; 16];
    for word in password.as_chunks_mut::<4>().0 {
        seed = seed.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        let [a, b, c, d, ..] = (seed >> 16).to_le_bytes();
        *word = [a, b, c, d];
    }
    password
}

/// Compares without telling, by its time, how much was right.
pub(super) fn equal(expected: &[u8; 16], given: &[u8]) -> bool {
    given.len() == expected.len()
        && expected
            .iter()
            .zip(given)
            .fold(0, |differences, (a, b)| differences | (a ^ b))
            == 0
}

/// RFC 2104, for a key that is shorter than a block.
fn hmac_sha256(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let block = |pad: u8| {
        let mut block = [pad; 64];
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
        block
    };
    let inner = Sha256::new()
        .chain_update(block(0x36))
        .chain_update(message)
        .finalize();
    Sha256::new()
        .chain_update(block(0x5C))
        .chain_update(inner)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A key of 32 bytes and a message, computed with Python's `hmac`.
    #[test]
    fn the_mac_is_hmac_sha256() {
        let key = std::array::from_fn(|at| u8::try_from(at).unwrap());
        assert_eq!(
            hex(&hmac_sha256(&key, b"what do ya want for nothing?")),
            "099805f4ac310786968565c098db515cc50862b420ae31e20238312344bed36a"
        );
    }

    #[test]
    fn our_passwords_start_with_the_mark_and_differ_by_session_and_key() {
        let first = own(&[1; 32], SessionId(7));
        assert_eq!(&first[..6], b"QUORA\x01");
        assert_ne!(first, own(&[1; 32], SessionId(8)));
        assert_ne!(first, own(&[2; 32], SessionId(7)));
    }

    /// Computed with `java.util.Random` semantics from a real server's session id.
    #[test]
    fn zookeepers_passwords_follow_its_rule() {
        assert_eq!(
            hex(&of_zookeeper(SessionId(0x0100_0013_3849_0024))),
            "0c1b8246a5eda58d7f59057ca2fc7ed1"
        );
    }

    #[test]
    fn only_the_whole_password_is_right() {
        let password = own(&[1; 32], SessionId(7));
        assert!(equal(&password, &password));
        assert!(!equal(&password, &password[..15]));
        assert!(!equal(&password, &[]));
        let mut wrong = password;
        wrong[15] ^= 1;
        assert!(!equal(&password, &wrong));
    }
}
