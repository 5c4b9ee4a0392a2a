//! The names of a znode's children, sorted.
//!
//! Names stand one behind the other in leaves of about two kilobytes, so that a child costs its
//! name and a few bytes, and a listing is a walk along memory. The order is that of the bytes:
//! every server lists the same children in the same order.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;

/// Text of one leaf. Longer names get a leaf of their own.
const LEAF_BYTES: usize = 2048;

/// A sorted set of names.
#[derive(Default, Debug)]
pub(super) struct Names {
    len: u32,
    form: Form,
}

#[derive(Debug)]
enum Form {
    One(Leaf),
    /// Each leaf under a lower bound of its names; the first one under the empty string.
    Many(BTreeMap<Box<str>, Leaf>),
}

impl Default for Form {
    fn default() -> Form {
        Form::One(Leaf::default())
    }
}

#[derive(Default, Debug)]
struct Leaf {
    text: String,
    /// Where each name ends in `text`.
    ends: Vec<u32>,
}

impl Names {
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Adds a name; `false` if it was there.
    pub(super) fn insert(&mut self, name: &str) -> bool {
        let added = match &mut self.form {
            Form::One(leaf) => {
                if leaf.is_full(name) {
                    let first = std::mem::take(leaf);
                    let mut leaves = BTreeMap::new();
                    leaves.insert(Box::default(), first);
                    let added = insert_into(&mut leaves, name);
                    self.form = Form::Many(leaves);
                    added
                } else {
                    leaf.insert(name)
                }
            }
            Form::Many(leaves) => insert_into(leaves, name),
        };
        self.len += u32::from(added);
        added
    }

    /// Takes a name out; `false` if it was not there.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let removed = match &mut self.form {
            Form::One(leaf) => leaf.remove(name),
            Form::Many(leaves) => remove_from(leaves, name),
        };
        self.len -= u32::from(removed);
        if self.len == 0 {
            self.form = Form::default();
        }
        removed
    }

    /// All names, in order.
    pub(super) fn iter(&self) -> NamesIter<'_> {
        match &self.form {
            Form::One(leaf) => NamesIter {
                leaf: Some(leaf),
                next: 0,
                rest: None,
            },
            Form::Many(leaves) => NamesIter {
                leaf: None,
                next: 0,
                rest: Some(leaves.values()),
            },
        }
    }
}

fn insert_into(leaves: &mut BTreeMap<Box<str>, Leaf>, name: &str) -> bool {
    let upto = (Bound::Unbounded, Bound::Included(name));
    let Some((_, leaf)) = leaves.range_mut::<str, _>(upto).next_back() else {
        debug_assert!(false, "the first leaf is under the empty string");
        return false;
    };
    if !leaf.is_full(name) {
        return leaf.insert(name);
    }
    let Err(at) = leaf.find(name) else {
        return false;
    };
    let mut upper = if at == leaf.ends.len() {
        // Names mostly come in ascending order: leave this leaf full.
        leaf.shrink();
        Leaf::default()
    } else {
        leaf.split_off(leaf.ends.len().div_ceil(2))
    };
    match upper.first() {
        Some(first) if name < first => {
            let bound = first.into();
            leaf.insert(name);
            leaves.insert(bound, upper);
        }
        first => {
            let bound = first.unwrap_or(name).into();
            upper.insert(name);
            leaves.insert(bound, upper);
        }
    }
    true
}

fn remove_from(leaves: &mut BTreeMap<Box<str>, Leaf>, name: &str) -> bool {
    let upto = (Bound::Unbounded, Bound::Included(name));
    let Some((bound, leaf)) = leaves.range_mut::<str, _>(upto).next_back() else {
        return false;
    };
    if !leaf.remove(name) {
        return false;
    }
    if leaf.text.len() < LEAF_BYTES / 4 && !bound.is_empty() {
        // Joined with its left neighbour, so that a directory that shrank does not keep a leaf
        // for every name.
        let bound = bound.clone();
        let leaf = std::mem::take(leaf);
        let below = (Bound::Unbounded, Bound::Excluded(&*bound));
        match leaves.range_mut::<str, _>(below).next_back() {
            Some((_, left)) if left.text.len() + leaf.text.len() <= LEAF_BYTES / 2 => {
                left.append(&leaf);
                leaves.remove(&bound);
            }
            _ if leaf.ends.is_empty() => {
                leaves.remove(&bound);
            }
            _ => {
                leaves.insert(bound, leaf);
            }
        }
    }
    true
}

