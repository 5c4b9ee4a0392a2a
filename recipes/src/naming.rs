//! How contenders are named, and in which order they stand.

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
/// The server's counter is a signed 32-bit number: behind 2147483647 comes -2147483648. So what
/// comes first is known only among the numbers of one directory.
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

/// A prefix that nobody else has, for a znode that is made under a name without a number.
pub(crate) fn new_protection(layout: Layout) -> String {
    // A random UUID: version 4, variant 1.
    let bits = rand::random::<u128>() & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    match layout {
        Layout::Kazoo => hex,
        Layout::Curator => {
            let mut uuid = hex;
            for dash in [20, 16, 12, 8] {
                uuid.insert(dash, '-');
            }
            format!("_c_{uuid}-")
        }
    }
}

/// Whether the numbers in one directory stand around the end of the counter: some shortly before
/// 2147483647 and some shortly behind -2147483648.
pub(crate) fn has_wrapped(numbers: impl Iterator<Item = i32>) -> bool {
    const NEAR_THE_END: i32 = 1 << 30;
    let (mut high, mut low) = (false, false);
    for number in numbers {
        high |= number >= NEAR_THE_END;
        low |= number < -NEAR_THE_END;
    }
    high && low
}

/// Where a number stands among those of its directory: a total order, whatever names anybody has
/// made up.
pub(crate) fn rank(number: i32, has_wrapped: bool) -> i64 {
    match has_wrapped {
        true => i64::from(number.cast_unsigned()),
        false => i64::from(number),
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
    fn a_new_protection_has_the_form_that_its_layout_reads() {
        let prefix = new_protection(Layout::Curator);
        let uuid = prefix.strip_prefix("_c_").unwrap();
        let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12, 0]);
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&uuid.as_bytes()[19]));
        assert_eq!(new_protection(Layout::Kazoo).len(), 32);
    }

    #[test]
    fn the_order_goes_on_behind_the_largest_number() {
        let sorted = |mut numbers: Vec<i32>| {
            let has_wrapped = has_wrapped(numbers.iter().copied());
            numbers.sort_by_key(|&number| rank(number, has_wrapped));
            numbers
        };
        assert_eq!(sorted(vec![i32::MIN, i32::MAX]), [i32::MAX, i32::MIN]);
        assert_eq!(sorted(vec![2, 1, 0]), [0, 1, 2]);
        assert_eq!(sorted(vec![0, -1]), [-1, 0]);
        // Made-up names are put in some order, the same for all.
        assert_eq!(sorted(vec![i32::MIN, 0, i32::MAX]), [0, i32::MAX, i32::MIN]);
    }
}
