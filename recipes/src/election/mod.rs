//! Elections: one leader among many candidates.
//!
//! A [`LeaderLatch`] gives a guard of leadership; a [`LeaderSelector`] runs a body while it leads,
//! and again whenever it leads again. Both tell who leads, now and as it changes. They do not meet
//! on one path: Curator's never did.

mod candidacy;
mod latch;
mod observe;
mod selector;

pub use latch::{LeaderLatch, Leadership};
pub use observe::{Leader, Observe};
pub use selector::{LeaderSelector, Term};
