//! The identity that scheme `digest` gives to `user:password`. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::Digest as _;

use super::DigestAlgorithm;

/// `user:base64(hash(user:password))`, as it stands in an ACL and in `superDigest`.
///
/// Without a colon the whole text is the user, with no password.
///
/// Source: ZooKeeper, `DigestAuthenticationProvider.generateDigest`.
#[must_use]
pub fn digest_identity(user_password: &str, algorithm: DigestAlgorithm) -> String {
    let user = user_password
        .split_once(':')
        .map_or(user_password, |(user, _)| user);
    let bytes = user_password.as_bytes();
    let hash = match algorithm {
        DigestAlgorithm::Sha1 => STANDARD.encode(sha1::Sha1::digest(bytes)),
        DigestAlgorithm::Sha256 => STANDARD.encode(sha2::Sha256::digest(bytes)),
        DigestAlgorithm::Sha512 => STANDARD.encode(sha2::Sha512::digest(bytes)),
    };
    format!("{user}:{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of ZooKeeper's administration guide.
    #[test]
    fn sha1_is_zookeepers_default() {
        assert_eq!(
            digest_identity("super:secret", DigestAlgorithm::Sha1)
                .split(':')
                .next(),
            Some("super")
        );
        assert_eq!(
            digest_identity("super:test", DigestAlgorithm::Sha1),
            "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
        );
    }

    #[test]
    fn algorithms_differ_in_length() {
        assert_eq!(
            digest_identity("a:b", DigestAlgorithm::Sha256).len(),
            2 + 44
        );
        assert_eq!(
            digest_identity("a:b", DigestAlgorithm::Sha512).len(),
            2 + 88
        );
    }
}
