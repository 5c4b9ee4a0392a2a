//! One line on the terminal that says how it goes. Nothing where stderr is no terminal.

use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;

use super::record::{Counters, Window};

const BAR: u64 = 20;

/// The line.
#[derive(Debug)]
pub(super) struct Progress {
    shown: bool,
    last: (u64, u64),
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress {
            shown: std::io::stderr().is_terminal(),
            last: (0, 0),
        }
    }

    /// Says what is being done before there is anything to count.
    pub(super) fn say(&self, text: &str) {
        self.write(&format!("\r\x1b[2K{text}"));
    }

    pub(super) fn update(&mut self, now: u64, window: Window, counters: &Counters) {
        let answers = counters.answers.load(Ordering::Relaxed);
        let errors = counters.errors.load(Ordering::Relaxed);
        let (last_at, last_answers) = std::mem::replace(&mut self.last, (now, answers));
        let elapsed = now.saturating_sub(last_at).max(1);
        let per_second = (answers - last_answers).saturating_mul(1_000_000_000) / elapsed;
        let line = if now < window.start {
            format!("\r\x1b[2Kwarming up   {per_second} op/s")
        } else if window.end == u64::MAX {
            format!("\r\x1b[2K{answers} done   {per_second} op/s   errors {errors}")
        } else {
            let whole = (window.end - window.start).max(1);
            let done = (now - window.start).min(whole);
            let filled = usize::try_from(done.saturating_mul(BAR) / whole).unwrap_or(0);
            let empty = usize::try_from(BAR).unwrap_or(0).saturating_sub(filled);
            format!(
                "\r\x1b[2K{:6.1}s ▕{}{}▏ {per_second} op/s   errors {errors}",
                seconds(done),
                "█".repeat(filled),
                " ".repeat(empty),
            )
        };
        self.write(&line);
    }

    /// Clears the line, so that what follows stands alone.
    pub(super) fn clear(&self) {
        self.write("\r\x1b[2K");
    }

    fn write(&self, text: &str) {
        if self.shown {
            let mut stderr = std::io::stderr();
            // A terminal that is gone must not end the run.
            let _ = stderr.write_all(text.as_bytes());
            let _ = stderr.flush();
        }
    }
}

/// Nanoseconds as seconds.
pub(super) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
