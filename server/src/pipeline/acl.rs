//! The ACL fix-up: from the list that a client sent to the one that is stored.
//!
//! It is done where the request was read, with the identities of that moment and the providers of
//! that server; the result travels (R14). Source: ZooKeeper's `PrepRequestProcessor.fixupACL`.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;

use quorate_proto::{Acl, AclRef, ErrorCode, Id, Perms};

use super::auth::AuthRules;
use crate::sessions::Identities;
use crate::tree::open_acl;

/// What `auth` entries of one request may become, in bytes. A multi may hold thousands of them,
/// and each stands for all identities of its caller: a small request would fill the memory, and
/// be larger than an entry of the log can be.
const EXPANDED_BYTES_MAX: usize = 16 << 20;

/// The fix-up for one request, with all its operations.
pub(super) struct FixUp<'a> {
    identities: &'a Identities,
    rules: &'a AuthRules,
    room: Cell<usize>,
}

impl<'a> FixUp<'a> {
    pub(super) fn new(identities: &'a Identities, rules: &'a AuthRules) -> FixUp<'a> {
        FixUp {
            identities,
            rules,
            room: Cell::new(EXPANDED_BYTES_MAX),
        }
    }

    /// The list to store, or the code that refuses it.
    pub(super) fn list(
        &self,
        list: Option<&[AclRef<'_>]>,
    ) -> Result<Cow<'static, [Acl]>, ErrorCode> {
        if list.is_some_and(is_open) {
            return Ok(Cow::Borrowed(open_acl()));
        }
        let rules = self.rules;
        let mut fixed: Vec<Acl> = Vec::new();
        let mut seen = HashSet::new();
        let list = list.unwrap_or_default();
        for entry in list {
            let (scheme, id) = (entry.scheme.as_deref(), entry.id.as_deref());
            if list.len() > 1 && !seen.insert((entry.perms.0, scheme, id)) {
                continue;
            }
            let scheme = scheme.ok_or(ErrorCode::InvalidAcl)?;
            if scheme == "auth" {
                // Its id is ignored, and kazoo sends null.
                let before = fixed.len();
                for id in self.identities.authenticated() {
                    self.take_room(id)?;
                    fixed.push(Acl {
                        perms: entry.perms,
                        id: id.clone(),
                    });
                }
                if fixed.len() == before {
                    return Err(ErrorCode::InvalidAcl);
                }
                continue;
            }
            let valid = match (scheme, id) {
                ("world", Some(id)) => id == "anyone",
                (_, Some(id)) => rules.is_valid_acl_id(scheme, id).unwrap_or(false),
                // A null id trips ZooKeeper's providers; a scheme without one never gets that
                // far.
                ("world", None) => return Err(ErrorCode::MarshallingError),
                (_, None) if rules.is_valid_acl_id(scheme, "").is_some() => {
                    return Err(ErrorCode::MarshallingError);
                }
                (_, None) => false,
            };
            if !valid {
                return Err(ErrorCode::InvalidAcl);
            }
            fixed.push(Acl {
                perms: entry.perms,
                id: Id::new(scheme, id.unwrap_or_default()),
            });
        }
        if fixed.is_empty() {
            Err(ErrorCode::InvalidAcl)
        } else {
            Ok(Cow::Owned(fixed))
        }
    }

    fn take_room(&self, id: &Id) -> Result<(), ErrorCode> {
        let bytes = size_of::<Acl>() + id.scheme.len() + id.id.len();
        let left = self.room.get().checked_sub(bytes);
        self.room.set(left.ok_or(ErrorCode::InvalidAcl)?);
        Ok(())
    }
}

