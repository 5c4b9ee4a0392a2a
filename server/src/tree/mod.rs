//! To be written.

pub(crate) mod txn;

/// To be written.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Caller<'a>(&'a [u8]);
