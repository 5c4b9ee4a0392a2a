//! Which paths are to be read, and which are being read. Pure.
//!
//! Invariant: what is marked while it is being read is read once more: the read may have been
//! answered before the change that the mark stands for.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

/// What to read of a znode.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Parts {
    pub(crate) node: bool,
    pub(crate) children: bool,
}

impl Parts {
    pub(crate) const NODE: Parts = Parts {
        node: true,
        children: false,
    };
    pub(crate) const CHILDREN: Parts = Parts {
        node: false,
        children: true,
    };
    pub(crate) const ALL: Parts = Parts {
        node: true,
        children: true,
    };

    const fn and(self, other: Parts) -> Parts {
        Parts {
            node: self.node || other.node,
            children: self.children || other.children,
        }
    }

    const fn is_none(self) -> bool {
        !self.node && !self.children
    }
}

#[derive(Default, Debug)]
struct Entry {
    wanted: Parts,
    is_reading: bool,
}

#[derive(Default, Debug)]
pub(crate) struct Work {
    at: HashMap<Arc<str>, Entry>,
    queue: VecDeque<Arc<str>>,
    reading: usize,
    /// Path text held.
    bytes: usize,
}

impl Work {
    pub(crate) fn mark(&mut self, path: &Arc<str>, parts: Parts) {
        let entry = match self.at.get_mut(path) {
            Some(entry) => entry,
            None => {
                self.bytes += path.len();
                self.at.entry(Arc::clone(path)).or_default()
            }
        };
        if entry.wanted.is_none() && !entry.is_reading {
            self.queue.push_back(Arc::clone(path));
        }
        entry.wanted = entry.wanted.and(parts);
    }

    /// Takes the next path to read.
    pub(crate) fn next(&mut self) -> Option<(Arc<str>, Parts)> {
        let path = self.queue.pop_front()?;
        let entry = self.at.get_mut(&path)?;
        entry.is_reading = true;
        self.reading += 1;
        Some((path, std::mem::take(&mut entry.wanted)))
    }

    /// A path was read, well or not.
    pub(crate) fn done(&mut self, path: &Arc<str>) {
        let Some(entry) = self.at.get_mut(path) else {
            return;
        };
        self.reading -= usize::from(entry.is_reading);
        entry.is_reading = false;
        if entry.wanted.is_none() {
            self.at.remove(path);
            self.bytes -= path.len();
        } else {
            self.queue.push_back(Arc::clone(path));
        }
    }

    pub(crate) fn is_marked(&self, path: &str) -> bool {
        self.at.contains_key(path)
    }

    /// Reads on their way.
    pub(crate) const fn reading(&self) -> usize {
        self.reading
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at.is_empty()
    }

    /// What the waiting paths take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.at.len() * 96
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_marked_twice_before_it_is_read_is_read_once() {
        let mut work = Work::default();
        let path: Arc<str> = "/a".into();
        work.mark(&path, Parts::NODE);
        work.mark(&path, Parts::CHILDREN);
        assert_eq!(work.next(), Some((Arc::clone(&path), Parts::ALL)));
        assert_eq!(work.next(), None);
        work.done(&path);
        assert!(work.is_empty());
        assert_eq!((work.reading(), work.bytes()), (0, 0));
    }

    #[test]
    fn what_is_marked_while_it_is_read_is_read_again() {
        let mut work = Work::default();
        let path: Arc<str> = "/a".into();
        work.mark(&path, Parts::NODE);
        work.next().unwrap();
        work.mark(&path, Parts::NODE);
        assert_eq!(work.next(), None, "not twice at the same time");
        work.done(&path);
        assert_eq!(work.next(), Some((path, Parts::NODE)));
    }
}
