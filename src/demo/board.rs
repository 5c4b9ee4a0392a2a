//! What the workload has done so far, for the display and for the count at the end.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::time::Instant;

const EVENTS_MAX: usize = 6;

#[derive(Clone)]
pub(super) struct Board(Arc<Counts>);

impl std::ops::Deref for Board {
    type Target = Counts;

    fn deref(&self) -> &Counts {
        &self.0
    }
}

#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

pub(super) struct Counts {
    began: Instant,
    pub(super) kills: Counter,
    /// Under the lock: additions of which the server said that they are done, of which nobody said
    /// anything, and what is there at the end.
    pub(super) added: Counter,
    pub(super) unknown: Counter,
    pub(super) there: Counter,
    pub(super) holder: Mutex<&'static str>,
    /// The election.
    pub(super) terms: Counter,
    pub(super) token: Counter,
    pub(super) backwards: Counter,
    pub(super) leader: Mutex<&'static str>,
    /// The queue: orders that are in for certain, and how often each was done.
    pub(super) put: Mutex<BTreeMap<String, u32>>,
    pub(super) done: Counter,
    /// The configuration: the last that was published, and what each subscriber runs.
    pub(super) published: Counter,
    pub(super) runs: [Counter; 3],
    /// The group.
    pub(super) members: Counter,
    events: Mutex<(usize, VecDeque<String>)>,
}

impl Board {
    pub(super) fn new() -> Board {
        Board(Arc::new(Counts {
            began: Instant::now(),
            kills: Counter::default(),
            added: Counter::default(),
            unknown: Counter::default(),
            there: Counter::default(),
            holder: Mutex::new("nobody"),
            terms: Counter::default(),
            token: Counter::default(),
            backwards: Counter::default(),
            leader: Mutex::new("nobody"),
            put: Mutex::default(),
            done: Counter::default(),
            published: Counter::default(),
            runs: [(); 3].map(|()| Counter::default()),
            members: Counter::default(),
            events: Mutex::default(),
        }))
    }

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    pub(super) fn event(&self, text: impl AsRef<str>) {
        let text = format!("{:6.1} s  {}", self.seconds(), text.as_ref());
        let mut events = self.events.lock();
        events.0 += 1;
        events.1.push_back(text);
        while events.1.len() > EVENTS_MAX {
            events.1.pop_front();
        }
    }

    /// Those that came after the first `told`, as far as they are kept.
    pub(super) fn events_from(&self, told: &mut usize) -> Vec<String> {
        let events = self.events.lock();
        let new = events.0 - *told;
        *told = events.0;
        let skip = events.1.len().saturating_sub(new);
        events.1.iter().skip(skip).cloned().collect()
    }

    fn runs(&self) -> String {
        let runs: Vec<_> = self.runs.iter().map(|run| run.get().to_string()).collect();
        runs.join(", ")
    }

    /// One line for a pipe.
    pub(super) fn line(&self) -> String {
        format!(
            "{:6.1} s  lock: {} additions · election: {} terms · queue: {} of {} done · \
             config: {} published, running {} · group: {} there",
            self.seconds(),
            self.added.get(),
            self.terms.get(),
            self.done.get(),
            self.put.lock().len(),
            self.published.get(),
            self.runs(),
            self.members.get(),
        )
    }

    /// The whole, for a terminal.
    pub(super) fn picture(&self) -> String {
        let mut text = format!("\n{:6.1} s\n", self.seconds());
        let mut row = |name: &str, what: String| {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "  {name:<10} {what}");
        };
        row(
            "lock",
            format!(
                "{:<8} holds it; {} additions",
                *self.holder.lock(),
                self.added.get()
            ),
        );
        row(
            "election",
            format!(
                "{:<8} leads with token {:x}; term {}",
                *self.leader.lock(),
                self.token.get(),
                self.terms.get()
            ),
        );
        row(
            "queue",
            format!(
                "{} orders in, {} done",
                self.put.lock().len(),
                self.done.get()
            ),
        );
        row(
            "config",
            format!(
                "{} published; subscribers run {}",
                self.published.get(),
                self.runs()
            ),
        );
        row(
            "group",
            format!("{} of 3 members are there", self.members.get()),
        );
        text.push('\n');
        for event in &self.events.lock().1 {
            let _ = writeln!(text, "{event}");
        }
        text
    }

    /// What was acknowledged and is not there, or is there twice.
    pub(super) fn losses(&self) -> Vec<String> {
        let mut losses = Vec::new();
        let (added, unknown, there) = (self.added.get(), self.unknown.get(), self.there.get());
        if there < added || there > added + unknown {
            losses.push(format!("lock: {added} additions, {there} are there"));
        }
        if self.backwards.get() > 0 {
            losses.push(format!(
                "election: {} terms went backwards",
                self.backwards.get()
            ));
        }
        for (order, times) in self.put.lock().iter().filter(|(_, times)| **times != 1) {
            losses.push(format!("queue: {order} was done {times} times"));
        }
        let published = self.published.get();
        if self.runs.iter().any(|run| run.get() != published) {
            losses.push(format!(
                "config: {published} published, {} run",
                self.runs()
            ));
        }
        if self.members.get() != 3 {
            losses.push(format!("group: {} of 3 members", self.members.get()));
        }
        losses
    }

    pub(super) fn summary(&self) -> String {
        let put = self.put.lock().len();
        let mut text = format!(
            "\nquorate demo: {:.0} s, 3 servers, leaders killed: {}\n  \
             lock       {} additions acknowledged, {} there{}\n  \
             election   {} terms, each with a larger token than the one before\n  \
             queue      {put} orders put, {} done\n  \
             config     {} published; the subscribers run {}\n  \
             group      {} of 3 members are there\n",
            self.seconds(),
            self.kills.get(),
            self.added.get(),
            self.there.get(),
            match self.unknown.get() {
                0 => String::new(),
                unknown => format!(", {unknown} of unknown outcome"),
            },
            self.terms.get(),
            self.done.get(),
            self.published.get(),
            self.runs(),
            self.members.get(),
        );
        let losses = self.losses();
        for loss in &losses {
            let _ = writeln!(text, "  LOST       {loss}");
        }
        if losses.is_empty() {
            text.push_str("nothing that was acknowledged is lost, and nothing was done twice\n");
        }
        text
    }
}
