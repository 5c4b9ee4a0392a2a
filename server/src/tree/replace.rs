//! Another state in place of this one, under its readers.
//!
//! A reader finds the place of a path, locks one shard and looks: so the new znodes are placed by
//! the same hashes, and all shards change hands while all are locked. Shard by shard, one that
//! reads two znodes one after the other could see the later state first.

use super::capture::Progress;
use super::core::Core;
use super::sessions::SESSION_SHARDS;
use super::shard::Shard;
use super::state::publish;
use super::store::{SHARDS, Shared, WriteHeld};

impl Shared {
    /// Trades all content with `other`. What clients were told of zxids stays true.
    ///
    /// # Panics
    /// If `other` places znodes in another way: every look-up would fail from then on.
    pub(super) fn swap(&self, other: &mut Shared) {
        let probe = b"/quorate";
        assert_eq!(
            self.hash(probe),
            other.hash(probe),
            "no successor of this state"
        );
        let mut core = self.write_gate();
        for capture in std::mem::take(&mut core.captures) {
            self.complete(&capture, &core);
        }
        // Whoever reads a znode is told at least the zxid of its shard (R4), and one that was
        // loaded knows none: the last zxid of all is never too low.
        let zxid = other.core_mut().zxid;
        let mut shards: Vec<WriteHeld<'_, Shard>> =
            (0..SHARDS).map(|at| self.write_shard(at)).collect();
        for (at, held) in shards.iter_mut().enumerate() {
            let shard = other.shard_mut(at);
            shard.zxid = zxid;
            std::mem::swap(&mut **held, shard);
        }
        std::mem::swap(&mut *core, other.core_mut());
        publish(self, &core);
    }

    /// Lets a capture have all that it has not read yet. Shard by shard: with the gate closed
    /// nobody writes, so readers may go on.
    fn complete(&self, capture: &Progress, core: &Core) {
        for at in 0..SHARDS {
            capture.before_write(at, &self.read_shard(at), self);
        }
        for at in 0..SESSION_SHARDS {
            capture.before_session_write(at, core.sessions.shard(at));
        }
    }
}
