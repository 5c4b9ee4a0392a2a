//! How contenders are named, and in which order they stand.

use std::cmp::Ordering;

/// Whose znodes a recipe writes and reads.
///
/// Processes exclude each other only if they agree on it: stock kazoo locks and Curator locks on
/// one path do not see each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Layout {
    /// Apache Curator's: `_c_<uuid>-lock-0000000000`.
    #[default]
    Curator,
    /// kazoo's: `<hex>__lock__0000000000`.
    Kazoo,
}

/// The names of one kind of contender in a directory.
///
/// A name is a protection (our id, so that a create whose answer was lost can be found again), a
/// tag, and the server's sequence number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Naming {
    layout: Layout,
    /// What we write in front of the number.
    tag: &'static str,
    /// Every tag that takes part in the order.
    tags: &'static [&'static str],
}

impl Naming {
    /// Contenders that write `tag` and stand in one order with all that carry one of `tags`.
    #[must_use]
    pub const fn new(layout: Layout, tag: &'static str, tags: &'static [&'static str]) -> Naming {
        Naming { layout, tag, tags }
    }

    /// Whose layout it is.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// What stands in front of the number in the names that we write.
    #[must_use]
    pub const fn tag(&self) -> &'static str {
        self.tag
    }

    /// Reads a child's name: its tag and its number, or `None` if it is not one of ours.
    #[must_use]
    pub fn parse<'n>(&self, name: &'n str) -> Option<(&'static str, Sequence<'n>)> {
        let tags = self.tags.iter().chain(std::iter::once(&self.tag));
        tags.filter_map(|tag| {
            let at = name.rfind(tag)?;
            let digits = name.get(at + tag.len()..)?;
            Some((*tag, Sequence::parse(digits)?))
        })
        .next()
    }
}

/// The number at the end of a sequential znode's name.
///
/// The server's counter is a signed 32-bit number: behind 2147483647 comes -2147483648. So numbers
/// are compared by their distance, which orders all that can stand in one directory at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sequence<'n> {
    number: i32,
    text: &'n str,
}

impl<'n> Sequence<'n> {
    fn parse(text: &'n str) -> Option<Sequence<'n>> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.len() != 10 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Sequence {
            number: text.parse().ok()?,
            text,
        })
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.number
    }

    /// The digits as they stand in the name.
    #[must_use]
    pub const fn text(self) -> &'n str {
        self.text
    }
}

impl PartialOrd for Sequence<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sequence<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        0.cmp(&other.number.wrapping_sub(self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUTEX: Naming = Naming::new(Layout::Curator, "lock-", &[]);

    #[test]
    fn curators_names_are_read_by_what_stands_behind_the_last_tag() {
        let name = "_c_02555856-a1c0-4c8a-b3dd-4a188fc08782-lock-0000000001";
        let (tag, sequence) = MUTEX.parse(name).unwrap();
        assert_eq!(
            (tag, sequence.number(), sequence.text()),
            ("lock-", 1, "0000000001")
        );
    }

    #[test]
    fn foreign_names_have_no_place() {
        for name in [
            "x__lock__0000000003",
            "lock-",
            "lock-12",
            "lock-00000000aa",
            "leases",
        ] {
            assert_eq!(MUTEX.parse(name), None, "{name}");
        }
    }

    #[test]
    fn the_order_goes_on_behind_the_largest_number() {
        let last = Sequence::parse("2147483647").unwrap();
        let next = Sequence::parse("-2147483648").unwrap();
        assert!(last < next);
        assert!(Sequence::parse("0000000001").unwrap() < Sequence::parse("0000000002").unwrap());
    }
}