/// `world:anyone:cdrwa` alone: what most requests carry, and nothing to fix.
fn is_open(list: &[AclRef<'_>]) -> bool {
    matches!(list, [only] if only.perms == Perms::ALL
        && only.scheme.as_deref() == Some("world")
        && only.id.as_deref() == Some("anyone"))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;

    fn entry<'a>(perms: i32, scheme: Option<&'a str>, id: Option<&'a str>) -> AclRef<'a> {
        AclRef {
            perms: Perms(perms),
            scheme: scheme.map(Into::into),
            id: id.map(Into::into),
        }
    }

    fn anonymous() -> Arc<Identities> {
        Identities::of_address(IpAddr::V4(Ipv4Addr::LOCALHOST), false)
    }

    fn fixed(list: &[AclRef<'_>], identities: &Identities) -> Result<Vec<String>, ErrorCode> {
        let rules = AuthRules::new(&Config::default());
        let fixed = FixUp::new(identities, &rules).list(Some(list))?;
        Ok(fixed
            .iter()
            .map(|a| format!("{}:{}:{}", a.id.scheme, a.id.id, a.perms.0))
            .collect())
    }

    #[test]
    fn null_and_empty_lists_are_invalid() {
        let (rules, anonymous) = (AuthRules::new(&Config::default()), anonymous());
        let fix_up = FixUp::new(&anonymous, &rules);
        for list in [None, Some(&[][..])] {
            assert_eq!(fix_up.list(list), Err(ErrorCode::InvalidAcl));
        }
    }

    #[test]
    fn all_lists_of_a_request_share_what_auth_may_become() {
        let rules = AuthRules::new(&Config::default());
        let user = "u".repeat(60_000);
        let known = anonymous().with(vec![Id::new("digest", format!("{user}:x"))]);
        let list = [entry(31, Some("auth"), None)];
        let fix_up = FixUp::new(&known, &rules);
        let passed = (0..1000).take_while(|_| fix_up.list(Some(&list)).is_ok());
        assert_eq!(passed.count(), EXPANDED_BYTES_MAX / 60_000);
        assert!(
            FixUp::new(&known, &rules).list(Some(&list)).is_ok(),
            "the next request has its own"
        );
    }

    #[test]
    fn the_open_list_is_not_copied_and_one_like_it_is_not_taken_for_it() {
        let (rules, anonymous) = (AuthRules::new(&Config::default()), anonymous());
        let fix_up = FixUp::new(&anonymous, &rules);
        let list = |perms| {
            let list = [entry(perms, Some("world"), Some("anyone"))];
            fix_up.list(Some(&list)).unwrap()
        };
        assert!(matches!(list(31), Cow::Borrowed(_)));
        assert_eq!(*list(31), *Acl::open_unsafe());
        assert_eq!(list(1)[0].perms, Perms(1));
    }

    #[test]
    fn exact_duplicates_go_and_order_stays() {
        let any = entry(31, Some("world"), Some("anyone"));
        let ip = entry(1, Some("ip"), Some("127.0.0.1"));
        let list = [ip.clone(), any.clone(), ip, any];
        let expected = vec!["ip:127.0.0.1:1".to_owned(), "world:anyone:31".to_owned()];
        assert_eq!(fixed(&list, &anonymous()), Ok(expected));
    }

    #[test]
    fn auth_stands_for_every_proven_identity_and_for_none_is_invalid() {
        let auth = entry(31, Some("auth"), None);
        assert_eq!(
            fixed(std::slice::from_ref(&auth), &anonymous()),
            Err(ErrorCode::InvalidAcl)
        );
        let two = anonymous().with(vec![
            Id::new("super", ""),
            Id::new("digest", "a:x"),
            Id::new("digest", "b:y"),
        ]);
        let expected = vec!["digest:a:x:31".to_owned(), "digest:b:y:31".to_owned()];
        assert_eq!(fixed(&[auth], &two), Ok(expected));
    }

    #[test]
    fn perms_are_kept_whatever_their_bits() {
        let odd = entry(-1, Some("world"), Some("anyone"));
        assert_eq!(
            fixed(&[odd], &anonymous()),
            Ok(vec!["world:anyone:-1".to_owned()])
        );
    }

    #[test]
    fn bad_entries_have_zookeepers_codes() {
        for (scheme, id, code) in [
            (Some("world"), Some("me"), ErrorCode::InvalidAcl),
            (Some("world"), None, ErrorCode::MarshallingError),
            (None, Some("x"), ErrorCode::InvalidAcl),
            (Some("super"), Some(""), ErrorCode::InvalidAcl),
            (Some("sasl"), Some("bob"), ErrorCode::InvalidAcl),
            (Some("digest"), Some("foo"), ErrorCode::InvalidAcl),
            (Some("digest"), None, ErrorCode::MarshallingError),
            (Some("nosuch"), None, ErrorCode::InvalidAcl),
        ] {
            let refused = fixed(&[entry(1, scheme, id)], &anonymous());
            assert_eq!(refused, Err(code), "{scheme:?} {id:?}");
        }
    }
}
