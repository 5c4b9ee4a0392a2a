//! Who may do what.

use std::fmt;

/// Permission bits. Unknown bits are kept and returned as given, as ZooKeeper does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Perms(pub i32);

impl Perms {
    /// Read data, list children, see the ACL.
    pub const READ: Perms = Perms(1);
    /// Set data.
    pub const WRITE: Perms = Perms(2);
    /// Create children.
    pub const CREATE: Perms = Perms(4);
    /// Delete children.
    pub const DELETE: Perms = Perms(8);
    /// Set the ACL.
    pub const ADMIN: Perms = Perms(16);
    /// All five.
    pub const ALL: Perms = Perms(31);

    /// Whether any bit of `wanted` is granted.
    #[must_use]
    pub fn intersects(self, wanted: Perms) -> bool {
        self.0 & wanted.0 != 0
    }
}

impl std::ops::BitOr for Perms {
    type Output = Perms;

    fn bitor(self, other: Perms) -> Perms {
        Perms(self.0 | other.0)
    }
}

/// An identity, or a pattern that identities are held against.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Id {
    /// `world`, `auth`, `digest`, `ip`, `sasl`, `x509`…
    pub scheme: String,
    /// What the scheme makes of it.
    pub id: String,
}

impl Id {
    /// An identity of a scheme.
    pub fn new(scheme: impl Into<String>, id: impl Into<String>) -> Id {
        Id {
            scheme: scheme.into(),
            id: id.into(),
        }
    }

    /// `world:anyone`: everybody.
    #[must_use]
    pub fn anyone() -> Id {
        Id::new("world", "anyone")
    }
}

/// Hides what follows the user of a `digest` id: the hash opens offline guessing.
impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id.split_once(':') {
            Some((user, _)) if self.scheme == "digest" => write!(f, "digest:{user}:x"),
            _ => write!(f, "{}:{}", self.scheme, self.id),
        }
    }
}

/// One entry of an access control list.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Acl {
    /// What is granted.
    pub perms: Perms,
    /// To whom.
    pub id: Id,
}

impl Acl {
    /// `world:anyone:cdrwa`.
    #[must_use]
    pub fn open_unsafe() -> Vec<Acl> {
        vec![Acl {
            perms: Perms::ALL,
            id: Id::anyone(),
        }]
    }

    /// `world:anyone:r`.
    #[must_use]
    pub fn read_unsafe() -> Vec<Acl> {
        vec![Acl {
            perms: Perms::READ,
            id: Id::anyone(),
        }]
    }
}
