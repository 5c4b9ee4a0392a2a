//! A disk in memory that can be broken. For tests, and the storage of in-memory servers.
//!
//! It keeps what was written apart from what was synced. [`SimDisk::crash`] answers with the disk
//! as a power failure may leave it: of what was not synced, any 512-byte sector and any name
//! may be there or not. Pages are shared between the two views, and zero pages take no room.
//!
//! Same seed, same operations: same outcome. Time does not pass here, except for whoever meets
//! [`SimDisk::stall_syncs`] or [`SimDisk::slow_syncs`].

#![expect(
    clippy::indexing_slicing,
    reason = "offsets within a page are below its size; a broken test disk may panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{DirEntry, Disk, DiskFile};

const PAGE: usize = 4096;
const SECTOR: usize = 512;

type Pages = BTreeMap<u64, Arc<[u8; PAGE]>>;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct SimDisk {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    world: Mutex<World>,
    resumed: Condvar,
}

#[derive(Clone, Default)]
struct World {
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<NameChange>,
    files: BTreeMap<u64, File>,
    next_file: u64,
    faults: Faults,
    counts: Counts,
}

/// A change of names that no `sync_dir` has covered. A rename is one change.
#[derive(Clone)]
struct NameChange {
    dirs: [Option<PathBuf>; 2],
    unlink: Option<PathBuf>,
    link: Option<(PathBuf, u64)>,
}

#[derive(Clone, Default)]
struct File {
    len: u64,
    pages: Pages,
    durable_len: u64,
    durable: Pages,
    /// Pages that the next sync makes durable.
    dirty: BTreeSet<u64>,
    /// Pages whose sync failed: no later sync helps them, and a crash may leave either state.
    lost: BTreeSet<u64>,
}

#[derive(Clone, Default)]
struct Faults {
    cut_after: Option<u64>,
    fail_write: Option<u64>,
    fail_sync: Option<u64>,
    space: Option<u64>,
    lie_about_sync: bool,
    stalled: bool,
    waiting: u64,
    /// What each sync of content takes.
    sync_takes: Duration,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    operations: u64,
    writes: u64,
    syncs: u64,
}

impl SimDisk {
    /// An empty disk.
    pub(crate) fn new() -> SimDisk {
        SimDisk::default()
    }

    /// Operations that change the disk so far (writes, syncs, name changes): the cut points.
    pub(crate) fn operations(&self) -> u64 {
        self.world().counts.operations
    }

    /// Syncs of file content so far.
    #[cfg(test)]
    pub(crate) fn syncs(&self) -> u64 {
        self.world().counts.syncs
    }

    /// The power goes after the `n`th operation counted from the making of this disk: the next
    /// one fails, having had any part of its effect, and everything after it fails too.
    pub(crate) fn cut_after(&self, n: u64) {
        self.world().faults.cut_after = Some(n);
    }

    /// The `n`th write from now (1 = the next) fails with an I/O error.
    #[cfg(test)]
    pub(crate) fn fail_write(&self, n: u64) {
        let mut world = self.world();
        world.faults.fail_write = Some(world.counts.writes + n);
    }

    /// The `n`th sync of content from now fails with an I/O error. What it should have made
    /// durable stays readable, and no later sync makes it so, as on Linux.
    pub(crate) fn fail_sync(&self, n: u64) {
        let mut world = self.world();
        world.faults.fail_sync = Some(world.counts.syncs + n);
    }

    /// Room for so many more bytes, counted in file growth; then "no space left". `None`: no end.
    pub(crate) fn set_space(&self, bytes: Option<u64>) {
        self.world().faults.space = bytes;
    }

    /// From now on syncs answer at once and do nothing: a broken disk, for tests of tests.
    pub(crate) fn lie_about_sync(&self) {
        self.world().faults.lie_about_sync = true;
    }

    /// From now on syncs of content wait for [`SimDisk::resume_syncs`].
    pub(crate) fn stall_syncs(&self) {
        self.world().faults.stalled = true;
    }

    /// Syncs that wait for the end of a stall.
    #[cfg(test)]
    pub(crate) fn syncs_waiting(&self) -> u64 {
        self.world().faults.waiting
    }

    /// Ends a stall.
    pub(crate) fn resume_syncs(&self) {
        self.world().faults.stalled = false;
        self.shared.resumed.notify_all();
    }

