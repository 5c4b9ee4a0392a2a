//! Who gets the next request: all backends that are there, each as often as its weight says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use futures::StreamExt as _;
use parking_lot::Mutex;
use quorate_recipes::membership::{Change, Group, Member};
use tokio::sync::watch;

use crate::common::Outcome;
use crate::http;

/// So much less is due to a backend that did not answer: it is tried again after some fifty requests.
const PENALTY: i64 = 50;

/// A backend that is there.
struct Share {
    name: String,
    address: String,
    weight: i64,
    /// Grows by its weight with each request, and falls by the sum of all when it gets one.
    due: i64,
}

#[derive(Clone, Default)]
pub(crate) struct Shares {
    backends: Arc<Mutex<Vec<Share>>>,
    names: Arc<watch::Sender<BTreeSet<String>>>,
    answered: Arc<watch::Sender<u32>>,
    again: Arc<AtomicU32>,
}

impl Shares {
    /// Follows the group for as long as it can be followed.
    pub(crate) async fn follow(self, group: Group) {
        let mut changes = group.changes();
        while let Some(Ok(change)) = changes.next().await {
            match change {
                Change::Joined(member) | Change::Rejoined(member) => self.add(&member),
                Change::Left(member) => self.remove(&member.id),
                _ => {}
            }
        }
    }

    fn add(&self, member: &Member) {
        let text = String::from_utf8_lossy(&member.payload);
        let parsed = text.split_once(' ').and_then(|(address, weight)| {
            Some((address.to_owned(), weight.parse::<i64>().ok()?.max(1)))
        });
        self.remove(&member.id);
        // A payload that says nothing of use is no backend.
        if let Some((address, weight)) = parsed {
            self.backends.lock().push(Share {
                name: member.id.clone(),
                address,
                weight,
                due: 0,
            });
            self.names.send_modify(|names| {
                names.insert(member.id.clone());
            });
        }
    }

    fn remove(&self, name: &str) {
        self.backends.lock().retain(|share| share.name != name);
        self.names.send_modify(|names| {
            names.remove(name);
        });
    }

    /// Waits until these are there.
    pub(crate) async fn until(&self, is: impl Fn(&BTreeSet<String>) -> bool) -> Outcome {
        self.names.subscribe().wait_for(|names| is(names)).await?;
        Ok(())
    }

    fn pick(&self, tried: &[String]) -> Option<(String, String)> {
        let mut backends = self.backends.lock();
        let open = |share: &&mut Share| !tried.contains(&share.name);
        let mut sum = 0;
        for share in backends.iter_mut().filter(open) {
            share.due += share.weight;
            sum += share.weight;
        }
        let next = backends
            .iter_mut()
            .filter(open)
            .max_by_key(|share| share.due)?;
        next.due -= sum;
        Some((next.name.clone(), next.address.clone()))
    }

    /// Lets a backend answer; where one does not, the next. Only for requests that may be repeated.
    pub(crate) async fn ask(self) -> Option<String> {
        let mut tried = Vec::new();
        while let Some((name, address)) = self.pick(&tried) {
            if let Ok(body) = http::get(&address).await {
                self.answered.send_modify(|answered| *answered += 1);
                return Some(body);
            }
            self.again.fetch_add(1, Relaxed);
            let mut backends = self.backends.lock();
            let failed = backends.iter_mut().find(|share| share.name == name);
            failed.into_iter().for_each(|share| share.due -= PENALTY);
            tried.push(name);
        }
        None
    }

    /// Waits until so many more requests are answered.
    pub(crate) async fn answered(&self, more: u32) -> Outcome {
        let mut answered = self.answered.subscribe();
        let goal = *answered.borrow() + more;
        answered.wait_for(|answered| *answered >= goal).await?;
        Ok(())
    }

    /// How often a backend that was asked did not answer.
    pub(crate) fn again(&self) -> u32 {
        self.again.load(Relaxed)
    }
}
