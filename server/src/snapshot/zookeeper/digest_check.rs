//! Holds a tree against the digests that ZooKeeper recorded while it wrote.

use super::report::{ImportError, ImportReport};

/// Holds the tree against the digests that ZooKeeper recorded.
pub(super) struct DigestChecker {
    enabled: bool,
    fuzzy: Fuzzy,
    matched: u64,
    differed: u64,
    /// The first of an unbroken row of differences: zxid, ours, ZooKeeper's.
    standing: Option<(i64, u64, u64)>,
}

/// How far the snapshot may hold more than its name tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fuzzy {
    /// Up to this zxid, where it should have this digest.
    Until(i64, u64),
    /// Until a digest is equal: the writer did not say.
    Unknown,
    /// No more.
    Over,
}

impl DigestChecker {
    pub(super) fn new(enabled: bool, snapshot_zxid: i64) -> DigestChecker {
        let fuzzy = if snapshot_zxid == 0 {
            Fuzzy::Over
        } else {
            Fuzzy::Unknown
        };
        DigestChecker {
            enabled,
            fuzzy,
            matched: 0,
            differed: 0,
            standing: None,
        }
    }

    pub(super) fn snapshot(&mut self, recorded: Option<(i64, u64)>, zxid: i64, computed: u64) {
        if let Some((at, digest)) = recorded {
            if at == zxid {
                self.fuzzy = Fuzzy::Over;
                self.compare(zxid, digest, computed);
            } else if at > zxid {
                self.fuzzy = Fuzzy::Until(at, digest);
            }
        }
    }

    pub(super) fn txn(&mut self, zxid: i64, recorded: Option<u64>, computed: u64) {
        match self.fuzzy {
            Fuzzy::Until(end, _) if zxid < end => {}
            Fuzzy::Until(end, digest) => {
                self.fuzzy = Fuzzy::Over;
                if zxid == end {
                    self.compare(zxid, digest, computed);
                } else if let Some(recorded) = recorded {
                    self.compare(zxid, recorded, computed);
                }
            }
            Fuzzy::Unknown => {
                if recorded == Some(computed) {
                    self.fuzzy = Fuzzy::Over;
                }
                if let Some(recorded) = recorded {
                    self.compare(zxid, recorded, computed);
                }
            }
            Fuzzy::Over => {
                if let Some(recorded) = recorded {
                    self.compare(zxid, recorded, computed);
                }
            }
        }
    }

    fn compare(&mut self, zxid: i64, recorded: u64, computed: u64) {
        if recorded == computed {
            self.matched += 1;
            self.standing = None;
        } else if self.fuzzy == Fuzzy::Unknown {
            self.standing.get_or_insert((zxid, computed, recorded));
        } else {
            self.differed += 1;
            self.standing.get_or_insert((zxid, computed, recorded));
        }
    }

    /// A difference that lasts to the end is one in the tree; one that vanished is not.
    pub(super) fn finish(self, report: &mut ImportReport) -> Result<(), ImportError> {
        report.digests_matched = self.matched;
        report.digests_differed = self.differed;
        match self.standing {
            Some((zxid, computed, recorded)) if self.enabled => Err(ImportError::Digest {
                zxid,
                computed,
                recorded,
            }),
            _ => Ok(()),
        }
    }
}
