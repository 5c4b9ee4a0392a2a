//! One shard of the watch table: paths, who watches each, and what each connection watches.

use std::collections::HashMap;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{ConnId, Modes};

/// A connection's modes on one path.
#[derive(Clone, Copy, Debug)]
struct Watcher {
    conn: ConnId,
    modes: Modes,
}

/// Who watches a path. Most paths are watched by one.
#[derive(Debug)]
enum Watchers {
    One(Watcher),
    /// Sorted by connection.
    #[expect(clippy::box_collection, reason = "keeps the common case at 16 bytes")]
    Many(Box<Vec<Watcher>>),
}

#[derive(Debug)]
struct Slot {
    path: Box<str>,
    watchers: Watchers,
}

/// Paths live in numbered slots, so that both indexes cost four bytes an entry.
#[derive(Debug, Default)]
pub(super) struct Shard {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    by_path: HashTable<u32>,
    by_conn: HashMap<ConnId, HashTable<u32>>,
    watches: usize,
}

impl Watchers {
    fn as_slice(&self) -> &[Watcher] {
        match self {
            Watchers::One(one) => std::slice::from_ref(one),
            Watchers::Many(many) => many,
        }
    }

    fn modes(&self, conn: ConnId) -> Modes {
        let found = match self {
            Watchers::One(one) => (one.conn == conn).then_some(one),
            Watchers::Many(many) => many
                .binary_search_by_key(&conn, |w| w.conn)
                .ok()
                .and_then(|i| many.get(i)),
        };
        found.map_or(Modes(0), |w| w.modes)
    }

    /// Keeps the watchers that `keep` says yes to. True while anybody is left.
    fn retain(&mut self, mut keep: impl FnMut(&mut Watcher) -> bool) -> bool {
        match self {
            Watchers::One(one) => keep(one),
            Watchers::Many(many) => {
                many.retain_mut(keep);
                !many.is_empty()
            }
        }
    }

    /// Sets a connection's modes; none removes it. True while anybody is left.
    fn set(&mut self, conn: ConnId, modes: Modes) -> bool {
        match self {
            Watchers::One(one) if one.conn == conn => {
                one.modes = modes;
                !modes.is_empty()
            }
            Watchers::One(_) if modes.is_empty() => true,
            Watchers::One(one) => {
                let mut many = vec![*one, Watcher { conn, modes }];
                many.sort_unstable_by_key(|w| w.conn);
                *self = Watchers::Many(Box::new(many));
                true
            }
            Watchers::Many(many) => {
                match many.binary_search_by_key(&conn, |w| w.conn) {
                    Ok(at) if modes.is_empty() => {
                        many.remove(at);
                    }
                    Ok(at) => {
                        if let Some(watcher) = many.get_mut(at) {
                            watcher.modes = modes;
                        }
                    }
                    Err(_) if modes.is_empty() => {}
                    Err(at) => many.insert(at, Watcher { conn, modes }),
                }
                !many.is_empty()
            }
        }
    }
}

impl Shard {
    /// Arms modes and returns those that were not armed before.
    pub(super) fn add(
        &mut self,
        hasher: &DefaultHashBuilder,
        hash: u64,
        conn: ConnId,
        path: &str,
        modes: Modes,
    ) -> Modes {
        let Some(number) = self.find(hash, path) else {
            let watchers = Watchers::One(Watcher { conn, modes });
            let number = self.insert_slot(Slot {
                path: path.into(),
                watchers,
            });
            let slots = &self.slots;
            self.by_path
                .insert_unique(hash, number, |&n| hash_of(slots, hasher, n));
            self.index(hasher, conn, number);
            self.watches += modes.count();
            return modes;
        };
        let Some(slot) = self.slot_mut(number) else {
            return Modes(0);
        };
        let before = slot.watchers.modes(conn);
        slot.watchers.set(conn, before.with(modes));
        if before.is_empty() {
            self.index(hasher, conn, number);
        }
        let added = modes.without(before);
        self.watches += added.count();
        added
    }

    /// What a connection holds on a path.
    pub(super) fn modes(&self, hash: u64, conn: ConnId, path: &str) -> Modes {
        self.find(hash, path)
            .and_then(|number| self.slot(number))
            .map_or(Modes(0), |slot| slot.watchers.modes(conn))
    }

    /// Takes modes away and returns those that were armed.
    pub(super) fn remove(
        &mut self,
        hasher: &DefaultHashBuilder,
        hash: u64,
        conn: ConnId,
        path: &str,
        modes: Modes,
    ) -> Modes {
        let Some(number) = self.find(hash, path) else {
            return Modes(0);
        };
        let Some(slot) = self.slot_mut(number) else {
            return Modes(0);
        };
        let before = slot.watchers.modes(conn);
        let removed = before.only(modes);
        if removed.is_empty() {
            return removed;
        }
        let left = before.without(modes);
        let watched = slot.watchers.set(conn, left);
        self.watches -= removed.count();
        if left.is_empty() {
            self.unindex(hasher, conn, number);
        }
        if !watched {
            self.free_slot(hash, number);
        }
        removed
    }

