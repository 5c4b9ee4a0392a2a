//! Who asks: the identities of a connection at the moment a frame was read, and what they may do.
//!
//! They travel inside each write as bytes that are made once per connection and read only where
//! an ACL asks for more than `world:anyone`.

// From `core`: an address is plain data, and nothing of `std::net` belongs here.
use core::net::IpAddr;

use bytes::Bytes;
use quorate_proto::{Acl, Id, Perms};

const UNRESTRICTED: u8 = 1;

/// A connection's identities, encoded.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct CallerBuf(Bytes);

impl CallerBuf {
    /// Encodes identities. `unrestricted` switches every check off, as `skipACL` does.
    pub(crate) fn new(ids: &[Id], unrestricted: bool) -> CallerBuf {
        let mut out = vec![if unrestricted { UNRESTRICTED } else { 0 }];
        for id in ids {
            for text in [&id.scheme, &id.id] {
                let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&len.to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
        CallerBuf(out.into())
    }

    /// A view of them.
    pub(crate) fn as_caller(&self) -> Caller<'_> {
        Caller(&self.0)
    }
}

/// A connection's identities, borrowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller<'a>(&'a [u8]);

/// Shows identities, but no digests: `Id` hides them.
impl std::fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.ids().map(|(scheme, id)| Id::new(scheme, id)))
            .finish()
    }
}

impl<'a> Caller<'a> {
    /// What [`Caller::as_bytes`] gave. Bytes that are no encoding mean fewer identities.
    pub(crate) fn from_bytes(bytes: &'a [u8]) -> Caller<'a> {
        Caller(bytes)
    }

    /// The encoding.
    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Whether every check passes.
    pub(crate) fn is_unrestricted(&self) -> bool {
        self.0
            .first()
            .is_some_and(|flags| flags & UNRESTRICTED != 0)
    }

    /// The identities: scheme and id.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = self.0.get(1..).unwrap_or_default();
        std::iter::from_fn(move || {
            let scheme = take_text(&mut rest)?;
            Some((scheme, take_text(&mut rest)?))
        })
    }

    /// Whether the list grants any bit of `perms` to one of the identities.
    ///
    /// An empty list restricts nothing: such znodes come from very old snapshots.
    ///
    /// Source: ZooKeeper, `ZooKeeperServer.checkACL`.
    pub(crate) fn allows(&self, acl: &[Acl], perms: Perms) -> bool {
        acl.is_empty()
            || acl.iter().any(|entry| {
                entry.perms.intersects(perms)
                    && ((entry.id.scheme == "world" && entry.id.id == "anyone")
                        || self.ids().any(|(scheme, id)| {
                            scheme == entry.id.scheme && matches(scheme, id, &entry.id.id)
                        }))
            })
            || self.is_unrestricted()
            || self.ids().any(|(scheme, _)| scheme == "super")
    }
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (len, behind) = rest.split_first_chunk()?;
    let (text, behind) = behind.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    *rest = behind;
    std::str::from_utf8(text).ok()
}

fn matches(scheme: &str, id: &str, pattern: &str) -> bool {
    match scheme {
        "ip" => matches_address(id, pattern),
        "sasl" => id == "super" || id == pattern,
        _ => id == pattern,
    }
}

