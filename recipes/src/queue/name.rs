//! What the items' names say: their place in the order, when they are due, whose they are.

use std::cmp::Ordering;

/// Whose znodes a queue writes and reads. Queues of different layouts do not see each other's items.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum QueueLayout {
    /// Curator's `DistributedQueue` and its kin: `queue-<number>`, framed.
    #[default]
    Curator,
    /// Curator's `SimpleDistributedQueue` and ZooKeeper's own: `qn-<number>`, at most once.
    Simple,
    /// kazoo's `LockingQueue`: `entries/entry-<priority>-<number>`, locked in `taken`.
    KazooLocking,
    /// kazoo's `Queue`: `entry-<priority>-<number>`, at most once.
    Kazoo,
}

/// In which order items are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum QueueOrder {
    /// As they were put.
    #[default]
    Fifo,
    /// The lowest priority first. kazoo's layouts always have priorities.
    Priority,
    /// As they are due, and not before. The clocks of all who take part must agree.
    Delay,
    /// As they were put; items have ids by which they can be removed.
    Id,
}

/// How a queue names its items.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Namer {
    pub(super) layout: QueueLayout,
    pub(super) order: QueueOrder,
}

/// What is said of an item when it is put.
#[derive(Clone, Default, Debug)]
pub(super) struct Wishes {
    pub(super) priority: Option<i32>,
    pub(super) due_ms: Option<i64>,
    pub(super) id: Option<String>,
}

/// The name of an item that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Name {
    pub(super) name: String,
    /// What stands in front of the number: with it the item is put again.
    pub(super) lead: String,
    number: i32,
    /// When it is due, in ms since 1970.
    pub(super) due_ms: i64,
    pub(super) id: Option<String>,
}

impl Namer {
    /// The directory of the items.
    pub(super) fn items(self, path: &str) -> String {
        match self.layout {
            QueueLayout::KazooLocking => format!("{path}/entries"),
            _ => path.to_owned(),
        }
    }

    pub(super) const fn is_framed(self) -> bool {
        matches!(self.layout, QueueLayout::Curator)
    }

    /// What stands in front of the number of an item that is put; an error if the queue has no
    /// place for what was asked.
    pub(super) fn lead(self, wishes: &Wishes) -> Result<String, &'static str> {
        let has_priority = self.order == QueueOrder::Priority && self.layout != QueueLayout::Simple;
        let is_kazoo = matches!(self.layout, QueueLayout::Kazoo | QueueLayout::KazooLocking);
        if wishes.priority.is_some() && !has_priority && !is_kazoo {
            return Err("this queue has no priorities");
        }
        if wishes.due_ms.is_some() && self.order != QueueOrder::Delay {
            return Err("this queue has no delays");
        }
        if wishes.id.is_some() && self.order != QueueOrder::Id {
            return Err("this queue has no ids");
        }
        let is_plain = matches!(self.order, QueueOrder::Fifo | QueueOrder::Priority);
        match self.layout {
            QueueLayout::Curator => Ok(self.curator_lead(wishes)),
            QueueLayout::Simple if self.order == QueueOrder::Fifo => Ok("qn-".to_owned()),
            QueueLayout::Kazoo | QueueLayout::KazooLocking if is_plain => {
                match wishes.priority.unwrap_or(100) {
                    priority @ 0..=999 => Ok(format!("entry-{priority:03}-")),
                    _ => Err("kazoo's priorities are 0 to 999"),
                }
            }
            _ => Err("this layout has no such order"),
        }
    }

    fn curator_lead(self, wishes: &Wishes) -> String {
        match self.order {
            QueueOrder::Fifo => "queue-".to_owned(),
            QueueOrder::Priority => {
                let priority = wishes.priority.unwrap_or(0);
                let sign = if priority >= 0 { '1' } else { '0' };
                format!("queue-{sign}{priority:08X}")
            }
            QueueOrder::Delay => format!("queue-|{:08X}|", wishes.due_ms.unwrap_or(0)),
            QueueOrder::Id => {
                let id = wishes.id.as_deref().unwrap_or_default();
                format!("queue-|{}|", safe_id(id))
            }
        }
    }

    /// Reads a child's name; `None` if it is no item of this queue.
    pub(super) fn parse(self, name: &str) -> Option<Name> {
        let prefix = match self.layout {
            QueueLayout::Curator => "queue-",
            QueueLayout::Simple => "qn-",
            QueueLayout::Kazoo | QueueLayout::KazooLocking => "entry-",
        };
        let rest = name.strip_prefix(prefix)?;
        let mut due_ms = 0;
        let mut id = None;
        let digits = match (self.layout, self.order) {
            // Where Curator puts an item back it forgets the priority and the delay.
            _ if number(rest).is_some() => rest,
            (QueueLayout::Kazoo | QueueLayout::KazooLocking, _) => {
                let (priority, digits) = rest.split_at_checked(3)?;
                priority.parse::<u16>().ok()?;
                digits.strip_prefix('-')?
            }
            (QueueLayout::Curator, QueueOrder::Priority) => {
                let (priority, digits) = rest.split_at_checked(9)?;
                priority
                    .bytes()
                    .all(|byte| byte.is_ascii_hexdigit())
                    .then_some(digits)?
            }
            (QueueLayout::Curator, QueueOrder::Delay | QueueOrder::Id) => {
                let (label, digits) = rest.strip_prefix('|')?.split_once('|')?;
                match self.order {
                    QueueOrder::Delay => due_ms = i64::from_str_radix(label, 16).ok()?,
                    _ => id = Some(label.to_owned()),
                }
                digits
            }
            _ => return None,
        };
        Some(Name {
            number: number(digits)?,
            lead: name.strip_suffix(digits)?.to_owned(),
            name: name.to_owned(),
            due_ms,
            id,
        })
    }

    /// The names of a listing that are items, the first first.
    pub(super) fn sort(self, names: Vec<String>) -> Vec<Name> {
        let mut items: Vec<Name> = names.iter().filter_map(|name| self.parse(name)).collect();
        items.sort_by(|a, b| self.compare(a, b));
        items
    }

    fn compare(self, a: &Name, b: &Name) -> Ordering {
        let labels = match self.order {
            QueueOrder::Delay => a.due_ms.cmp(&b.due_ms),
            // Ids have no order.
            QueueOrder::Id => Ordering::Equal,
            QueueOrder::Fifo | QueueOrder::Priority => a.lead.cmp(&b.lead),
        };
        // By distance: behind the largest number comes the smallest negative one.
        let numbers = || 0.cmp(&b.number.wrapping_sub(a.number));
        labels.then_with(numbers).then_with(|| a.name.cmp(&b.name))
    }
}

