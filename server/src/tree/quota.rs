//! Quotas: which prefixes have one, what their texts say, and when a change exceeds them.
//!
//! A quota is two ordinary znodes below `/zookeeper/quota` that the server knows by name. The
//! texts stay where they are; in here is only which prefixes have limits.
//!
//! Source: ZooKeeper, `DataTree`, `StatsTrack`, `ZooKeeperServer.checkQuota`.

use std::collections::BTreeMap;

use quorate_proto::path;

const ABOVE: &str = "/zookeeper/quota";
const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

/// What a path means to quotas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum QuotaNode<'a> {
    /// The limits of this prefix.
    Limits(&'a str),
    /// The usage of this prefix.
    Stats(&'a str),
}

impl<'a> QuotaNode<'a> {
    pub(super) fn at(path: &'a str) -> Option<QuotaNode<'a>> {
        let below = path.strip_prefix(ABOVE)?;
        if !below.starts_with('/') {
            return None;
        }
        let (prefix, name) = path::split(below)?;
        match name {
            LIMITS => Some(QuotaNode::Limits(prefix)),
            STATS => Some(QuotaNode::Stats(prefix)),
            _ => None,
        }
    }
}

pub(super) fn limits_path(prefix: &str) -> String {
    format!("{ABOVE}{prefix}/{LIMITS}")
}

pub(super) fn stats_path(prefix: &str) -> String {
    format!("{ABOVE}{prefix}/{STATS}")
}

/// The prefixes that have limits.
#[derive(Default, Debug)]
pub(super) struct Quotas {
    /// With the time of the last warning.
    prefixes: BTreeMap<Box<str>, i64>,
}

impl Quotas {
    pub(super) fn add(&mut self, prefix: &str) {
        // ZooKeeper keeps no quota on the root.
        if prefix != path::ROOT {
            self.prefixes.entry(prefix.into()).or_insert(i64::MIN);
        }
    }

    pub(super) fn remove(&mut self, prefix: &str) {
        self.prefixes.remove(prefix);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// The longest prefix of this path that has limits.
    pub(super) fn of<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.is_empty() {
            return None;
        }
        let mut prefix = path;
        while prefix != path::ROOT {
            if self.prefixes.contains_key(prefix) {
                return Some(prefix);
            }
            prefix = path::split(prefix)?.0;
        }
        None
    }

    /// Whether to warn: once a second for a prefix, by the times in the log.
    pub(super) fn may_warn(&mut self, prefix: &str, now_ms: i64) -> bool {
        match self.prefixes.get_mut(prefix) {
            Some(last) if now_ms.saturating_sub(*last) >= 1000 || now_ms < *last => {
                *last = now_ms;
                true
            }
            _ => false,
        }
    }
}

/// Limits or usage, as the text of their znode says. -1 is none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Track(BTreeMap<String, i64>);

/// The text is not one that ZooKeeper would understand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Garbage;

impl Track {
    pub(super) fn of_usage(count: i64, bytes: i64) -> Track {
        let mut track = Track::default();
        track.add(count + 1, bytes + 1);
        track
    }

    pub(super) fn parse(data: Option<&[u8]>) -> Result<Track, Garbage> {
        // Empty data are no limits; null cannot be read.
        let text = String::from_utf8_lossy(data.ok_or(Garbage)?);
        let mut track = Track::default();
        if text.is_empty() {
            return Ok(track);
        }
        // Java's split drops empty pieces at the end, and only there; runs of separators are one.
        let mut pairs: Vec<&str> = Vec::new();
        for (at, piece) in text.split([',', ';']).enumerate() {
            if !piece.is_empty() || at == 0 {
                pairs.push(piece);
            }
        }
        if pairs == [""] && text.starts_with([',', ';']) {
            return Ok(track);
        }
        for pair in pairs {
            let (key, value) = pair.trim_end_matches('=').split_once('=').ok_or(Garbage)?;
            let value = value.split('=').next().unwrap_or_default();
            let value = if value.is_empty() { "-1" } else { value };
            track
                .0
                .insert(key.to_owned(), value.parse().map_err(|_| Garbage)?);
        }
        Ok(track)
    }

    fn get(&self, key: &str) -> i64 {
        self.0.get(key).copied().unwrap_or(-1)
    }

    pub(super) fn count(&self) -> i64 {
        self.get("count")
    }

    pub(super) fn bytes(&self) -> i64 {
        self.get("bytes")
    }

    pub(super) fn add(&mut self, count: i64, bytes: i64) {
        let count = self.count().wrapping_add(count);
        let bytes = self.bytes().wrapping_add(bytes);
        self.0.insert("count".to_owned(), count);
        self.0.insert("bytes".to_owned(), bytes);
    }

    /// Count first, bytes second, and a `=` behind them when more follows: parsers of 3.4 stop
    /// there.
    pub(super) fn text(&self) -> String {
        let mut text = format!("count={},bytes={}", self.count(), self.bytes());
        let mut mark = "=";
        for (key, value) in &self.0 {
            if key != "count" && key != "bytes" {
                text.push_str(mark);
                text.push_str(&format!(";{key}={value}"));
                mark = "";
            }
        }
        text
    }

    /// Which limit this usage would exceed, hard ones standing in front of soft ones.
    pub(super) fn exceeded_by(&self, usage: &Track, count: i64, bytes: i64) -> Option<Excess> {
        let check = |diff: i64, used: i64, hard: &'static str, soft: &'static str| {
            let is_hard = self.get(hard) > -1;
            let limit = self.get(if is_hard { hard } else { soft });
            let total = used.wrapping_add(diff);
            (diff != 0 && limit > -1 && total > limit).then_some(Excess {
                is_hard,
                what: soft,
                total,
                limit,
            })
        };
        let count = check(count, usage.count(), "countHardLimit", "count");
        let bytes = check(bytes, usage.bytes(), "byteHardLimit", "bytes");
        match (count, bytes) {
            (Some(count), Some(bytes)) if bytes.is_hard && !count.is_hard => Some(bytes),
            (count, bytes) => count.or(bytes),
        }
    }
}

/// A limit that a change would pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Excess {
    pub(super) is_hard: bool,
    pub(super) what: &'static str,
    pub(super) total: i64,
    pub(super) limit: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(text: &str) -> Result<Track, Garbage> {
        Track::parse(Some(text.as_bytes()))
    }

    #[test]
    fn quota_znodes_are_known_by_their_names() {
        assert_eq!(
            QuotaNode::at("/zookeeper/quota/a/b/zookeeper_limits"),
            Some(QuotaNode::Limits("/a/b"))
        );
        assert_eq!(
            QuotaNode::at("/zookeeper/quota/a/zookeeper_stats"),
            Some(QuotaNode::Stats("/a"))
        );
        assert_eq!(QuotaNode::at("/zookeeper/quota/a/other"), None);
        assert_eq!(QuotaNode::at("/a/zookeeper_limits"), None);
    }

    #[test]
    fn the_longest_prefix_counts() {
        let mut quotas = Quotas::default();
        quotas.add("/a");
        quotas.add("/a/b");
        assert_eq!(quotas.of("/a/b/c"), Some("/a/b"));
        assert_eq!(quotas.of("/a/b"), Some("/a/b"));
        assert_eq!(quotas.of("/a/bc"), Some("/a"));
        assert_eq!(quotas.of("/b"), None);
        quotas.remove("/a/b");
        assert_eq!(quotas.of("/a/b/c"), Some("/a"));
    }

    #[test]
    fn texts_are_read_as_zookeeper_reads_them() {
        let limits = track("count=5,bytes=-1=;byteHardLimit=20;countHardLimit=4").unwrap();
        assert_eq!((limits.count(), limits.bytes()), (5, -1));
        assert_eq!(limits.get("byteHardLimit"), 20);
        assert_eq!(limits.get("countHardLimit"), 4);
        assert_eq!(track("").unwrap(), Track::default());
        assert_eq!(Track::parse(None), Err(Garbage));
        assert_eq!(track("count==7").unwrap().count(), -1);
        for garbage in [
            "x",
            "count",
            "count=",
            "count=x",
            "count=1,,x",
            ",count=1",
            "=1=2x,",
        ] {
            let result = track(garbage);
            assert!(
                result.is_err() || garbage == "=1=2x,",
                "{garbage}: {result:?}"
            );
        }
    }

    #[test]
    fn texts_are_written_as_zookeeper_writes_them() {
        for text in [
            "count=2,bytes=10",
            "count=5,bytes=-1=;byteHardLimit=20;countHardLimit=4",
        ] {
            assert_eq!(track(text).unwrap().text(), text);
        }
        assert_eq!(Track::of_usage(3, 14).text(), "count=3,bytes=14");
    }

    #[test]
    fn reaching_a_limit_is_not_exceeding_it() {
        let limits = track("count=-1,bytes=-1=;byteHardLimit=20;countHardLimit=4").unwrap();
        let usage = Track::of_usage(3, 10);
        assert_eq!(limits.exceeded_by(&usage, 1, 10), None);
        assert!(limits.exceeded_by(&usage, 2, 0).unwrap().is_hard);
        assert!(limits.exceeded_by(&usage, 0, 11).unwrap().is_hard);
    }

    #[test]
    fn a_change_that_leaves_a_total_alone_is_not_held_against_it() {
        let limits = track("count=0,bytes=0=;byteHardLimit=1;countHardLimit=1").unwrap();
        let usage = Track::of_usage(5, 5);
        assert_eq!(limits.exceeded_by(&usage, 0, 0), None);
        assert!(
            limits.exceeded_by(&usage, 0, -1).is_some(),
            "still above the limit"
        );
    }
}
