//! What a ZooKeeper's directory looked like when it was taken over.
//!
//! A later start compares: if ZooKeeper has written there since, two histories exist, and the
//! operator has to say which one counts.

use std::fmt::Write as _;
use std::io;

use super::directory::ZooKeeperDirs;

/// Names, sizes and times of change of the files, and the last zxid in them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fingerprint {
    /// The last zxid that was taken over.
    pub last_zxid: i64,
    pub(super) stamps: Vec<(String, u64, u128)>,
}

const FIRST_LINE: &str = "zookeeper-source 1";

impl Fingerprint {
    /// As text, for a file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\nlast-zxid {:x}\n", self.last_zxid);
        for (name, len, changed) in &self.stamps {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name} {len} {changed}");
        }
        text
    }

    /// From that text; `None` if it is not one.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Fingerprint> {
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) {
            return None;
        }
        let last_zxid = lines.next()?.strip_prefix("last-zxid ")?;
        let last_zxid = i64::from_str_radix(last_zxid, 16).ok()?;
        let stamps = lines
            .map(|line| {
                let mut parts = line.split(' ');
                let stamp = (
                    parts.next()?.to_owned(),
                    parts.next()?.parse().ok()?,
                    parts.next()?.parse().ok()?,
                );
                parts.next().is_none().then_some(stamp)
            })
            .collect::<Option<_>>()?;
        Some(Fingerprint { last_zxid, stamps })
    }
}

impl ZooKeeperDirs {
    /// The first file that is new or was changed since; files that are gone do not count, for
    /// nobody is kept from clearing out what was taken over.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn changed_since(&self, then: &Fingerprint) -> io::Result<Option<String>> {
        let now = self.stamps()?;
        Ok(now
            .into_iter()
            .find(|stamp| !then.stamps.contains(stamp))
            .map(|(name, ..)| name))
    }
}
