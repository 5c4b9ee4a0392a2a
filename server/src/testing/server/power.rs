//! Power failures of a server in memory.
//!
//! A cut is a moment: the operation of the disk during which the power goes has any part of its
//! effect, and nothing after it has any. What the next start finds of unsynced writes is up to
//! the seed. Same operations, same seed: same disk.

use std::sync::Arc;

use super::{Storage, TestServer, start};
use crate::disk::sim::SimDisk;

impl TestServer {
    /// The power goes after so many more operations of the disk (writes, syncs, changes of
    /// names). The server runs on with a disk that fails, until [`TestServer::power_failure`].
    ///
    /// # Panics
    /// If the data is in a directory.
    pub fn cut_power_after(&self, operations: u64) {
        let disk = self.simulated();
        disk.cut_after(disk.operations() + operations);
    }

    /// Operations of the disk since it was last started: what can be cut.
    ///
    /// # Panics
    /// If the data is in a directory.
    #[must_use]
    pub fn disk_operations(&self) -> u64 {
        self.simulated().operations()
    }

    /// From now on the disk says of every sync that it is done, and does nothing: to prove that a
    /// test notices.
    ///
    /// # Panics
    /// If the data is in a directory.
    pub fn break_syncs(&self) {
        self.simulated().lie_about_sync();
    }

    /// The power fails now, if it has not before, and the server starts on what the disk kept.
    ///
    /// # Panics
    /// If the data is in a directory, or the server does not come up.
    pub async fn power_failure(&mut self, seed: u64) {
        self.lose_power(seed).await;
        self.start_again().await;
    }

    /// As [`TestServer::power_failure`], with a second one after so many operations of the disk
    /// during the start, if it has that many.
    ///
    /// # Panics
    /// As [`TestServer::power_failure`].
    pub async fn power_failure_twice(&mut self, seed: u64, operations: u64) {
        self.lose_power(seed).await;
        self.simulated().cut_after(operations);
        self.server = start(&self.config, &self.storage, self.clock.as_ref())
            .await
            .ok();
        self.lose_power(seed.wrapping_add(1)).await;
        self.start_again().await;
    }

    /// Leaves a stopped server and the disk as the next boot finds it.
    async fn lose_power(&mut self, seed: u64) {
        let old = self.simulated();
        let new = old.crash(seed);
        // From here on the dying server can do nothing that somebody will see.
        old.cut_after(0);
        self.storage = Storage::Memory(Arc::new(new));
        self.stop().await;
    }

    fn simulated(&self) -> &SimDisk {
        match &self.storage {
            Storage::Memory(disk) => disk,
            Storage::Directory { .. } => panic!("a directory has no power to fail"),
        }
    }
}
