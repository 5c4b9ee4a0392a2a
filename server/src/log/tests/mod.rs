//! The log over a disk that forgets, tears and fails.

mod basics;
mod crash;
mod damage;
mod faults;
mod model;
mod speed;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;

use super::{Done, Log, LogEntry, LogError, LogOptions};
use crate::clock::ManualClock;
use crate::disk::Disk;
use crate::disk::sim::SimDisk;
use crate::metrics::Metrics;

const DIR: &str = "/data/log";
const CLUSTER: [u8; 16] = *b"sixteen bytes id";

/// Tiny segments, a tiny ring, repeatable.
fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 8192,
        first_segment_bytes: 4096 + 1024,
        ring_bytes: 1000,
        helper_thread: false,
        salt_seed: Some(1),
        ..LogOptions::new(CLUSTER)
    }
}

fn open_with(disk: &SimDisk, options: LogOptions) -> Result<Log, LogError> {
    let clock = Arc::new(ManualClock::default());
    let metrics = Arc::new(Metrics::default());
    Log::open(
        Arc::new(disk.clone()),
        Path::new(DIR),
        options,
        metrics,
        clock,
    )
}

fn open(disk: &SimDisk) -> Log {
    open_with(disk, options()).unwrap()
}

fn entry(index: u64, term: u64) -> LogEntry {
    // Of many lengths, and telling whose it is.
    let len = usize::try_from(index * 37 % 90).unwrap();
    let mut body = format!("{index}/{term} ").into_bytes();
    body.resize(body.len() + len, b'x');
    LogEntry {
        index,
        term,
        body: Bytes::from(body),
    }
}

fn entries(range: std::ops::Range<u64>, term: u64) -> Vec<LogEntry> {
    range.map(|index| entry(index, term)).collect()
}

type Answer = Receiver<Result<(), LogError>>;

fn done() -> (Done, Answer) {
    let (tell, told) = channel();
    (Box::new(move |result| drop(tell.send(result))), told)
}

/// Does something and waits for the answer.
fn wait(call: impl FnOnce(Done)) -> Result<(), LogError> {
    let (done, told) = done();
    call(done);
    told.recv().expect("the callback is called")
}

fn append(log: &Log, entries: Vec<LogEntry>) -> Result<(), LogError> {
    wait(|done| log.append(entries, done))
}

fn read_all(log: &Log) -> Vec<LogEntry> {
    log.read(0, u64::MAX, usize::MAX).unwrap()
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let entries = disk.list(Path::new(DIR)).unwrap();
    let wal = entries.into_iter().filter(|e| e.name.ends_with(".wal"));
    let mut paths: Vec<PathBuf> = wal.map(|e| Path::new(DIR).join(e.name)).collect();
    paths.sort();
    paths
}

/// For what another thread is about to do.
fn wait_until(mut done: impl FnMut() -> bool) {
    while !done() {
        std::thread::yield_now();
    }
}