    /// From now on each sync of content takes so long.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn slow_syncs(&self, each: Duration) {
        self.world().faults.sync_takes = each;
    }

    /// The disk as the next boot finds it after a power failure now. This one is left as it is.
    pub(crate) fn crash(&self, seed: u64) -> SimDisk {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = self.world().clone();
        world.faults = Faults::default();
        world.counts = Counts::default();
        // Extremes are as likely as mixtures: all forgotten, all kept, half and half.
        let keep = [0.0, 1.0, 0.5, 0.9, 0.1][rng.random_range(0..5)];
        for change in std::mem::take(&mut world.pending_names) {
            if rng.random_bool(keep) {
                change.apply(&mut world.durable_names);
            }
        }
        world.names = world.durable_names.clone();
        for file in world.files.values_mut() {
            file.crash(&mut rng, keep);
        }
        let alive: BTreeSet<u64> = world.names.values().copied().collect();
        world.files.retain(|id, _| alive.contains(id));
        SimDisk {
            shared: Arc::new(Shared {
                world: Mutex::new(world),
                resumed: Condvar::new(),
            }),
        }
    }

    /// The disk as another process finds it after this one was killed, without a power failure:
    /// everything written is there, synced or not. Faults are gone. This one is left as it is.
    pub(crate) fn kill(&self) -> SimDisk {
        let mut world = self.world().clone();
        world.faults = Faults::default();
        world.counts = Counts::default();
        SimDisk {
            shared: Arc::new(Shared {
                world: Mutex::new(world),
                resumed: Condvar::new(),
            }),
        }
    }

    /// Cuts or grows (with zeros) a file; as uncertain as a write until it is synced.
    #[cfg(test)]
    pub(crate) fn set_len(&self, path: &Path, len: u64) {
        let mut world = self.world();
        let id = world.names[path];
        world.file(id).set_len(len);
    }

    /// Flips bits of one stored byte, as rot does.
    #[cfg(test)]
    pub(crate) fn flip(&self, path: &Path, offset: u64, bits: u8) {
        let mut world = self.world();
        let id = world.names[path];
        let file = world.files.get_mut(&id).expect("a name has a file");
        let page = offset / PAGE as u64;
        let at = usize::try_from(offset % PAGE as u64).expect("below a page");
        for pages in [&mut file.pages, &mut file.durable] {
            let page = pages.entry(page).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[at] ^= bits;
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock()
    }
}

impl World {
    /// Counts an operation. `Err`: the power is gone; `Ok(true)`: it goes during this one.
    fn operate(&mut self) -> io::Result<bool> {
        self.counts.operations += 1;
        match self.faults.cut_after {
            Some(n) if self.counts.operations > n + 1 => Err(power_is_gone()),
            Some(n) => Ok(self.counts.operations > n),
            None => Ok(false),
        }
    }

    fn powered(&self) -> io::Result<()> {
        match self.faults.cut_after {
            Some(n) if self.counts.operations > n => Err(power_is_gone()),
            _ => Ok(()),
        }
    }

    fn file_id(&self, path: &Path) -> io::Result<u64> {
        let found = self.names.get(path).copied();
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn change_names(&mut self, unlink: Option<&Path>, link: Option<(&Path, u64)>) {
        let paths = [unlink, link.map(|(path, _)| path)];
        let change = NameChange {
            dirs: paths.map(|path| path.and_then(Path::parent).map(Path::to_owned)),
            unlink: unlink.map(Path::to_owned),
            link: link.map(|(path, id)| (path.to_owned(), id)),
        };
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }

    fn file(&mut self, id: u64) -> &mut File {
        // A removed file stays until its last handle goes; we keep it, tests are short.
        self.files.entry(id).or_default()
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        if let Some(path) = &self.unlink {
            names.remove(path);
        }
        if let Some((path, id)) = &self.link {
            names.insert(path.clone(), *id);
        }
    }
}

impl File {
    fn write(&mut self, mut buf: &[u8], mut offset: u64) {
        self.len = self.len.max(offset + buf.len() as u64);
        while !buf.is_empty() {
            let number = offset / PAGE as u64;
            let at = usize::try_from(offset % PAGE as u64).expect("below a page");
            let (now, later) = buf.split_at(buf.len().min(PAGE - at));
            let zero = now.iter().all(|byte| *byte == 0);
            if !zero || self.pages.contains_key(&number) {
                let page = self.pages.entry(number);
                let page = Arc::make_mut(page.or_insert_with(|| Arc::new([0; PAGE])));
                page[at..at + now.len()].copy_from_slice(now);
                self.dirty.insert(number);
            }
            offset += now.len() as u64;
            buf = later;
        }
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            let keep = len.div_ceil(PAGE as u64);
            for number in self.pages.split_off(&keep).into_keys() {
                self.dirty.insert(number);
            }
            let at = usize::try_from(len % PAGE as u64).expect("below a page");
            if let Some(page) = self.pages.get_mut(&(len / PAGE as u64)) {
                Arc::make_mut(page)[at..].fill(0);
                self.dirty.insert(len / PAGE as u64);
            }
        }
        self.len = len;
    }

    fn read(&self, buf: &mut [u8], mut offset: u64) -> usize {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        let mut rest = &mut buf[..len];
        while !rest.is_empty() {
            let at = usize::try_from(offset % PAGE as u64).expect("below a page");
            let (now, later) = rest.split_at_mut((PAGE - at).min(rest.len()));
            match self.pages.get(&(offset / PAGE as u64)) {
                Some(page) => now.copy_from_slice(&page[at..at + now.len()]),
                None => now.fill(0),
            }
            offset += now.len() as u64;
            rest = later;
        }
        len
    }

