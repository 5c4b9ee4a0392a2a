//! Random programs beside a model, and the check of what a reopened log holds.
//!
//! The rule that everything here checks: after a crash the log is what it was after one of the
//! steps given so far, and not an earlier one than the last that was acknowledged.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// What the log should be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    purged: Option<(u64, u64)>,
    entries: Vec<LogEntry>,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
}

/// One call, with the hint that is given just before it and rides along.
#[derive(Clone, Debug)]
pub(super) struct Step {
    hint: Option<Bytes>,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Append(Vec<LogEntry>),
    Vote(Bytes),
    Truncate(Option<u64>),
    Purge(u64, u64),
}

impl Model {
    fn next(&self) -> u64 {
        let purged = self.purged.map_or(0, |(_, index)| index + 1);
        self.entries.last().map_or(purged, |last| last.index + 1)
    }

    fn of(log: &Log) -> Result<Model, LogError> {
        let state = log.state();
        let model = Model {
            purged: state.purged,
            entries: log.read(0, u64::MAX, usize::MAX)?,
            vote: state.vote,
            committed: state.committed,
        };
        let last = model.entries.last().map(|last| (last.term, last.index));
        assert_eq!(state.last, last.or(model.purged));
        Ok(model)
    }

    /// A step that makes sense now.
    pub(super) fn random_step(&self, rng: &mut StdRng, term: u64) -> Step {
        let next = self.next();
        let first = self.purged.map_or(0, |(_, index)| index + 1);
        let what = match rng.random_range(0..20) {
            0 => What::Vote(Bytes::from(format!("vote {term} {}", rng.random::<u16>()))),
            1 => What::Truncate(Some(rng.random_range(first.max(1) - 1..=next))),
            2 if rng.random_bool(0.2) => What::Truncate(None),
            3 if next > first => {
                let index = rng.random_range(first..next);
                let at = usize::try_from(index - first).unwrap();
                What::Purge(self.entries[at].term, index)
            }
            4 if rng.random_bool(0.2) => What::Purge(term, next + rng.random_range(0..5)),
            5 => {
                let mut large = entry(next, term);
                large.body = vec![7; rng.random_range(1000..12_000)].into();
                What::Append(vec![large])
            }
            _ => What::Append(entries(next..next + rng.random_range(1..6), term)),
        };
        let hint = rng.random_bool(0.3);
        let hint = hint.then(|| Bytes::from(format!("committed below {next}")));
        Step { hint, what }
    }

    pub(super) fn apply(&mut self, step: &Step) {
        match &step.what {
            What::Append(entries) => self.entries.extend_from_slice(entries),
            What::Vote(vote) => self.vote = Some(vote.clone()),
            What::Truncate(after) => {
                let keep = |entry: &LogEntry| after.is_some_and(|after| entry.index <= after);
                self.entries.retain(keep);
            }
            What::Purge(term, index) => {
                self.purged = Some((*term, *index));
                self.entries.retain(|entry| entry.index > *index);
            }
        }
    }
}

impl Step {
    pub(super) fn give(&self, log: &Log) -> Answer {
        if let Some(hint) = &self.hint {
            log.save_committed(hint.clone());
        }
        let (done, told) = done();
        match self.what.clone() {
            What::Append(entries) => log.append(entries, done),
            What::Vote(vote) => log.save_vote(vote, done),
            What::Truncate(after) => log.truncate_after(after, done),
            What::Purge(term, index) => log.purge_to(term, index, done),
        }
        told
    }
}

/// A log and everything it may be.
pub(super) struct Life {
    rng: StdRng,
    term: u64,
    /// Steps given so far.
    given: u64,
    /// What the log may be, oldest first, each with the number of the last step in it. The first
    /// is sure; a crash may undo the others.
    states: Vec<(u64, Model)>,
    options: LogOptions,
}

impl Life {
    pub(super) fn new(seed: u64) -> Life {
        let mut rng = StdRng::seed_from_u64(seed);
        let options = LogOptions {
            salt_seed: Some(rng.random()),
            ..options()
        };
        Life {
            rng,
            term: 1,
            given: 0,
            states: vec![(0, Model::default())],
            options,
        }
    }

    pub(super) fn options(&mut self) -> &mut LogOptions {
        &mut self.options
    }

    /// Gives so many steps in bursts of up to `burst`, and stops at the first that fails.
    pub(super) fn run(&mut self, log: &Log, steps: usize, burst: usize) {
        let mut left = steps;
        while left > 0 {
            let count = self.rng.random_range(1..=burst).min(left);
            left -= count;
            let mut told = Vec::new();
            for _ in 0..count {
                let mut model = self.states.last().unwrap().1.clone();
                let step = model.random_step(&mut self.rng, self.term);
                if step.hint.is_some() {
                    // It may ride with what was given just before.
                    model.committed.clone_from(&step.hint);
                    self.states.push((self.given, model.clone()));
                }
                model.apply(&step);
                told.push(step.give(log));
                self.given += 1;
                self.states.push((self.given, model));
            }
            let answers: Vec<bool> = told.iter().map(|t| t.recv().unwrap().is_ok()).collect();
            assert!(
                answers.is_sorted_by(|a, b| a >= b),
                "answers have one order"
            );
            let failed = answers.iter().filter(|ok| !**ok).count() as u64;
            let sure = self.given - failed;
            self.states.retain(|(step, _)| *step >= sure);
            if failed > 0 {
                return;
            }
            if self.rng.random_bool(0.1) {
                self.term += 1;
            }
        }
    }

    /// Opens what is left of a disk and says whether that is allowed.
    pub(super) fn reopen(&mut self, disk: &SimDisk) -> Result<Log, String> {
        let log = open_with(disk, self.options.clone()).map_err(|error| error.to_string())?;
        self.check(&log)?;
        Ok(log)
    }

    /// Says whether an open log is what it may be. Its disk may lose power meanwhile.
    pub(super) fn check(&mut self, log: &Log) -> Result<(), String> {
        let found = match Model::of(log) {
            Ok(found) => found,
            Err(LogError::Io { .. }) => return Ok(()),
            Err(other) => return Err(other.to_string()),
        };
        self.term += 1;
        match self.states.iter().rposition(|(_, state)| *state == found) {
            Some(_) => {
                // What was seen must not vanish later.
                self.states = vec![(self.given, found)];
                Ok(())
            }
            None => Err(format!("found {found:#?}\nallowed {:#?}", self.states)),
        }
    }
}
