//! Locks.

mod guard;
mod mutex;
mod revoke;

pub use crate::lost::Lost;
pub use guard::LockGuard;
pub use mutex::Mutex;
pub use revoke::{REVOKE, revoke};
