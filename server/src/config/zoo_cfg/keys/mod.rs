//! Every key that Apache ZooKeeper's server knows, and what becomes of it here.
//!
//! One table, in parts: a key is *applied* (it ends in a field of [`Config`]), *noted* (checked
//! where ZooKeeper checks it, and without effect here, for a reason that is told), or *refused*
//! when its value asks for something that this server does not do. Nothing that concerns security
//! is ever only noted unless what it guards does not exist here either.
//!
//! `docs/configuration.md` is tested to be this table.

mod absent;
mod ensemble;
mod limits;
mod security;
mod server;

pub(super) use limits::join_throttles;

use crate::config::Config;

use super::draft::Draft;
use super::values::{BadValue, strict_bool};

/// One key of `zoo.cfg`, or a family of keys that ends in `*`.
#[derive(Debug)]
pub struct Key {
    name: &'static str,
    default: &'static str,
    about: &'static str,
    effect: Effect,
    read_by: ReadBy,
    ensemble_only: bool,
}

/// Where Apache ZooKeeper reads a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadBy {
    /// The configuration file only.
    File,
    /// The file as `X`, or `-Dzookeeper.X`.
    Property,
    /// `-DX` only: written in the file it has no effect in ZooKeeper.
    Bare,
}

pub(super) type Apply = fn(&mut Draft, &str) -> Result<(), BadValue>;

/// What a key does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    Applied {
        apply: Apply,
        show: fn(&Config) -> String,
    },
    Noted {
        check: Apply,
    },
    Refused {
        when: fn(&str) -> Result<bool, BadValue>,
        help: &'static str,
    },
}

impl Key {
    /// The key as `zoo.cfg` spells it; a trailing `*` stands for any ending.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Apache ZooKeeper's default, as text; empty for none.
    #[must_use]
    pub fn default(&self) -> &'static str {
        self.default
    }

    /// What it sets, or why it has no effect, or what is refused.
    #[must_use]
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// `applied`, `noted` or `refused`.
    #[must_use]
    pub fn effect_word(&self) -> &'static str {
        match self.effect {
            Effect::Applied { .. } => "applied",
            Effect::Noted { .. } => "noted",
            Effect::Refused { .. } => "refused",
        }
    }

    /// The value in force, as `zoo.cfg` would spell it; `None` unless the key is applied.
    #[must_use]
    pub fn show(&self, config: &Config) -> Option<String> {
        match self.effect {
            Effect::Applied { show, .. } => Some(show(config)),
            Effect::Noted { .. } | Effect::Refused { .. } => None,
        }
    }

    pub(super) fn effect(&self) -> Effect {
        self.effect
    }

    pub(super) fn read_by(&self) -> ReadBy {
        self.read_by
    }

    /// Whether it has no effect on a server that stands alone.
    pub(super) fn ensemble_only(&self) -> bool {
        self.ensemble_only
    }

    /// Without effect on a server that stands alone.
    const fn ensemble(mut self) -> Key {
        self.ensemble_only = true;
        self
    }

    /// Read from the file only, by Apache ZooKeeper.
    const fn file(mut self) -> Key {
        self.read_by = ReadBy::File;
        self
    }

    /// Read by Apache ZooKeeper as a Java property without prefix.
    const fn bare(mut self) -> Key {
        self.read_by = ReadBy::Bare;
        self
    }
}

const fn applied(
    name: &'static str,
    default: &'static str,
    about: &'static str,
    apply: Apply,
    show: fn(&Config) -> String,
) -> Key {
    Key {
        name,
        default,
        about,
        effect: Effect::Applied { apply, show },
        read_by: ReadBy::Property,
        ensemble_only: false,
    }
}

const fn checked(
    name: &'static str,
    default: &'static str,
    about: &'static str,
    check: Apply,
) -> Key {
    Key {
        name,
        default,
        about,
        effect: Effect::Noted { check },
        read_by: ReadBy::Property,
        ensemble_only: false,
    }
}

const fn noted(name: &'static str, default: &'static str, about: &'static str) -> Key {
    checked(name, default, about, |_, _| Ok(()))
}

