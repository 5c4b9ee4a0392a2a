//! What kind of znode `flags` asks for.

use crate::limits::{TTL_MS_MAX, TTL_MS_MIN};

/// The kinds of znode. An enumeration on the wire, not a set of bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum CreateMode {
    /// Stays until deleted.
    Persistent = 0,
    /// Goes with its session.
    Ephemeral = 1,
    /// Persistent, with a number appended.
    PersistentSequential = 2,
    /// Ephemeral, with a number appended.
    EphemeralSequential = 3,
    /// Goes when its last child has gone.
    Container = 4,
    /// Goes when childless and unchanged for its TTL.
    PersistentWithTtl = 5,
    /// The same, with a number appended.
    PersistentSequentialWithTtl = 6,
}

impl CreateMode {
    /// Every mode.
    pub const ALL: &'static [CreateMode] = &[
        CreateMode::Persistent,
        CreateMode::Ephemeral,
        CreateMode::PersistentSequential,
        CreateMode::EphemeralSequential,
        CreateMode::Container,
        CreateMode::PersistentWithTtl,
        CreateMode::PersistentSequentialWithTtl,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn flags(self) -> i32 {
        self as i32
    }

    /// The mode with this number.
    #[must_use]
    pub const fn from_flags(flags: i32) -> Option<CreateMode> {
        match flags {
            0 => Some(CreateMode::Persistent),
            1 => Some(CreateMode::Ephemeral),
            2 => Some(CreateMode::PersistentSequential),
            3 => Some(CreateMode::EphemeralSequential),
            4 => Some(CreateMode::Container),
            5 => Some(CreateMode::PersistentWithTtl),
            6 => Some(CreateMode::PersistentSequentialWithTtl),
            _ => None,
        }
    }

    /// Whether the znode goes with its session.
    #[must_use]
    pub const fn is_ephemeral(self) -> bool {
        matches!(
            self,
            CreateMode::Ephemeral | CreateMode::EphemeralSequential
        )
    }

    /// Whether a number is appended to the path.
    #[must_use]
    pub const fn is_sequential(self) -> bool {
        matches!(
            self,
            CreateMode::PersistentSequential
                | CreateMode::EphemeralSequential
                | CreateMode::PersistentSequentialWithTtl
        )
    }

    /// Whether the znode goes when its last child has gone.
    #[must_use]
    pub const fn is_container(self) -> bool {
        matches!(self, CreateMode::Container)
    }

    /// Whether the znode has a TTL.
    #[must_use]
    pub const fn is_ttl(self) -> bool {
        matches!(
            self,
            CreateMode::PersistentWithTtl | CreateMode::PersistentSequentialWithTtl
        )
    }
}

/// Whether `ttl_ms` is a time that a znode may be given to live.
#[must_use]
pub const fn is_valid_ttl(ttl_ms: i64) -> bool {
    TTL_MS_MIN <= ttl_ms && ttl_ms <= TTL_MS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_an_enumeration_from_0_to_6() {
        for flags in -10..=20 {
            let mode = CreateMode::from_flags(flags);
            assert_eq!(mode.is_some(), (0..=6).contains(&flags), "{flags}");
            assert!(mode.is_none_or(|mode| mode.flags() == flags));
        }
    }

    #[test]
    fn modes_are_what_zookeepers_table_says() {
        let table = CreateMode::ALL.iter().map(|mode| {
            (
                mode.is_ephemeral(),
                mode.is_sequential(),
                mode.is_container(),
                mode.is_ttl(),
            )
        });
        assert!(table.eq([
            (false, false, false, false),
            (true, false, false, false),
            (false, true, false, false),
            (true, true, false, false),
            (false, false, true, false),
            (false, false, false, true),
            (false, true, false, true),
        ]));
    }

    #[test]
    fn a_ttl_has_forty_bits_and_is_positive() {
        for (ttl, valid) in [
            (i64::MIN, false),
            (-1, false),
            (0, false),
            (1, true),
            (1_099_511_627_775, true),
            (1 << 40, false),
        ] {
            assert_eq!(is_valid_ttl(ttl), valid, "{ttl}");
        }
    }
}
