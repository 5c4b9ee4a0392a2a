//! Answers the boot links of the others, from before this server has an identity to its end.

use std::sync::Arc;

use futures::future::BoxFuture;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;

use super::admit::{self, newest_of};
use super::message::{Empty, Member, Message, Seen};
use crate::config::Ensemble;
use crate::peers::{Caller, Handler, Link, Purpose};
use crate::replication::identity::Identity;
use crate::replication::links::SharedLinks;
use crate::replication::types::{Raft, server_of};

/// What this server says of itself.
#[derive(Clone)]
enum Standing {
    /// Nothing yet: its directories are being looked at.
    Opening,
    Empty(Empty),
    /// It has an identity; the engine may still be on its way.
    Member(Box<Identity>, Option<Raft>),
}

/// See the module.
pub(crate) struct Desk {
    pub(in crate::replication) ensemble: Ensemble,
    pub(in crate::replication) links: SharedLinks,
    standing: Mutex<Standing>,
    /// Held while a server is admitted: one at a time.
    pub(super) admission: tokio::sync::Mutex<()>,
}

impl Desk {
    /// The desk of a server of this ensemble. It does not serve yet.
    pub(in crate::replication) fn new(ensemble: Ensemble, links: SharedLinks) -> Arc<Desk> {
        Arc::new(Desk {
            ensemble,
            links,
            standing: Mutex::new(Standing::Opening),
            admission: tokio::sync::Mutex::new(()),
        })
    }

    /// Begins to serve.
    pub(in crate::replication) fn open(self: &Arc<Desk>) {
        let counter = Arc::new(Counter(self.clone()));
        self.links.serve(Purpose::Boot, counter);
    }

    /// From now on this server says that it is empty.
    pub(super) fn is_empty(&self, empty: Empty) {
        *self.standing.lock() = Standing::Empty(empty);
    }

    /// From now on this server says that it is a member.
    pub(in crate::replication) fn is_member(&self, identity: &Identity, raft: Option<Raft>) {
        let identity = Box::new(identity.clone());
        *self.standing.lock() = Standing::Member(identity, raft);
    }

    /// Says nothing more, and lets go of the engine.
    pub(in crate::replication) fn close(&self) {
        *self.standing.lock() = Standing::Opening;
    }

    /// `None`: no answer to that.
    async fn answer(&self, caller: Caller, question: Message) -> Option<Message> {
        let standing = self.standing.lock().clone();
        Some(match (question, standing) {
            (Message::Ask, Standing::Empty(empty)) => Message::Empty(empty),
            (Message::Ask, Standing::Member(identity, raft)) => {
                Message::Member(member(&identity, raft.as_ref(), caller))
            }
            (Message::Join, Standing::Member(identity, Some(raft))) => {
                let admission = admit::admit(self, &identity, &raft, caller.server);
                admission.await.unwrap_or_else(|answer| answer)
            }
            (Message::Ready { node }, Standing::Member(_, Some(raft))) => {
                admit::ready(&raft, caller.server, node).await
            }
            (Message::Gone { term, leader }, Standing::Member(_, Some(raft))) => {
                Message::Seen(self.seen(&raft, term, leader).await)
            }
            (Message::Twin, _) => {
                tracing::error!(
                    server = caller.server,
                    "another server with the number of this one asks to be admitted: correct the \
                     `myid` of one of them"
                );
                Message::InForce
            }
            (Message::Ask | Message::Join | Message::Ready { .. } | Message::Gone { .. }, _) => {
                Message::Later("this server is starting".into())
            }
            _ => return None,
        })
    }

    /// Whether this server, too, sees that nobody listens where that leader did.
    async fn seen(&self, raft: &Raft, term: u64, leader: u64) -> Seen {
        let (follows, last) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            let follows = metrics.current_leader == Some(leader) && metrics.current_term == term;
            (follows, super::election::claim(&metrics))
        };
        let gone = follows && super::election::is_refused(&*self.links, server_of(leader)).await;
        Seen { gone, last }
    }
}

fn member(identity: &Identity, raft: Option<&Raft>, caller: Caller) -> Member {
    let (leader, yours) = raft.map_or((0, 0), |raft| {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.current_leader.map_or(0, server_of);
        let membership = metrics.committed_membership_config.membership();
        (leader, newest_of(membership, caller.server).unwrap_or(0))
    });
    Member {
        cluster: identity.cluster_id,
        node: identity.node_id,
        leader,
        yours,
    }
}

/// The desk, as `peers` sees it.
struct Counter(Arc<Desk>);

impl Handler for Counter {
    /// Ends with the first frame that is no question.
    fn handle(&self, caller: Caller, mut link: Link) -> BoxFuture<'static, ()> {
        let desk = self.0.clone();
        Box::pin(async move {
            while let Ok(Some(frame)) = link.reader.recv().await {
                let question = match Message::decode(&frame) {
                    Ok(question) => question,
                    Err(error) => {
                        tracing::warn!(server = caller.server, %error, "a boot link is closed");
                        return;
                    }
                };
                let Some(answer) = desk.answer(caller, question).await else {
                    return;
                };
                if link.writer.send(&answer.encode()).await.is_err() {
                    return;
                }
            }
        })
    }
}
