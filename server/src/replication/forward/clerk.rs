//! The clerk: on the leader, serves the links of the couriers.
//!
//! What comes is judged before it goes near the log: apply stops a server that cannot read a
//! request, so none gets that far. What only a leader may ask for is left out; the server that
//! sent it led once, and what it judged then is void (R18).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use super::message::{FromLeader, ToLeader};
use super::{Confirmer, Role};
use crate::peers::{Caller, Handler, Link, LinkReader, LinkWriter};
use crate::replication::queue::{Guest, GuestNews, ProposeQueue, is_judgement};
use crate::replication::read_index::ReadIndex;
use crate::tree::txn::Proposal;

/// How long a link waits for a server that does not lead yet: its followers may know first that
/// it was elected, and it leads when the first entry of its term is applied.
const LEADING_WAIT: Duration = Duration::from_secs(1);
/// Answers that wait for the link.
const ANSWERS_MAX: usize = 32;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(in crate::replication) struct Clerk {
    pub(in crate::replication) queue: Arc<ProposeQueue>,
    pub(in crate::replication) role: watch::Receiver<Role>,
    pub(in crate::replication) reads: Arc<ReadIndex>,
    pub(in crate::replication) confirmer: Arc<Confirmer>,
}

impl Handler for Clerk {
    fn handle(&self, caller: Caller, link: Link) -> BoxFuture<'static, ()> {
        let clerk = self.clone();
        async move { clerk.serve(caller, link).await }.boxed()
    }
}

impl Clerk {
    async fn serve(mut self, caller: Caller, link: Link) {
        let leading = self
            .role
            .wait_for(|role| matches!(role, Role::Leading { .. }));
        let term = match tokio::time::timeout(LEADING_WAIT, leading).await {
            Ok(Ok(role)) => match *role {
                Role::Leading { term } => term,
                Role::Looking | Role::Following { .. } => return,
            },
            Ok(Err(_)) | Err(_) => return,
        };
        let guest = Guest::admit(&self.queue, term);
        let Link { reader, writer } = link;
        let (answers, to_send) = mpsc::channel(ANSWERS_MAX);
        let (reads, to_prove) = mpsc::channel(ANSWERS_MAX);
        let mut role = self.role.clone();
        let server = caller.server;
        tokio::select! {
            // Nothing is said any more once this server does not lead.
            biased;
            _ = role.wait_for(|role| *role != Role::Leading { term }) => {
                tracing::debug!(server, "a follower's link is closed: this server leads no more");
            }
            why = self.read(reader, term, &guest, &answers, &reads) => {
                tracing::debug!(server, why, "a follower's link ended");
            }
            () = write(writer, guest.news(), to_send) => {}
            () = prove(&self.reads, to_prove, &answers) => {}
        }
    }

    /// Takes in what the follower says, until the link ends; why it did.
    async fn read(
        &self,
        mut reader: LinkReader,
        term: u64,
        guest: &Guest,
        answers: &mpsc::Sender<FromLeader>,
        reads: &mpsc::Sender<u64>,
    ) -> String {
        loop {
            let body = match reader.recv().await {
                Ok(Some(body)) => body,
                Ok(None) => return "closed by the follower".to_owned(),
                Err(error) => return error.to_string(),
            };
            let message = match ToLeader::decode(body) {
                Ok(message) => message,
                Err(error) => return error.to_string(),
            };
            // The other ends of the channels live as long as this.
            match message {
                ToLeader::Requests {
                    number,
                    count,
                    requests,
                } => {
                    let Some((count, requests)) = vetted(count, requests) else {
                        return "its requests cannot be read".to_owned();
                    };
                    if let Err(error) = guest.push(number, count, requests) {
                        return error.to_string();
                    }
                }
                ToLeader::ReadIndex { number } => {
                    let _ = reads.send(number).await;
                }
                ToLeader::Touches { number, sessions } => {
                    let answer = match self.confirmer.confirm_here(term, &sessions) {
                        Some(confirmed) => FromLeader::Confirmed {
                            number,
                            refused: confirmed.refused,
                        },
                        None => FromLeader::Unproven { number },
                    };
                    let _ = answers.send(answer).await;
                }
            }
        }
    }
}

/// These requests, if apply can read them and they are as many as was said, without those that
/// only a leader may make.
pub(in crate::replication) fn vetted(count: u32, requests: Bytes) -> Option<(u32, Bytes)> {
    let mut kept: Option<BytesMut> = None;
    let mut kept_count = 0;
    let mut rest = &*requests;
    for _ in 0..count {
        let record = rest;
        let at = requests.len() - record.len();
        let proposal = Proposal::decode(&mut rest).ok()?;
        let record = record.get(..record.len() - rest.len())?;
        if is_judgement(&proposal.txn) {
            if kept.is_none() {
                kept = Some(BytesMut::from(requests.get(..at)?));
            }
            continue;
        }
        kept_count += 1;
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(record);
        }
    }
    if !rest.is_empty() {
        return None;
    }
    Some((kept_count, kept.map_or(requests, BytesMut::freeze)))
}

/// Sends answers, and how far the guest's requests are applied; returns when the link broke or
/// the guest was refused.
async fn write(
    mut writer: LinkWriter,
    mut taken: GuestNews,
    mut answers: mpsc::Receiver<FromLeader>,
) {
    loop {
        let mut message = tokio::select! {
            up_to = taken.next() => match up_to {
                Some(up_to) => FromLeader::Taken { up_to },
                None => return,
            },
            answer = answers.recv() => match answer {
                Some(answer) => answer,
                None => return,
            },
        };
        loop {
            if writer.feed(&message.encode()).await.is_err() {
                return;
            }
            match answers.try_recv() {
                Ok(answer) => message = answer,
                Err(_) => break,
            }
        }
        if writer.flush().await.is_err() {
            return;
        }
    }
}

/// Answers questions for a read index. Those that come while one is under way share the next.
async fn prove(
    reads: &ReadIndex,
    mut to_prove: mpsc::Receiver<u64>,
    answers: &mpsc::Sender<FromLeader>,
) {
    while let Some(first) = to_prove.recv().await {
        let mut numbers = vec![first];
        while numbers.len() < ANSWERS_MAX
            && let Ok(number) = to_prove.try_recv()
        {
            numbers.push(number);
        }
        let index = reads.index().await;
        for number in numbers {
            let answer = match &index {
                Ok(index) => FromLeader::ReadAt {
                    number,
                    index: *index,
                },
                Err(_) => FromLeader::Unproven { number },
            };
            if answers.send(answer).await.is_err() {
                return;
            }
        }
    }
}
