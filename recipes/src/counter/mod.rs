//! Counters and values that processes share.
//!
//! [`Atomic`] reads, computes and writes on one condition: that nobody wrote in between.
//! [`Shared`] keeps the latest value at hand and tells of changes. [`CachedAtomic`] takes numbers in
//! blocks. What stands in the znode is Curator's, byte for byte, or kazoo's with [`Ascii`].
//!
//! The hard part is a lost answer: did it count? A counter that guesses counts twice, or not at
//! all. Here it is found out where that is possible, and told where it is not.

mod atomic;
mod blocks;
mod marks;
mod shared;
mod stored;

pub use atomic::{Atomic, AtomicInteger, AtomicLong, AtomicValue, Change};
pub use blocks::{CachedAtomic, CachedAtomicInteger, CachedAtomicLong};
pub use shared::{Changes, Current, Shared, SharedCount, SharedValue};
pub use stored::{Addable, Ascii, Stored};
