//! Who a connection is.

use std::net::IpAddr;
use std::sync::Arc;

use quorate_proto::Id;

use crate::tree::{Caller, CallerBuf};

/// The identities of a connection at one moment. They only grow; a change makes a new set, so
/// that a request carries those of the moment at which it was read (R14).
pub(crate) struct Identities {
    ids: Vec<Id>,
    /// As it travels in the log, encoded once.
    caller: CallerBuf,
    skip_acl: bool,
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.ids).finish()
    }
}

impl Identities {
    /// What every connection starts with: its address.
    pub(crate) fn of_address(address: IpAddr, skip_acl: bool) -> Arc<Identities> {
        Identities::new(vec![Id::new("ip", address.to_string())], skip_acl)
    }

    fn new(ids: Vec<Id>, skip_acl: bool) -> Arc<Identities> {
        let unrestricted = skip_acl || ids.iter().any(|id| id.scheme == "super");
        let caller = CallerBuf::new(&ids, unrestricted);
        Arc::new(Identities {
            ids,
            caller,
            skip_acl,
        })
    }

    /// With more identities; one that is there already is not added again.
    pub(crate) fn with(&self, more: Vec<Id>) -> Arc<Identities> {
        let mut ids = self.ids.clone();
        for id in more {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Identities::new(ids, self.skip_acl)
    }

    /// Bytes that they add to each write.
    pub(crate) fn encoded_len(&self) -> usize {
        self.caller().as_bytes().len()
    }

    /// All of them.
    pub(crate) fn ids(&self) -> &[Id] {
        &self.ids
    }

    /// For ACL checks.
    pub(crate) fn caller(&self) -> Caller<'_> {
        self.caller.as_caller()
    }

    /// Those that `auth` in an ACL stands for: proven ones. An address is not, and `super` and
    /// `world` are nobody's.
    pub(crate) fn authenticated(&self) -> impl Iterator<Item = &Id> {
        self.ids
            .iter()
            .filter(|id| !matches!(id.scheme.as_str(), "ip" | "ensemble" | "super" | "world"))
    }
}
