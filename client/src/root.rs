//! The path that a client's paths hang below: a chroot, or a namespace in Curator's words.
//!
//! Servers see full paths. `/zookeeper/config` is the same for everybody: it is never below a root.

use std::borrow::Cow;
use std::sync::Arc;

use quorate_proto::path::{self, PathError};

use crate::path::PathArg;
use crate::watch::WatchedEvent;

/// A prefix without a slash at its end; empty for the server's own root.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Root(Option<Arc<str>>);

impl Root {
    /// Checks `below` and hangs it below this root.
    pub(crate) fn join(&self, below: &PathArg) -> Result<Root, PathError> {
        below.check()?;
        let below = below.as_str();
        if below == path::ROOT {
            return Ok(self.clone());
        }
        Ok(Root(Some(format!("{}{below}", self.prefix()).into())))
    }

    fn prefix(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// The prefix as a path of the server: `/` for its own root.
    pub(crate) fn as_path(&self) -> &str {
        self.0.as_deref().unwrap_or(path::ROOT)
    }

    /// The server's path of a caller's path that has been checked, or will be by the server.
    pub(crate) fn full<'p>(&self, below: &'p str) -> Cow<'p, str> {
        match &self.0 {
            None => Cow::Borrowed(below),
            Some(_) if below == path::CONFIG => Cow::Borrowed(below),
            Some(prefix) if below == path::ROOT => Cow::Owned(prefix.to_string()),
            Some(prefix) => Cow::Owned(format!("{prefix}{below}")),
        }
    }

    /// As [`full`](Root::full), without a copy where that can be.
    pub(crate) fn full_shared(&self, below: &Arc<str>) -> Arc<str> {
        match self.full(below) {
            Cow::Borrowed(_) => Arc::clone(below),
            Cow::Owned(full) => full.into(),
        }
    }

    /// The caller's path of a server's path; paths that are not below this root stay as they are.
    pub(crate) fn strip<'p>(&self, full: &'p str) -> &'p str {
        match full.strip_prefix(self.prefix()) {
            Some("") => path::ROOT,
            Some(below) if below.starts_with('/') => below,
            _ => full,
        }
    }

    pub(crate) fn strip_event(&self, event: WatchedEvent) -> WatchedEvent {
        if self.0.is_none() {
            return event;
        }
        WatchedEvent {
            path: self.strip(&event.path).to_owned(),
            ..event
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_below_the_root_and_come_back() {
        let root = Root::default()
            .join(&"/app".into())
            .unwrap()
            .join(&"/x".into())
            .unwrap();
        for (below, full) in [
            ("/", "/app/x"),
            ("/a", "/app/x/a"),
            ("/zookeeper/config", "/zookeeper/config"),
        ] {
            assert_eq!(root.full(below), full);
            assert_eq!(root.strip(full), below);
        }
        assert_eq!(
            root.strip("/app/xy"),
            "/app/xy",
            "a longer name is not below"
        );
        assert_eq!(Root::default().full("/a"), "/a");
        assert_eq!(Root::default().strip("/"), "/");
        assert_eq!(Root::default().join(&"/".into()).unwrap(), Root::default());
        assert!(Root::default().join(&"app".into()).is_err());
    }
}
