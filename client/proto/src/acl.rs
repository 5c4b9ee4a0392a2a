//! Who may do what.

use std::borrow::Cow;
use std::fmt;

use crate::jute::{DecodeError, Reader, Writer};

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
        write_masked(f, &self.scheme, &self.id)
    }
}

fn write_masked(f: &mut fmt::Formatter<'_>, scheme: &str, id: &str) -> fmt::Result {
    match id.split_once(':') {
        Some((user, _)) if scheme == "digest" => write!(f, "digest:{user}:x"),
        _ => write!(f, "{scheme}:{id}"),
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

    /// Writes one entry.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.i32(self.perms.0);
        writer.string(&self.id.scheme);
        writer.string(&self.id.id);
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

/// One entry of an access control list as it came over the wire.
///
/// Null is legal for the id of scheme `auth` (kazoo sends it), and has its own code elsewhere.
#[derive(Clone, PartialEq, Eq)]
pub struct AclRef<'a> {
    /// What is granted.
    pub perms: Perms,
    /// The scheme of whom it is granted to.
    pub scheme: Option<Cow<'a, str>>,
    /// What the scheme makes of it.
    pub id: Option<Cow<'a, str>>,
}

impl<'a> AclRef<'a> {
    /// What the smallest entry takes on the wire.
    const ENCODED_LEN_MIN: usize = 12;

    /// Reads one entry.
    ///
    /// # Errors
    /// `Truncated` or `BadLength`.
    pub fn read(reader: &mut Reader<'a>) -> Result<AclRef<'a>, DecodeError> {
        Ok(AclRef {
            perms: Perms(reader.i32("perms")?),
            scheme: reader.string("scheme")?,
            id: reader.string("id")?,
        })
    }

    /// Reads a whole list, or null.
    ///
    /// # Errors
    /// As for [`Reader::vector`].
    pub fn read_list(reader: &mut Reader<'a>) -> Result<Option<Vec<AclRef<'a>>>, DecodeError> {
        reader.vector("acl", AclRef::ENCODED_LEN_MIN, AclRef::read)
    }

    /// Writes one entry.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.i32(self.perms.0);
        writer.optional_string(self.scheme.as_deref());
        writer.optional_string(self.id.as_deref());
    }

    /// Writes a whole list, or null.
    pub fn encode_list(list: Option<&[AclRef<'_>]>, writer: &mut Writer<'_>) {
        match list {
            None => writer.i32(-1),
            Some(entries) => writer.vector(entries, |writer, entry| entry.encode(writer)),
        }
    }

    /// The entry if neither of its strings is null.
    #[must_use]
    pub fn to_acl(&self) -> Option<Acl> {
        Some(Acl {
            perms: self.perms,
            id: Id::new(self.scheme.as_deref()?, self.id.as_deref()?),
        })
    }
}

impl<'a> From<&'a Acl> for AclRef<'a> {
    fn from(acl: &'a Acl) -> AclRef<'a> {
        AclRef {
            perms: acl.perms,
            scheme: Some(Cow::Borrowed(&acl.id.scheme)),
            id: Some(Cow::Borrowed(&acl.id.id)),
        }
    }
}

/// Hides what [`Id`] hides.
impl fmt::Debug for AclRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.as_deref().unwrap_or("null");
        let id = self.id.as_deref().unwrap_or("null");
        write!(f, "{:?} ", self.perms)?;
        write_masked(f, scheme, id)
    }
}
