//! The number that tells a later holder from an earlier one.

use std::fmt;

/// Grows from holder to holder of one lock: give it to what the lock protects, and let that refuse
/// whatever comes with a lower one.
///
/// It is the `czxid` of the contender's znode. A sequence number would not do: it starts again when
/// the lock's directory is deleted and made anew.
///
/// It grows for as long as the ensemble keeps its history. Servers that are set up anew, or from a
/// backup, count on from an older zxid, and tokens may be given that were given before: reset what
/// the lock protects together with them.
///
/// ```
/// # use quorate_recipes::FencingToken;
/// let (earlier, later) = (FencingToken::from(7), FencingToken::from(9));
/// assert!(earlier < later);
/// assert_eq!(later.to_be_bytes(), 9_i64.to_be_bytes());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FencingToken(i64);

impl FencingToken {
    /// The number.
    #[must_use]
    pub const fn value(self) -> i64 {
        self.0
    }

    /// Eight bytes that compare as the number does, for tokens never are negative.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl From<i64> for FencingToken {
    fn from(czxid: i64) -> FencingToken {
        FencingToken(czxid)
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