/// As Curator keeps an id from breaking the name.
pub(super) fn safe_id(id: &str) -> String {
    id.replace(['/', '|'], "_")
}

/// The server's number, ten digits at least.
fn number(text: &str) -> Option<i32> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = text.len() >= 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namer(order: QueueOrder) -> Namer {
        Namer {
            layout: QueueLayout::Curator,
            order,
        }
    }

    fn priority(priority: i32) -> String {
        let wishes = Wishes {
            priority: Some(priority),
            ..Wishes::default()
        };
        namer(QueueOrder::Priority).lead(&wishes).unwrap()
    }

    #[test]
    fn priorities_are_named_as_curator_names_them() {
        assert_eq!(priority(5), "queue-100000005");
        assert_eq!(priority(-5), "queue-0FFFFFFFB");
        assert_eq!(priority(i32::MAX), "queue-17FFFFFFF");
        assert_eq!(priority(i32::MIN), "queue-080000000");
        assert!(priority(i32::MIN) < priority(-5) && priority(-5) < priority(0));
    }

    #[test]
    fn delays_and_ids_are_named_as_curator_names_them() {
        let wishes = Wishes {
            due_ms: Some(1_790_000_000_000),
            ..Wishes::default()
        };
        let lead = namer(QueueOrder::Delay).lead(&wishes).unwrap();
        assert_eq!(lead, "queue-|1A0C4506C00|");
        let name = namer(QueueOrder::Delay)
            .parse("queue-|1A0C4506C00|0000000003")
            .unwrap();
        assert_eq!((name.due_ms, name.number), (1_790_000_000_000, 3));
        let wishes = Wishes {
            id: Some("a/b|c".to_owned()),
            ..Wishes::default()
        };
        let lead = namer(QueueOrder::Id).lead(&wishes).unwrap();
        assert_eq!(lead, "queue-|a_b_c|");
    }

    #[test]
    fn kazoos_entries_have_three_digits_of_priority() {
        let kazoo = Namer {
            layout: QueueLayout::KazooLocking,
            order: QueueOrder::Fifo,
        };
        assert_eq!(kazoo.lead(&Wishes::default()).unwrap(), "entry-100-");
        let name = kazoo.parse("entry-100-0000000007").unwrap();
        assert_eq!((name.lead.as_str(), name.number), ("entry-100-", 7));
        assert_eq!(kazoo.items("/q"), "/q/entries");
    }

    #[test]
    fn numbers_are_ordered_over_the_end_of_the_counter() {
        let names = ["queue--2147483648", "queue-2147483647", "other", "queue-12"];
        let sorted = namer(QueueOrder::Fifo).sort(names.map(str::to_owned).to_vec());
        let sorted: Vec<&str> = sorted.iter().map(|name| name.name.as_str()).collect();
        assert_eq!(sorted, ["queue-2147483647", "queue--2147483648"]);
    }

    #[test]
    fn what_curator_puts_back_without_its_label_is_still_an_item() {
        for order in [QueueOrder::Priority, QueueOrder::Delay, QueueOrder::Id] {
            let name = namer(order).parse("queue-0000000012").unwrap();
            assert_eq!((name.number, name.due_ms), (12, 0));
        }
    }

    #[test]
    fn wishes_that_a_queue_cannot_grant_are_refused() {
        let wishes = Wishes {
            priority: Some(1),
            ..Wishes::default()
        };
        assert!(namer(QueueOrder::Fifo).lead(&wishes).is_err());
        assert!(namer(QueueOrder::Delay).lead(&wishes).is_err());
        let simple = Namer {
            layout: QueueLayout::Simple,
            order: QueueOrder::Delay,
        };
        assert!(simple.lead(&Wishes::default()).is_err());
    }
}
