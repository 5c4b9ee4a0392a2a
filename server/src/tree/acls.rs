//! Access control lists, each stored once.
//!
//! Nearly all znodes of a tree share a handful of lists. A list lives as long as a znode, a
//! reader or a capture has it; lists that nothing has are swept out when the table has doubled.

use std::sync::{Arc, LazyLock};

use hashbrown::HashSet;
use quorate_proto::Acl;

/// One stored list.
pub(super) type AclList = Arc<Box<[Acl]>>;

/// `world:anyone:cdrwa`, which stands in most requests: it is recognised before it is copied.
pub(super) static OPEN: LazyLock<AclList> =
    LazyLock::new(|| Arc::new(Acl::open_unsafe().into_boxed_slice()));

/// The list of [`OPEN`].
pub(crate) fn open_acl() -> &'static [Acl] {
    &OPEN
}

/// Never swept below this many lists.
const SWEEP_AT: usize = 256;

#[derive(Debug)]
pub(super) struct Acls {
    lists: HashSet<AclList>,
    sweep_at: usize,
}

impl Default for Acls {
    fn default() -> Acls {
        Acls {
            lists: HashSet::new(),
            sweep_at: SWEEP_AT,
        }
    }
}

impl Acls {
    /// The stored list that equals this one.
    pub(super) fn intern(&mut self, acl: &[Acl]) -> AclList {
        if acl == &***OPEN {
            return OPEN.clone();
        }
        if self.lists.len() >= self.sweep_at {
            self.lists.retain(|list| Arc::strong_count(list) > 1);
            self.sweep_at = SWEEP_AT.max(self.lists.len() * 2);
        }
        let key: AclList = Arc::new(acl.into());
        self.lists.get_or_insert(key).clone()
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto::{Id, Perms};

    use super::*;

    fn list(user: usize) -> Vec<Acl> {
        vec![Acl {
            perms: Perms::ALL,
            id: Id::new("digest", format!("u{user}:x")),
        }]
    }

    #[test]
    fn equal_lists_are_stored_once() {
        let mut acls = Acls::default();
        let first = acls.intern(&list(1));
        assert!(Arc::ptr_eq(&first, &acls.intern(&list(1))));
        assert!(!Arc::ptr_eq(&first, &acls.intern(&list(2))));
    }

    #[test]
    fn lists_that_nothing_has_do_not_pile_up() {
        let mut acls = Acls::default();
        let kept = acls.intern(&list(0));
        for user in 1..10_000 {
            acls.intern(&list(user));
        }
        assert!(acls.lists.len() <= SWEEP_AT);
        assert!(Arc::ptr_eq(&kept, &acls.intern(&list(0))));
    }
}
