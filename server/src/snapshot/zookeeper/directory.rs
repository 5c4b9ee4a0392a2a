//! Which files a ZooKeeper left, and whether it still runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Where a ZooKeeper keeps its files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZooKeeperDirs {
    data_dir: PathBuf,
    data_log_dir: PathBuf,
}

/// A snapshot or log file, by its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NamedFile {
    pub(super) path: PathBuf,
    pub(super) zxid: i64,
}

impl ZooKeeperDirs {
    /// As `zoo.cfg` names them: `dataDir`, and `dataLogDir` if it is set.
    #[must_use]
    pub fn new(data_dir: &Path, data_log_dir: Option<&Path>) -> ZooKeeperDirs {
        ZooKeeperDirs {
            data_dir: data_dir.to_owned(),
            data_log_dir: data_log_dir.unwrap_or(data_dir).to_owned(),
        }
    }

    /// Whether a ZooKeeper has kept snapshots or logs there.
    ///
    /// # Errors
    /// If a directory exists and cannot be listed.
    pub fn hold_a_zookeeper(&self) -> io::Result<bool> {
        Ok(!self.snapshots()?.is_empty() || !self.logs()?.is_empty())
    }

    /// The process that holds the directory, by its pid file, if it runs. Only Linux can tell.
    #[must_use]
    pub fn running_process(&self) -> Option<u32> {
        let text = fs::read_to_string(self.data_dir.join("zookeeper_server.pid")).ok()?;
        let pid: u32 = text.trim().parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        // Pids are given out again: only a ZooKeeper counts.
        String::from_utf8_lossy(&command)
            .contains("org.apache.zookeeper")
            .then_some(pid)
    }

    /// Snapshots, newest first.
    pub(super) fn snapshots(&self) -> io::Result<Vec<NamedFile>> {
        let mut files = named(&self.data_dir.join("version-2"), "snapshot")?;
        files.reverse();
        Ok(files)
    }

    /// Logs, oldest first.
    pub(super) fn logs(&self) -> io::Result<Vec<NamedFile>> {
        named(&self.data_log_dir.join("version-2"), "log")
    }

    /// The number in `currentEpoch` or `acceptedEpoch`; `None` without that file.
    pub(super) fn epoch(&self, name: &str) -> io::Result<Option<i64>> {
        let text = match fs::read_to_string(self.data_dir.join("version-2").join(name)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        text.trim()
            .parse()
            .map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Every file that a running ZooKeeper would change: name, length, time of the last change in
    /// nanoseconds.
    pub(super) fn stamps(&self) -> io::Result<Vec<(String, u64, u128)>> {
        let mut files = self.snapshots()?;
        files.extend(self.logs()?);
        for name in ["currentEpoch", "acceptedEpoch"] {
            files.push(NamedFile {
                path: self.data_dir.join("version-2").join(name),
                zxid: 0,
            });
        }
        let mut stamps = Vec::new();
        for file in files {
            let meta = match fs::metadata(&file.path) {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let changed = meta
                .modified()?
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let name = file
                .path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            stamps.push((name, meta.len(), changed.as_nanos()));
        }
        stamps.sort();
        Ok(stamps)
    }
}

/// Files called `prefix.<hex zxid>` and maybe more, in the order of their zxids.
fn named(dir: &Path, prefix: &str) -> io::Result<Vec<NamedFile>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(zxid) = name.to_str().and_then(|name| zxid_of(name, prefix)) else {
            continue;
        };
        if entry.file_type()?.is_dir() {
            continue;
        }
        files.push(NamedFile {
            path: entry.path(),
            zxid,
        });
    }
    files.sort_by(|a, b| (a.zxid, &a.path).cmp(&(b.zxid, &b.path)));
    Ok(files)
}

fn zxid_of(name: &str, prefix: &str) -> Option<i64> {
    let mut parts = name.split('.');
    if parts.next() != Some(prefix) {
        return None;
    }
    let zxid = i64::from_str_radix(parts.next()?, 16).ok()?;
    // `snapshot.5.tmp` is one that was never finished.
    let finished = match parts.next() {
        None => true,
        Some("gz" | "snappy") => prefix == "snapshot" && parts.next().is_none(),
        Some(_) => false,
    };
    finished.then_some(zxid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finished_files_of_the_kind_count() {
        assert_eq!(zxid_of("snapshot.1f", "snapshot"), Some(0x1f));
        assert_eq!(zxid_of("snapshot.1f.gz", "snapshot"), Some(0x1f));
        assert_eq!(zxid_of("snapshot.1f.snappy", "snapshot"), Some(0x1f));
        for name in [
            "snapshot",
            "snapshot.",
            "snapshot.x",
            "snapshot.1.tmp",
            "log.1",
            "snapshots.1",
        ] {
            assert_eq!(zxid_of(name, "snapshot"), None, "{name}");
        }
        assert_eq!(zxid_of("log.1.gz", "log"), None);
    }
}
