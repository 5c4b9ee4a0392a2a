//! A store outside of the coordination service, which protects itself with fencing tokens.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use quorate_recipes::FencingToken;

/// Takes a result only from those who come with no older token than all before.
#[derive(Clone, Default)]
pub(crate) struct Store(Arc<Mutex<BTreeMap<String, Vec<FencingToken>>>>);

impl Store {
    /// False: refused, for the token is older than one that was seen.
    pub(crate) fn write(&self, key: &str, token: FencingToken) -> bool {
        let mut results = self.0.lock();
        let tokens = results.entry(key.to_owned()).or_default();
        let is_old = tokens.last().is_some_and(|newest| token < *newest);
        if !is_old {
            tokens.push(token);
        }
        !is_old
    }

    /// How often each key was written.
    pub(crate) fn writes(&self) -> Vec<usize> {
        self.0.lock().values().map(Vec::len).collect()
    }
}
