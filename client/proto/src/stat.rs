//! What a client is told about a znode.

use bytes::BufMut as _;

use crate::jute::{DecodeError, Reader, Writer};

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

impl Stat {
    /// Reads the 68 bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn read(reader: &mut Reader<'_>) -> Result<Stat, DecodeError> {
        Ok(Stat {
            czxid: reader.i64("czxid")?,
            mzxid: reader.i64("mzxid")?,
            ctime: reader.i64("ctime")?,
            mtime: reader.i64("mtime")?,
            version: reader.i32("version")?,
            cversion: reader.i32("cversion")?,
            aversion: reader.i32("aversion")?,
            ephemeral_owner: reader.i64("ephemeralOwner")?,
            data_length: reader.i32("dataLength")?,
            num_children: reader.i32("numChildren")?,
            pzxid: reader.i64("pzxid")?,
        })
    }

    /// Writes them.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        // Put together first: one look at the room that is left, instead of eleven.
        let mut record = [0; Stat::ENCODED_LEN];
        let mut rest = record.as_mut_slice();
        rest.put_i64(self.czxid);
        rest.put_i64(self.mzxid);
        rest.put_i64(self.ctime);
        rest.put_i64(self.mtime);
        rest.put_i32(self.version);
        rest.put_i32(self.cversion);
        rest.put_i32(self.aversion);
        rest.put_i64(self.ephemeral_owner);
        rest.put_i32(self.data_length);
        rest.put_i32(self.num_children);
        rest.put_i64(self.pzxid);
        writer.raw(&record);
    }
}
