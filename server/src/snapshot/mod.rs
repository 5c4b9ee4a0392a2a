//! Our snapshot files; ZooKeeper's dataDir read and written.
