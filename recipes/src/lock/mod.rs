//! Locks: one holder at a time, or many readers, or so many permits.

mod guard;
mod multi;
pub(crate) mod mutex;
mod reentrant;
mod revoke;
mod rwlock;
mod semaphore;

pub use crate::lost::Lost;
pub use guard::LockGuard;
pub use multi::{Member, MultiGuard, MultiLock};
pub use mutex::Mutex;
pub use reentrant::{ReentrantGuard, ReentrantMutex};
pub use revoke::{REVOKE, revoke};
pub use rwlock::{ReadGuard, RwLock, Upgrade, WriteGuard};
pub use semaphore::{Permits, Semaphore, SemaphoreMutex};