    /// Takes a connection out of the shard; returns how many recursive watches it held.
    pub(super) fn remove_connection(&mut self, hasher: &DefaultHashBuilder, conn: ConnId) -> usize {
        let Some(numbers) = self.by_conn.remove(&conn) else {
            return 0;
        };
        let mut recursive = 0;
        for number in numbers {
            let Some(slot) = self.slot_mut(number) else {
                continue;
            };
            let modes = slot.watchers.modes(conn);
            let watched = slot.watchers.set(conn, Modes(0));
            let hash = hasher.hash_one(&*slot.path);
            self.watches -= modes.count();
            recursive += usize::from(modes.intersects(Modes::RECURSIVE));
            if !watched {
                self.free_slot(hash, number);
            }
        }
        recursive
    }

    /// Adds the connections that hold any of `once` or `stay` on the path, and disarms `once`.
    pub(super) fn fire(
        &mut self,
        hasher: &DefaultHashBuilder,
        hash: u64,
        path: &str,
        once: Modes,
        stay: Modes,
        recipients: &mut Vec<ConnId>,
    ) {
        let Some(number) = self.find(hash, path) else {
            return;
        };
        let Some(slot) = self.slot_mut(number) else {
            return;
        };
        let told = once.with(stay);
        let (mut disarmed, mut gone) = (0, Vec::new());
        // One pass: a thousand one-shot watches on one path are fired by one change.
        let watched = slot.watchers.retain(|watcher| {
            if watcher.modes.intersects(told) {
                recipients.push(watcher.conn);
            }
            disarmed += watcher.modes.only(once).count();
            watcher.modes = watcher.modes.without(once);
            if watcher.modes.is_empty() {
                gone.push(watcher.conn);
            }
            !watcher.modes.is_empty()
        });
        self.watches -= disarmed;
        for conn in gone {
            self.unindex(hasher, conn, number);
        }
        if !watched {
            self.free_slot(hash, number);
        }
    }

    /// Adds the connections that hold any of `modes` on the path.
    pub(super) fn collect(
        &self,
        hash: u64,
        path: &str,
        modes: Modes,
        recipients: &mut Vec<ConnId>,
    ) {
        if let Some(slot) = self.find(hash, path).and_then(|number| self.slot(number)) {
            let watchers = slot.watchers.as_slice().iter();
            recipients.extend(
                watchers
                    .filter(|w| w.modes.intersects(modes))
                    .map(|w| w.conn),
            );
        }
    }

    pub(super) fn path_count(&self) -> usize {
        self.by_path.len()
    }

    pub(super) fn watch_count(&self) -> usize {
        self.watches
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.by_conn.keys().copied()
    }

    /// Visits paths until `visit` returns false; says whether it may go on.
    pub(super) fn visit(
        &self,
        visit: &mut impl FnMut(&str, &mut dyn Iterator<Item = ConnId>) -> bool,
    ) -> bool {
        self.slots.iter().flatten().all(|slot| {
            visit(
                &slot.path,
                &mut slot.watchers.as_slice().iter().map(|w| w.conn),
            )
        })
    }

    /// Visits the paths of a connection until `visit` returns false; says whether it may go on.
    pub(super) fn visit_connection(
        &self,
        conn: ConnId,
        visit: &mut impl FnMut(&str) -> bool,
    ) -> bool {
        let numbers = self.by_conn.get(&conn);
        let slots = numbers
            .into_iter()
            .flatten()
            .filter_map(|&number| self.slot(number));
        slots.map(|slot| &*slot.path).all(visit)
    }

    fn find(&self, hash: u64, path: &str) -> Option<u32> {
        self.by_path
            .find(hash, |&number| {
                self.slot(number).is_some_and(|slot| &*slot.path == path)
            })
            .copied()
    }

    fn slot(&self, number: u32) -> Option<&Slot> {
        self.slots.get(number as usize)?.as_ref()
    }

    fn slot_mut(&mut self, number: u32) -> Option<&mut Slot> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    fn insert_slot(&mut self, slot: Slot) -> u32 {
        if let Some(number) = self.free.pop()
            && let Some(place) = self.slots.get_mut(number as usize)
        {
            *place = Some(slot);
            return number;
        }
        let number = u32::try_from(self.slots.len()).expect("memory ends long before 2^32 slots");
        self.slots.push(Some(slot));
        number
    }

    fn free_slot(&mut self, hash: u64, number: u32) {
        if let Ok(entry) = self.by_path.find_entry(hash, |&n| n == number) {
            entry.remove();
        }
        if let Some(place) = self.slots.get_mut(number as usize) {
            *place = None;
            self.free.push(number);
        }
    }

    fn index(&mut self, hasher: &DefaultHashBuilder, conn: ConnId, number: u32) {
        let numbers = self.by_conn.entry(conn).or_default();
        numbers.insert_unique(hasher.hash_one(number), number, |n| hasher.hash_one(n));
    }

    fn unindex(&mut self, hasher: &DefaultHashBuilder, conn: ConnId, number: u32) {
        let Some(numbers) = self.by_conn.get_mut(&conn) else {
            return;
        };
        if let Ok(entry) = numbers.find_entry(hasher.hash_one(number), |&n| n == number) {
            entry.remove();
        }
        if numbers.is_empty() {
            self.by_conn.remove(&conn);
        }
    }
}

fn hash_of(slots: &[Option<Slot>], hasher: &DefaultHashBuilder, number: u32) -> u64 {
    slots
        .get(number as usize)
        .and_then(Option::as_ref)
        .map_or(0, |slot| hasher.hash_one(&*slot.path))
}
