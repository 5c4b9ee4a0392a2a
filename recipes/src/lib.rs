//! Coordination recipes: locks, elections, barriers, queues, counters, membership.
//!
//! Everything here stands on the public API of [`quorate_client`], and on one building block,
//! [`Contention`]: enter a directory, learn your place, watch only your predecessor, and claim
//! only what this session owns. The znodes are those that Apache Curator writes, byte for byte, so
//! that Rust and Java processes meet on one path; kazoo's layouts are an option.
//!
//! What holds for every recipe:
//!
//! - Parents are containers, so that they vanish when nobody needs them.
//! - A waiter watches one znode: the one whose deletion lets it proceed.
//! - A wake-up is a hint: the directory is listed again before anything is claimed.
//! - Dropping a future or a guard cleans up in the background, in the client's janitor.
#![forbid(unsafe_code)]
#![warn(clippy::exhaustive_enums)]

mod contention;
pub mod counter;
pub mod election;
mod fencing;
mod hold;
pub mod ids;
pub mod lease;
pub mod lock;
mod lost;
mod naming;
pub mod queue;

pub use contention::{Contender, Contention, Contestant, Entry, Place, Standing};
pub use fencing::FencingToken;
pub use lost::Lost;
pub use naming::{Layout, Naming, Sequence};
pub use quorate_client::{self as client, Client, Error, Result};
