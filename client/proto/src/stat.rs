//! What a client is told about a znode.

/// The 68 bytes that describe a znode, with its fields in wire order.
///
/// This is the *visible* form: `cversion` counts creates and deletes of children, and
/// `ephemeral_owner` is 0 for containers and TTL znodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stat {
    /// Zxid of the transaction that created the znode.
    pub czxid: i64,
    /// Zxid of the last change of its data.
    pub mzxid: i64,
    /// When it was created, in milliseconds since 1970, by the leader's clock.
    pub ctime: i64,
    /// When its data was last changed, in milliseconds since 1970, by the leader's clock.
    pub mtime: i64,
    /// How often its data was changed.
    pub version: i32,
    /// How many creates and deletes of children it has seen.
    pub cversion: i32,
    /// How often its ACL was changed.
    pub aversion: i32,
    /// The session that owns an ephemeral znode, else 0.
    pub ephemeral_owner: i64,
    /// Bytes of data; 0 for null and for empty data.
    pub data_length: i32,
    /// How many children it has.
    pub num_children: i32,
    /// Zxid of the last create or delete of a child.
    pub pzxid: i64,
}

impl Stat {
    /// Bytes on the wire.
    pub const ENCODED_LEN: usize = 68;
}