/// Whether an address lies in `address[/bits]`, within one family.
fn matches_address(id: &str, pattern: &str) -> bool {
    let (base, bits) = match pattern.split_once('/') {
        Some((base, bits)) => (base, Some(bits)),
        None => (pattern, None),
    };
    let (Ok(address), Ok(base)) = (id.parse(), base.parse()) else {
        return false;
    };
    let (address, base, width) = match (address, base) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    let Some(bits) = bits.map_or(Some(width), |bits| {
        bits.parse::<u32>().ok().filter(|&bits| bits <= width)
    }) else {
        return false;
    };
    // No bits: the shift would be as wide as the number, and everything matches.
    (address ^ base).checked_shr(width - bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(perms: Perms, scheme: &str, id: &str) -> Acl {
        Acl {
            perms,
            id: Id::new(scheme, id),
        }
    }

    fn caller(ids: &[(&str, &str)]) -> CallerBuf {
        let ids: Vec<Id> = ids
            .iter()
            .map(|&(scheme, id)| Id::new(scheme, id))
            .collect();
        CallerBuf::new(&ids, false)
    }

    fn allowed(ids: &[(&str, &str)], acl: &[Acl], perms: Perms) -> bool {
        caller(ids).as_caller().allows(acl, perms)
    }

    #[test]
    fn identities_survive_their_encoding() {
        let buf = caller(&[("ip", "127.0.0.1"), ("digest", "bob:é"), ("super", "")]);
        let ids: Vec<_> = buf.as_caller().ids().collect();
        assert_eq!(
            ids,
            [("ip", "127.0.0.1"), ("digest", "bob:é"), ("super", "")]
        );
    }

    #[test]
    fn cut_bytes_are_fewer_identities() {
        let buf = caller(&[("a", "b"), ("c", "d")]);
        for len in 0..buf.0.len() {
            let cut = Caller::from_bytes(&buf.0[..len]);
            assert!(cut.ids().count() < 2);
        }
        assert_eq!(
            Caller::from_bytes(&[0, 255, 255, 255, 255, 1])
                .ids()
                .count(),
            0
        );
    }

    #[test]
    fn anyone_is_everybody_within_the_bits_granted() {
        let acl = [entry(Perms::READ, "world", "anyone")];
        assert!(allowed(&[], &acl, Perms::READ));
        assert!(allowed(&[], &acl, Perms::READ | Perms::ADMIN));
        assert!(!allowed(&[], &acl, Perms::WRITE));
    }

    #[test]
    fn an_empty_list_is_open() {
        assert!(allowed(&[], &[], Perms::ADMIN));
    }

    #[test]
    fn digests_match_exactly() {
        let acl = [entry(Perms::ALL, "digest", "bob:x")];
        assert!(allowed(&[("digest", "bob:x")], &acl, Perms::WRITE));
        assert!(!allowed(&[("digest", "bob:y")], &acl, Perms::WRITE));
        assert!(!allowed(&[("sasl", "bob:x")], &acl, Perms::WRITE));
    }

    #[test]
    fn super_and_unrestricted_pass_everything() {
        let acl = [entry(Perms::READ, "digest", "bob:x")];
        assert!(allowed(&[("super", "")], &acl, Perms::WRITE));
        assert!(
            CallerBuf::new(&[], true)
                .as_caller()
                .allows(&acl, Perms::WRITE)
        );
        assert!(!allowed(&[("digest", "super")], &acl, Perms::WRITE));
    }

    #[test]
    fn the_sasl_super_matches_sasl_entries_only() {
        let sasl = [entry(Perms::READ, "sasl", "bob")];
        assert!(allowed(&[("sasl", "super")], &sasl, Perms::READ));
        assert!(!allowed(&[("sasl", "super")], &sasl, Perms::WRITE));
        let digest = [entry(Perms::READ, "digest", "bob:x")];
        assert!(!allowed(&[("sasl", "super")], &digest, Perms::READ));
    }

    #[test]
    fn addresses_match_by_prefix_within_their_family() {
        for (id, pattern, expected) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("127.1.2.3", "127.0.0.0/8", true),
            ("128.1.2.3", "127.0.0.0/8", false),
            ("10.1.2.3", "0.0.0.0/0", true),
            ("10.1.2.3", "10.1.2.3/33", false),
            ("10.1.2.3", "10.1.2.3/x", false),
            ("::1", "::1", true),
            ("::1", "::/0", true),
            ("fe80::1", "fe80::/10", true),
            ("::1", "0.0.0.0/0", false),
            ("127.0.0.1", "::/0", false),
            ("nonsense", "0.0.0.0/0", false),
        ] {
            assert_eq!(matches_address(id, pattern), expected, "{id} in {pattern}");
        }
    }
}
