//! Coordination recipes: locks, elections, barriers, queues, counters, membership.
//!
//! Everything here stands on the public API of [`quorate_client`]. Locks, elections and semaphores
//! share one building block, [`Contention`]: enter a directory, learn your place, watch only your
//! predecessor, and claim only what this session owns. The znodes are those that Apache Curator
//! writes; kazoo's layouts are an option.
//!
//! # What there is
//!
//! | recipe | type | Curator | kazoo |
//! | --- | --- | --- | --- |
//! | lock | [`lock::Mutex`], [`lock::ReentrantMutex`] | `InterProcessMutex` | `Lock` |
//! | readers and writers | [`lock::RwLock`] | `InterProcessReadWriteLock` | `ReadLock`, `WriteLock` |
//! | permits | [`lock::Semaphore`], [`lock::SemaphoreMutex`] | `InterProcessSemaphoreV2`, `InterProcessSemaphoreMutex` | `Semaphore` |
//! | several locks as one | [`lock::MultiLock`] | `InterProcessMultiLock` | – |
//! | asking a holder to let go | [`lock::revoke`] | `Revoker` | – |
//! | leader until it resigns | [`election::LeaderLatch`] | `LeaderLatch` | `Election` |
//! | leader for one run of a body | [`election::LeaderSelector`] | `LeaderSelector` | `Election` |
//! | gate | [`barrier::Barrier`] | `DistributedBarrier` | `Barrier` |
//! | meeting | [`barrier::DoubleBarrier`] | `DistributedDoubleBarrier` | `DoubleBarrier` |
//! | queue, by priority, delay or id | [`queue::Queue`] | `DistributedQueue` and its kin, `SimpleDistributedQueue` | `Queue`, `LockingQueue` |
//! | queue over several znodes | [`queue::Sharder`] | `QueueSharder` | – |
//! | counter, value | [`counter::Atomic`], [`counter::CachedAtomic`] | `DistributedAtomicLong` and its kin, `CachedAtomicLong`, `CachedAtomicInteger` | `Counter` |
//! | value at hand | [`counter::Shared`] | `SharedValue`, `SharedCount` | – |
//! | a znode that is kept | [`membership::PersistentNode`], [`membership::PersistentTtlNode`] | the same names | – |
//! | group | [`membership::Group`] | `GroupMember` | `Party`, `ShallowParty` |
//! | shares of a set | [`membership::Partitioner`] | – | `SetPartitioner` |
//! | lease until a time | [`lease::Lease`], [`lease::MultiLease`], [`lease::TtlLease`] | – | `NonBlockingLease`, `MultiNonBlockingLease` |
//! | ids, names, slots | [`ids`] | – | – |
//!
//! # A lock
//!
//! ```no_run
//! use quorate_recipes::{Client, lock::Mutex};
//!
//! # async fn write_report() {}
//! # async fn example() -> quorate_recipes::Result<()> {
//! let client = Client::connect("127.0.0.1:2181").await?;
//! let guard = Mutex::new(&client, "/locks/report").acquire().await?;
//! println!("ours; give {} to what it protects", guard.token());
//! if let Err(lost) = guard.run(write_report()).await {
//!     println!("stopped half way: {lost}");
//! }
//! guard.release().await // dropping the guard releases, too
//! # }
//! ```
//!
//! # An election
//!
//! ```no_run
//! use quorate_recipes::{Client, election::LeaderLatch};
//!
//! # async fn lead() {}
//! # async fn example(client: Client) -> quorate_recipes::Result<()> {
//! let latch = LeaderLatch::new(&client, "/leader", "host-7:8080");
//! loop {
//!     let leadership = latch.campaign().await?;
//!     if leadership.run(lead()).await.is_ok() {
//!         return leadership.resign().await;
//!     }
//!     // Lost: nothing of the body runs any more. Stand again.
//! }
//! # }
//! ```
//!
//! # What holds for every recipe
//!
//! - What is held belongs to the session that took it; only [leases](lease) outlive it. A guard that
//!   is lost stays lost; a new one has a larger [`FencingToken`].
//! - A wake-up is a hint: the znodes are read again before anything is claimed. The one exception is
//!   the coming of a double barrier's `ready`, which is kept.
//! - Waiters for a lock, a permit or leadership watch the one znode in front of them, and only the
//!   first in a queue or at a semaphore watches what it waits for. At a barrier all wake: that is
//!   what it is for.
//! - A contender's data is what you give it, or empty: never the host's address.
//! - Dropping a future or a guard cleans up in the background, in the client's janitor; each method
//!   says under *Cancel safety* what may remain.
//! - Parents of locks, elections and groups in Curator's layout are containers, and vanish when nobody
//!   needs them. Those of queues and shared values are persistent and stay.
//!
//! Applications are tested with the crate `quorate-testkit`: a server, the connections to it and time
//! in the hands of a test, so that a session that ends after half a minute takes milliseconds.
//!
//! # Limits
//!
//! - A guard cannot stop a thread that stands still, nor a body that comes to no `.await`. Let what
//!   the lock protects compare [tokens](FencingToken), or write through
//!   [`LockGuard::multi`](lock::LockGuard::multi).
//! - A put into a queue whose answer is lost ([`Error::Unknown`]) may be in the queue; put again, it
//!   is there twice. The names of items have no place for a mark.
//! - Curator's and kazoo's processes exclude each other only in the layout that both read. Stock
//!   kazoo locks and Curator's never meet on one path, whichever is chosen here.
//! - What runs beside Curator and kazoo on one path, and what cannot, is in
//!   `docs/recipes/interop.md`; how fast, in `docs/performance-recipes.md`.
//! - Not built yet: service discovery. The layouts of ZooKeeper's own
//!   `WriteLock` and `LeaderElectionSupport` are left out on purpose.
//! - A group reads all its members again after each change; a queue lists all its items. Neither is
//!   made for tens of thousands.
#![forbid(unsafe_code)]
#![warn(clippy::exhaustive_enums)]

pub mod barrier;
mod contention;
pub mod counter;
pub mod election;
mod fencing;
mod hold;
mod identity;
pub mod ids;
pub mod lease;
pub mod lock;
mod lost;
pub mod membership;
mod naming;
#[cfg(doctest)]
mod pages;
mod patience;
pub mod queue;

pub use contention::{Contender, Contention, Contestant, Entry, Place, Standing};
pub use fencing::FencingToken;
pub use lost::Lost;
pub use naming::{Layout, Naming, Sequence};
pub use quorate_client::{self as client, Client, Error, Result};
