//! An async ZooKeeper client that tells the truth about sessions.
#![forbid(unsafe_code)]