    fn sync(&mut self) {
        for number in std::mem::take(&mut self.dirty) {
            self.lost.remove(&number);
            match self.pages.get(&number) {
                Some(page) => self.durable.insert(number, Arc::clone(page)),
                None => self.durable.remove(&number),
            };
        }
        self.durable_len = self.len;
    }

    fn crash(&mut self, rng: &mut StdRng, keep: f64) {
        let uncertain: BTreeSet<u64> = self.dirty.union(&self.lost).copied().collect();
        for number in uncertain {
            let zero = || Arc::new([0; PAGE]);
            let new = self.pages.get(&number).cloned().unwrap_or_else(zero);
            let old = self.durable.entry(number).or_insert_with(zero);
            let old = Arc::make_mut(old);
            for (old, new) in old.chunks_mut(SECTOR).zip(new.chunks(SECTOR)) {
                if old != new && rng.random_bool(keep) {
                    old.copy_from_slice(new);
                }
            }
        }
        let (low, high) = (
            self.durable_len.min(self.len),
            self.durable_len.max(self.len),
        );
        let len = match rng.random_range(0..3) {
            0 => self.durable_len,
            1 => self.len,
            _ => rng.random_range(low..=high),
        };
        // `set_len` clears what stands behind the end, as a file system does.
        *self = File {
            len: high,
            pages: std::mem::take(&mut self.durable),
            ..File::default()
        };
        self.set_len(len);
        self.dirty = self.pages.keys().copied().collect();
        self.sync();
    }
}

fn power_is_gone() -> io::Error {
    io::Error::other("the power is gone")
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.world();
        if !world.dirs.contains(path.parent().unwrap_or(Path::new(""))) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let cut = world.operate()?;
        let id = world.next_file;
        world.next_file += 1;
        world.files.insert(id, File::default());
        world.change_names(None, Some((path, id)));
        drop(world);
        if cut {
            return Err(power_is_gone());
        }
        Ok(Box::new(SimFile {
            disk: self.clone(),
            id,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let world = self.world();
        world.powered()?;
        let id = world.file_id(path)?;
        Ok(Box::new(SimFile {
            disk: self.clone(),
            id,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        let id = world.file_id(from)?;
        let cut = world.operate()?;
        world.change_names(Some(from), Some((to, id)));
        if cut { Err(power_is_gone()) } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.file_id(path)?;
        let cut = world.operate()?;
        world.change_names(Some(path), None);
        if cut { Err(power_is_gone()) } else { Ok(()) }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let world = self.world();
        world.powered()?;
        if !world.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut found = Vec::new();
        for (path, id) in &world.names {
            if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
                && parent == dir
            {
                found.push(DirEntry {
                    name: name.to_string_lossy().into_owned(),
                    len: world.files[id].len,
                });
            }
        }
        Ok(found)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.powered()?;
        for dir in dir.ancestors() {
            world.dirs.insert(dir.to_owned());
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        if world.operate()? {
            return Err(power_is_gone());
        }
        if world.faults.lie_about_sync {
            return Ok(());
        }
        let world = &mut *world;
        world.pending_names.retain(|change| {
            let covered = change.dirs.iter().flatten().any(|changed| changed == dir);
            if covered {
                change.apply(&mut world.durable_names);
            }
            !covered
        });
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    id: u64,
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.disk.world();
        world.powered()?;
        Ok(world.file(self.id).read(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        let cut = world.operate()?;
        world.counts.writes += 1;
        if world.faults.fail_write == Some(world.counts.writes) {
            return Err(io::Error::other("the write failed"));
        }
        let end = offset + buf.len() as u64;
        let growth = end.saturating_sub(world.file(self.id).len);
        let room = world.faults.space.unwrap_or(u64::MAX);
        // What fits is written, as on a real disk.
        let fits = growth.min(room);
        let part = buf.len() - usize::try_from(growth - fits).unwrap_or(buf.len());
        world.file(self.id).write(&buf[..part], offset);
        if let Some(space) = &mut world.faults.space {
            *space -= fits;
        }
        if cut {
            return Err(power_is_gone());
        }
        if part < buf.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let takes = self.disk.world().faults.sync_takes;
        if !takes.is_zero() {
            #[expect(
                clippy::disallowed_methods,
                reason = "a slow disk is one that lets its caller wait"
            )]
            std::thread::sleep(takes);
        }
        let mut world = self.disk.world();
        world.faults.waiting += 1;
        while world.faults.stalled {
            self.disk.shared.resumed.wait(&mut world);
        }
        world.faults.waiting -= 1;
        if world.operate()? {
            return Err(power_is_gone());
        }
        world.counts.syncs += 1;
        if world.faults.lie_about_sync {
            return Ok(());
        }
        let fails = world.faults.fail_sync == Some(world.counts.syncs);
        let file = world.file(self.id);
        if fails {
            let dirty = std::mem::take(&mut file.dirty);
            file.lost.extend(dirty);
            return Err(io::Error::other("the sync failed"));
        }
        file.sync();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut world = self.disk.world();
        world.powered()?;
        Ok(world.file(self.id).len)
    }
}

#[cfg(test)]
mod tests;
