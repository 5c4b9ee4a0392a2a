//! The sizes and ranges that the protocol knows.

/// The largest frame that a server takes by default (`jute.maxbuffer`). Java clients have the
/// same limit for what they receive.
pub const FRAME_BYTES_MAX_DEFAULT: usize = 0xf_ffff;

/// What the payload of a `getData` reply holds besides the data: header, length and Stat.
///
/// Data that arrived in a frame of the limit may come back in one above it, which a default Java
/// client refuses for ever. No server checks it.
pub const GET_DATA_REPLY_OVERHEAD: usize = 16 + 4 + crate::Stat::ENCODED_LEN;

/// Bytes of a session password, in both directions.
pub const PASSWORD_LEN: usize = 16;

/// The shortest TTL, in milliseconds.
pub const TTL_MS_MIN: i64 = 1;

/// The longest TTL, in milliseconds: 40 bits. Source: ZooKeeper, `EphemeralType.TTL`.
pub const TTL_MS_MAX: i64 = (1 << 40) - 1;

/// The largest number of a server with extended types on, so that no session id starts with the
/// byte that marks a TTL. Source: ZooKeeper, `EphemeralType.MAX_EXTENDED_SERVER_ID`.
pub const SERVER_ID_MAX_EXTENDED: u8 = 254;

/// Characters of a sequential znode's number, short of an overflow.
pub const SEQUENCE_DIGITS: usize = 10;

/// The most path text, in bytes, that clients put into one `setWatches`.
pub const SET_WATCHES_BYTES_MAX: usize = 128 * 1024;

/// The first bytes of every session password that Quorate gives: its own client knows by them that
/// the leader stands behind replies to pings, writes and `sync`. Opaque to every other client.
pub const QUORATE_MARK: [u8; 6] = *b"QUORA\x01";
