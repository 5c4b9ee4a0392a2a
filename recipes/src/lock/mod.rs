//! Locks.

mod guard;
mod mutex;

pub use guard::{LockGuard, Lost};
pub use mutex::Mutex;