impl Leaf {
    fn is_full(&self, name: &str) -> bool {
        !self.ends.is_empty() && self.text.len() + name.len() > LEAF_BYTES
    }

    fn get(&self, at: usize) -> Option<&str> {
        let end = *self.ends.get(at)? as usize;
        self.text.get(self.start(at)..end)
    }

    fn start(&self, at: usize) -> usize {
        at.checked_sub(1)
            .and_then(|before| self.ends.get(before))
            .map_or(0, |&end| end as usize)
    }

    fn first(&self) -> Option<&str> {
        self.get(0)
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.get(middle).unwrap_or_default().cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    fn insert(&mut self, name: &str) -> bool {
        // The last name first: names mostly come in ascending order.
        let at = match self
            .ends
            .len()
            .checked_sub(1)
            .and_then(|last| self.get(last))
        {
            Some(last) if last < name => self.ends.len(),
            _ => match self.find(name) {
                Ok(_) => return false,
                Err(at) => at,
            },
        };
        let start = self.start(at);
        self.text.insert_str(start, name);
        let len = u32::try_from(name.len()).unwrap_or(u32::MAX);
        for end in self.ends.iter_mut().skip(at) {
            *end += len;
        }
        self.ends
            .insert(at, u32::try_from(start).unwrap_or(u32::MAX) + len);
        true
    }

    fn remove(&mut self, name: &str) -> bool {
        let Ok(at) = self.find(name) else {
            return false;
        };
        let start = self.start(at);
        self.text.replace_range(start..start + name.len(), "");
        self.ends.remove(at);
        let len = u32::try_from(name.len()).unwrap_or(u32::MAX);
        for end in self.ends.iter_mut().skip(at) {
            *end -= len;
        }
        true
    }

    fn split_off(&mut self, at: usize) -> Leaf {
        let start = self.start(at);
        let text = self.text.split_off(start);
        let start = u32::try_from(start).unwrap_or(u32::MAX);
        let ends = self
            .ends
            .split_off(at)
            .iter()
            .map(|end| end - start)
            .collect();
        self.shrink();
        Leaf { text, ends }
    }

    fn append(&mut self, upper: &Leaf) {
        let shift = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        self.text.push_str(&upper.text);
        self.ends.extend(upper.ends.iter().map(|end| end + shift));
    }

    fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

/// Iterates over sorted names.
pub(crate) struct NamesIter<'a> {
    leaf: Option<&'a Leaf>,
    next: usize,
    rest: Option<btree_map::Values<'a, Box<str>, Leaf>>,
}

impl<'a> NamesIter<'a> {
    /// Of a znode without children.
    pub(super) fn empty() -> NamesIter<'a> {
        NamesIter {
            leaf: None,
            next: 0,
            rest: None,
        }
    }
}

impl<'a> Iterator for NamesIter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            if let Some(name) = self.leaf.and_then(|leaf| leaf.get(self.next)) {
                self.next += 1;
                return Some(name);
            }
            self.leaf = Some(self.rest.as_mut()?.next()?);
            self.next = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_a_sorted_set_whatever_is_done_to_them() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut names = Names::default();
        let mut model = BTreeSet::new();
        for step in 0..20_000_u64 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let draw = state >> 33;
            let name = match draw % 5 {
                0 => format!("é{:03}", draw % 997),
                1 => "x".repeat((draw % 3000) as usize),
                _ => format!("n-{:010}", draw % 2000),
            };
            // Grows for a while, then shrinks.
            if (draw / 7).is_multiple_of(3) == (step / 5000).is_multiple_of(2) {
                assert_eq!(names.remove(&name), model.remove(&name));
            } else {
                assert_eq!(names.insert(&name), model.insert(name.clone()));
            }
            assert_eq!(names.len() as usize, model.len());
            if step % 500 == 0 {
                assert!(names.iter().eq(model.iter().map(String::as_str)));
            }
        }
        for name in &model {
            assert!(names.remove(name));
        }
        assert_eq!(names.len(), 0);
        assert_eq!(names.iter().next(), None);
    }

    #[test]
    fn ascending_names_fill_their_leaves() {
        let mut names = Names::default();
        for number in 0..10_000 {
            assert!(names.insert(&format!("n-{number:010}")));
        }
        let Form::Many(leaves) = &names.form else {
            panic!("ten thousand names do not fit into one leaf");
        };
        assert!(leaves.len() <= 10_000 * 12 / 2040 + 1, "{}", leaves.len());
    }
}
