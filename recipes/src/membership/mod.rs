//! Who is there: znodes that are kept in existence, groups of members, and shares of a set.

mod group;
mod partitioner;
mod persistent;
mod ttl;

pub use group::{Change, Changes, Group, GroupLayout, Member, Membership};
pub use partitioner::{Partitioner, Share};
pub use persistent::{NodeKind, PersistentNode, PersistentNodeBuilder, Presence};
pub use ttl::PersistentTtlNode;
