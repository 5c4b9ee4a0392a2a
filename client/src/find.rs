//! Znodes that can be found again by their names: protection, as Curator writes it.
//!
//! A protected znode's name starts with `_c_`, a random UUID and a dash. Whoever created it and
//! heard no answer lists the parent and knows. The listing stands behind a `sync`: a server that
//! lags could otherwise hide what the lost request had made. A request of an earlier connection
//! cannot take effect behind that, because the leader takes only what comes over the connection
//! that the session is attached to.
//!
//! A name alone proves nothing about an ephemeral: it is ours if its owner is our session.

use std::sync::Arc;

use quorate_proto::request::PathWatch;
use quorate_proto::{ErrorCode, OpCode, Reply, Request, Stat};
use rand::RngCore as _;

use crate::error::Reason;
use crate::session::{Failure, Response, Session, Submission};

/// Under which name a create can be found again.
#[derive(Clone, Debug)]
pub(crate) struct Protected {
    /// The server's path of the parent.
    pub(crate) parent: Arc<str>,
    /// What the name starts with, a dash at its end included.
    pub(crate) prefix: Arc<str>,
    pub(crate) is_ephemeral: bool,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The server's path.
    pub(crate) path: String,
    pub(crate) stat: Stat,
}

/// Why nobody knows whether there is something.
#[derive(Debug)]
pub(crate) enum FindError {
    Failed(Failure),
    Refused { code: i32, server: Arc<str> },
    Unreadable,
}

/// Whose form of protection stands in front of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protection {
    /// `_c_`, a UUID, a dash.
    Curator,
    /// A UUID's 32 digits.
    Kazoo,
}

/// A prefix that nobody else has: a random UUID (version 4) in the form that was asked for.
pub(crate) fn new_prefix(protection: Protection) -> String {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    let mut uuid = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if protection == Protection::Curator && matches!(at, 4 | 6 | 8 | 10) {
            uuid.push('-');
        }
        uuid.push_str(&format!("{byte:02x}"));
    }
    match protection {
        Protection::Curator => format!("_c_{uuid}-"),
        Protection::Kazoo => uuid,
    }
}

/// One request of nobody's operation.
pub(crate) async fn ask(
    session: &Session,
    generation: Option<u64>,
    request: &Request<'_>,
) -> Result<Response, FindError> {
    let mut submission = Submission::new(request).map_err(|_| FindError::Unreadable)?;
    submission.generation = generation;
    let response = session
        .submit(submission)
        .await
        .map_err(FindError::Failed)?;
    match response.err {
        0 => Ok(response),
        code => Err(FindError::Refused {
            code,
            server: response.server,
        }),
    }
}

impl Protected {
    /// Looks for the znode.
    pub(crate) async fn find(
        &self,
        session: &Session,
        generation: Option<u64>,
    ) -> Result<Option<Found>, FindError> {
        let sync = Request::Sync {
            path: Some((&*self.parent).into()),
        };
        let list = Request::GetChildren(PathWatch {
            path: (&*self.parent).into(),
            watch: false,
        });
        // Queued together, so that the listing follows the sync on one connection.
        let (synced, listed) = futures::join!(
            ask(session, generation, &sync),
            ask(session, generation, &list)
        );
        let synced = synced?;
        let listed = match listed {
            Err(FindError::Refused { code, .. }) if code == ErrorCode::NoNode.code() => {
                return Ok(None);
            }
            listed => listed?,
        };
        // The server's name is made anew for every connection.
        if !Arc::ptr_eq(&synced.server, &listed.server) {
            return Err(FindError::Failed(Failure {
                sent: false,
                session_gone: false,
                reason: Reason::ConnectionLost("between sync and listing".to_owned()),
                server: listed.server,
            }));
        }
        let Ok(Reply::Children(names)) = Reply::decode(OpCode::GetChildren, &listed.body) else {
            return Err(FindError::Unreadable);
        };
        for name in names.iter().filter(|name| name.starts_with(&*self.prefix)) {
            let path = match &*self.parent {
                "/" => format!("/{name}"),
                parent => format!("{parent}/{name}"),
            };
            let exists = Request::Exists(PathWatch {
                path: (&*path).into(),
                watch: false,
            });
            let response = match ask(session, generation, &exists).await {
                Err(FindError::Refused { code, .. }) if code == ErrorCode::NoNode.code() => {
                    continue;
                }
                response => response?,
            };
            let Ok(Reply::Stat(stat)) = Reply::decode(OpCode::Exists, &response.body) else {
                return Err(FindError::Unreadable);
            };
            let owner = if self.is_ephemeral {
                response.session.0
            } else {
                0
            };
            if stat.ephemeral_owner == owner {
                return Ok(Some(Found { path, stat }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_what_curator_takes_for_protection() {
        let prefix = new_prefix(Protection::Curator);
        assert_eq!(prefix.len(), 40);
        let uuid = prefix.strip_prefix("_c_").unwrap();
        let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12, 0]);
        assert!(uuid.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()));
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&uuid.as_bytes()[19]));
        assert_ne!(prefix, new_prefix(Protection::Curator));
        let hex = new_prefix(Protection::Kazoo);
        assert!(hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
