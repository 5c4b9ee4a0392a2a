//! Leases: a right that outlives the session that took it, until a time.
//!
//! [`Lease`] is kazoo's, by the clocks of those who take it. [`TtlLease`] is kept by the server's
//! clock alone, where the server has TTL znodes.

mod json;
mod kazoo;
mod ttl;

pub use kazoo::{Lease, MultiLease};
pub use ttl::TtlLease;