const fn refused(
    name: &'static str,
    default: &'static str,
    about: &'static str,
    when: fn(&str) -> Result<bool, BadValue>,
    help: &'static str,
) -> Key {
    Key {
        name,
        default,
        about,
        effect: Effect::Refused { when, help },
        read_by: ReadBy::Property,
        ensemble_only: false,
    }
}

fn always(_: &str) -> Result<bool, BadValue> {
    Ok(true)
}

/// For a property, ZooKeeper takes anything but `true` for false; only a strict key refuses.
fn when_true(value: &str) -> Result<bool, BadValue> {
    Ok(value.eq_ignore_ascii_case("true"))
}

fn when_strictly_true(value: &str) -> Result<bool, BadValue> {
    strict_bool(value)
}

/// Every key, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static Key> {
    [
        server::KEYS,
        ensemble::KEYS,
        limits::KEYS,
        security::KEYS,
        absent::KEYS,
    ]
    .into_iter()
    .flatten()
}

/// Spellings that documents use for a key of the table.
const ALIASES: &[(&str, &str)] = &[
    ("firstBoot", "quorate.firstBoot"),
    ("connectionMaxTokens", "connection_throttle_tokens"),
    ("connectionTokenFillTime", "connection_throttle_fill_time"),
    ("connectionTokenFillCount", "connection_throttle_fill_count"),
    ("connectionFreezeTime", "connection_throttle_freeze_time"),
    (
        "connectionDropIncrease",
        "connection_throttle_drop_increase",
    ),
    (
        "connectionDropDecrease",
        "connection_throttle_drop_decrease",
    ),
    (
        "connectionDecreaseRatio",
        "connection_throttle_decrease_ratio",
    ),
    (
        "connectionWeightEnabled",
        "connection_throttle_weight_enabled",
    ),
    ("requestThrottleLimit", "request_throttle_max_requests"),
    ("requestThrottleStallTime", "request_throttle_stall_time"),
    ("requestThrottleDropStale", "request_throttle_drop_stale"),
    (
        "requestStaleConnectionCheck",
        "request_stale_connection_check",
    ),
    ("requestStaleLatencyCheck", "request_stale_latency_check"),
    (
        "container.checkIntervalMs",
        "znode.container.checkIntervalMs",
    ),
    ("container.maxPerMinute", "znode.container.maxPerMinute"),
];

/// The row of a key in any of its spellings.
pub(super) fn find(spelled: &str) -> Option<&'static Key> {
    let name = spelled.strip_prefix("zookeeper.").unwrap_or(spelled);
    let name = ALIASES
        .iter()
        .find_map(|&(alias, key)| (alias == name).then_some(key))
        .unwrap_or(name);
    all().find(|key| key.name == name).or_else(|| {
        all()
            .filter_map(|key| Some((key, key.name.strip_suffix('*')?)))
            .filter(|(_, prefix)| name.starts_with(prefix))
            .max_by_key(|(_, prefix)| prefix.len())
            .map(|(key, _)| key)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_key_stands_twice() {
        let mut seen = HashSet::new();
        for key in all() {
            assert!(seen.insert(key.name), "{} stands twice", key.name);
        }
    }

    #[test]
    fn every_alias_leads_to_a_key() {
        for (alias, key) in ALIASES {
            assert_eq!(find(alias).map(Key::name), Some(*key));
        }
    }

    #[test]
    fn both_spellings_find_the_same_row() {
        for name in [
            "snapCount",
            "jute.maxbuffer",
            "znode.container.maxPerMinute",
        ] {
            let prefixed = format!("zookeeper.{name}");
            assert_eq!(find(&prefixed).map(Key::name), Some(name));
            assert_eq!(find(name).map(Key::name), Some(name));
        }
        assert_eq!(
            find("authProvider.1").map(Key::name),
            Some("authProvider.*")
        );
        assert!(find("tikTime").is_none());
    }

    #[test]
    fn every_row_tells_what_it_does() {
        for key in all() {
            assert!(key.about.len() > 10, "{} says nothing", key.name);
            assert!(
                !key.about.ends_with('.'),
                "{} ends in a full stop",
                key.name
            );
        }
    }
}
