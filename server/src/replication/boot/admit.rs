//! What the leader does for servers that come: it draws ids, and gives votes.
//!
//! An admission commits the new id as a learner, then tells it. The steward gives a participant its
//! vote when it has caught up, and in the same joint change takes the vote of the number's former
//! id. Nothing is remembered outside the log, so whoever leads next goes on where this one stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{BasicNode, ChangeMembers, Instant, RaftMetrics, ServerState};
use tokio_util::sync::CancellationToken;

use super::desk::Desk;
use super::first::{Told, ask_all};
use super::message::{Admitted, Member, Message};
use super::{ask, decide::Answer};
use crate::config::Ensemble;
use crate::replication::identity::Identity;
use crate::replication::role::{is_participant, is_settled};
use crate::replication::types::{Membership, Raft, Types, node_id, server_of};

type Metrics = RaftMetrics<Types>;

/// Stands in the place of a node's address: what it was admitted as. A list that is edited later
/// changes nobody's role silently (R23).
const PARTICIPANT: &str = "participant";
const OBSERVER: &str = "observer";

/// Entries that a learner may lack when it gets its vote. Few, or the ensemble would wait for them.
const LAG_MAX: u64 = 64;
/// A member that answered this recently is there.
const HEARD_WITHIN: Duration = Duration::from_secs(1);
/// How often the steward looks while there is something to do.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// And how often a server that does not serve asks around why.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// How long an admission may take; the log may have lost its quorum.
const ADMIT_WITHIN: Duration = Duration::from_millis(1500);

/// The ids of a server, the newest last. The incarnation of an id says nothing of its age (it may
/// wrap), the place in the log does; but of two ids one votes, and the other came later.
fn ids_of(membership: &Membership, server: u8) -> (Option<u64>, Vec<u64>) {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let ids = membership.nodes().map(|(&id, _)| id);
    let (votes, learns): (Vec<u64>, Vec<u64>) = ids
        .filter(|&id| server_of(id) == server)
        .partition(|id| voters.contains(id));
    (votes.last().copied(), learns)
}

/// The id under which a server was admitted last.
pub(super) fn newest_of(membership: &Membership, server: u8) -> Option<u64> {
    let (votes, learns) = ids_of(membership, server);
    learns.last().copied().or(votes)
}

/// Whether the leader heard this id lately.
fn heard(metrics: &Metrics, id: u64) -> bool {
    let heartbeats = metrics.heartbeat.as_ref();
    let last = heartbeats
        .and_then(|all| all.get(&id))
        .and_then(Option::as_ref);
    last.is_some_and(|last| last.elapsed() < HEARD_WITHIN)
}

fn leads(metrics: &Metrics) -> bool {
    let applied = metrics.last_applied.map(|applied| applied.leader_id.term);
    metrics.state == ServerState::Leader && applied == Some(metrics.current_term)
}

/// Draws an id for a server of the list. Both arms are answers.
pub(super) async fn admit(
    desk: &Desk,
    identity: &Identity,
    raft: &Raft,
    server: u8,
) -> Result<Message, Message> {
    let later = |why: &str| Message::Later(why.to_owned());
    let _one = desk
        .admission
        .try_lock()
        .map_err(|_| later("another server is being admitted"))?;
    let admission = async {
        not_there_already(desk, raft, server).await?;
        ship_the_beginning(identity, raft).await?;
        draw(desk, identity, raft, server).await
    };
    let admitted = tokio::time::timeout(ADMIT_WITHIN, admission).await;
    admitted.unwrap_or_else(|_| Err(later("the log does not move: a quorum is missing")))
}

/// A number that somebody uses is not given away.
async fn not_there_already(desk: &Desk, raft: &Raft, server: u8) -> Result<(), Message> {
    if desk.ensemble.server(server).is_none() {
        return Err(Message::Refused(format!(
            "server {server} is not in the list of the leader: add its `server.{server}` line"
        )));
    }
    let (newest, heard) = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        if !leads(&metrics) {
            return Err(Message::Later("it does not lead any more".into()));
        }
        let newest = newest_of(metrics.membership_config.membership(), server);
        (newest, newest.is_some_and(|id| heard(&metrics, id)))
    };
    let Some(old) = newest else {
        return Ok(());
    };
    let answer = ask(&*desk.links, server, &Message::Ask).await;
    if let Ok(Message::Member(Member { node, .. })) = answer
        && node == old
    {
        tracing::error!(
            server,
            "two servers have this number; one of them is a member"
        );
        // Whoever is there has been told, or cannot be.
        let _ = ask(&*desk.links, server, &Message::Twin).await;
        return Err(Message::Refused(format!(
            "two servers with number {server}: one is a member and runs. Correct the `myid` of one \
             of them"
        )));
    }
    if heard {
        return Err(Message::Later(format!(
            "server {server} was heard of a moment ago under its former id"
        )));
    }
    Ok(())
}

/// An ensemble that began with imported data has what no log tells: newcomers must be sent a
/// snapshot, so the log must not reach back to its beginning.
async fn ship_the_beginning(identity: &Identity, raft: &Raft) -> Result<(), Message> {
    let stopped = |_| Message::Later("this server is stopping".into());
    if identity.imported.is_none() || raft.metrics().borrow_watched().purged.is_some() {
        return Ok(());
    }
    if raft.metrics().borrow_watched().snapshot.is_none() {
        raft.trigger().snapshot().await.map_err(stopped)?;
    }
    let snapshot = raft
        .wait(Some(ADMIT_WITHIN))
        .metrics(|metrics| metrics.snapshot.is_some(), "a snapshot")
        .await
        .map_err(|_| Message::Later("the snapshot for new servers is being written".into()))?;
    let upto = snapshot.snapshot.map_or(0, |last| last.index);
    raft.trigger().purge_log(upto).await.map_err(stopped)?;
    raft.wait(Some(ADMIT_WITHIN))
        .metrics(|metrics| metrics.purged.is_some(), "the log cut")
        .await
        .map_err(|_| Message::Later("the log is being cut behind a snapshot".into()))?;
    Ok(())
}

/// Commits the new id, then says it.
///
/// The incarnation is the low half of the index behind the log's end. The admission itself writes
/// an entry there or later, and it is committed before the id is told: whoever leads next draws
/// from a higher index. The same id could come again 2^32 entries later, to the entry, for a
/// server that was removed meanwhile; ids of the membership in force are passed over.
async fn draw(
    desk: &Desk,
    identity: &Identity,
    raft: &Raft,
    server: u8,
) -> Result<Message, Message> {
    let (node, stale) = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        if membership.get_joint_config().len() > 1 {
            return Err(Message::Later(
                "another change of members is under way".into(),
            ));
        }
        let taken: BTreeSet<u64> = membership.nodes().map(|(&id, _)| id).collect();
        let next = metrics.last_log_index.map_or(0, |last| last + 1);
        // 1 is the founder's.
        let incarnations = (next..).map(|n| u32::try_from(n & 0xffff_ffff).unwrap_or(0));
        let node = incarnations
            .filter(|&incarnation| incarnation > 1)
            .map(|incarnation| node_id(server, incarnation))
            .find(|id| !taken.contains(id));
        let (_, stale) = ids_of(membership, server);
        (node.unwrap_or(0), stale)
    };
    let role = if is_participant(&desk.ensemble, server) {
        PARTICIPANT
    } else {
        OBSERVER
    };
    let new = BTreeMap::from([(node, BasicNode::new(role))]);
    let mut changes = Vec::new();
    if !stale.is_empty() {
        changes.push(ChangeMembers::RemoveNodes(stale.into_iter().collect()));
    }
    changes.push(ChangeMembers::AddNodes(new));
    raft.change_membership(ChangeMembers::Batch(changes), true)
        .await
        .map_err(|error| Message::Later(format!("the admission failed: {error}")))?;
    tracing::info!(server, node = format_args!("{node:#x}"), "admitted");
    Ok(Message::Admitted(Admitted {
        cluster: identity.cluster_id,
        key: identity.cluster_key,
        node,
    }))
}

/// A server that was admitted runs now.
pub(super) async fn ready(raft: &Raft, server: u8, node: u64) -> Message {
    let (known, votes) = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.committed_membership_config.membership();
        let known = membership.get_node(&node).cloned();
        (known, membership.voter_ids().any(|id| id == node))
    };
    match known.filter(|_| server_of(node) == server) {
        None => Message::Later("that id is not known here".into()),
        Some(known) if votes || known.addr == OBSERVER => Message::InForce,
        Some(_) => {
            // It may have been dialled in vain for a while: the next attempt comes at once.
            let _ = raft.trigger().reset_backoff([node]).await;
            Message::Later("it has no vote yet".into())
        }
    }
}

/// Looks after the membership where it leads, and asks around where it does not serve.
pub(in crate::replication) struct Steward {
    pub(in crate::replication) raft: Raft,
    pub(in crate::replication) desk: Arc<Desk>,
    pub(in crate::replication) me: u8,
    pub(in crate::replication) serving: tokio::sync::watch::Receiver<bool>,
    pub(in crate::replication) stop: CancellationToken,
}

/// What the steward does next.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Task {
    /// Nothing until the membership or the role changes.
    Rest,
    /// Somebody catches up.
    Look,
    /// A change that a former leader began, or that this one could not finish.
    Finish,
    /// This learner votes from now on, instead of these.
    Promote(u64, BTreeSet<u64>),
}

fn task(metrics: &Metrics, ensemble: &Ensemble) -> Task {
    if !leads(metrics) {
        return Task::Rest;
    }
    if metrics.membership_config != metrics.committed_membership_config {
        return Task::Look;
    }
    let membership = metrics.membership_config.membership();
    if membership.get_joint_config().len() > 1 {
        return Task::Finish;
    }
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let mut task = Task::Rest;
    for (&id, node) in membership.nodes() {
        let server = server_of(id);
        if voters.contains(&id)
            || node.addr != PARTICIPANT
            || !is_participant(ensemble, server)
            || newest_of(membership, server) != Some(id)
        {
            continue;
        }
        let old: BTreeSet<u64> = voters
            .iter()
            .copied()
            .filter(|&voter| server_of(voter) == server)
            .collect();
        // A former id that answers is another server with the same number: it keeps its vote.
        let replaces = old.iter().all(|&id| !heard(metrics, id));
        if heard(metrics, id) && has_caught_up(metrics, id) && replaces {
            return Task::Promote(id, old);
        }
        task = Task::Look;
    }
    task
}

fn has_caught_up(metrics: &Metrics, id: u64) -> bool {
    let replication = metrics.replication.as_ref();
    let matched = replication
        .and_then(|all| all.get(&id))
        .and_then(Option::as_ref);
    let last = metrics.last_log_index.unwrap_or(0);
    matched.is_some_and(|matched| matched.index + LAG_MAX >= last)
}

impl Steward {
    pub(in crate::replication) async fn run(self) {
        tokio::select! {
            () = self.keep() => {}
            () = self.ask_around() => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn keep(&self) {
        let mut server = self.raft.server_metrics();
        loop {
            let of_the_role = server.borrow_and_update().clone();
            let task = {
                let metrics = self.raft.metrics();
                let metrics = metrics.borrow_watched();
                match is_settled(&of_the_role, &metrics) {
                    true => task(&metrics, &self.desk.ensemble),
                    false => Task::Look,
                }
            };
            let changed = match task {
                Task::Rest => {
                    // The first entry of a term is applied a moment after the role changed.
                    let elected = server.borrow_watched().state == ServerState::Leader;
                    let applied = !elected || leads(&self.raft.metrics().borrow_watched());
                    tokio::select! {
                        changed = server.changed() => changed.is_ok(),
                        () = tokio::time::sleep(LOOK_EVERY), if !applied => true,
                    }
                }
                Task::Look => {
                    tokio::time::sleep(LOOK_EVERY).await;
                    true
                }
                Task::Finish => self.change(Vec::new()).await,
                Task::Promote(id, old) => {
                    let mut changes = vec![ChangeMembers::AddVoterIds(BTreeSet::from([id]))];
                    if !old.is_empty() {
                        changes.push(ChangeMembers::RemoveVoters(old));
                    }
                    self.change(changes).await
                }
            };
            if !changed {
                return;
            }
        }
    }

    /// Whether the engine still runs.
    async fn change(&self, changes: Vec<ChangeMembers<u64, BasicNode>>) -> bool {
        let _one = self.desk.admission.lock().await;
        let changes = match changes.is_empty() {
            true => ChangeMembers::AddVoterIds(BTreeSet::new()),
            false => ChangeMembers::Batch(changes),
        };
        // Voters that lose their vote are no members any more.
        match self.raft.change_membership(changes, false).await {
            Ok(_) => {
                let metrics = self.raft.metrics();
                let voters: Vec<u8> = {
                    let metrics = metrics.borrow_watched();
                    let membership = metrics.membership_config.membership();
                    membership.voter_ids().map(server_of).collect()
                };
                tracing::info!(?voters, "the voters changed");
            }
            Err(error) => {
                tracing::warn!(%error, "the voters do not change");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        self.raft.metrics().borrow_watched().running_state.is_ok()
    }

    /// While this server does not serve: lets the leader know that it is there, and says what is
    /// in the way.
    async fn ask_around(&self) {
        let mut serving = self.serving.clone();
        let mut told = Told::new();
        loop {
            if serving.wait_for(|serving| !serving).await.is_err() {
                return;
            }
            let asked = tokio::time::Instant::now();
            if let Some(why) = self.what_is_in_the_way().await {
                told.tell(&why);
            }
            let pause = ASK_EVERY.min(asked.elapsed() + LOOK_EVERY * 5);
            tokio::select! {
                _ = serving.wait_for(|serving| *serving) => told = Told::new(),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn what_is_in_the_way(&self) -> Option<String> {
        let node = *self.raft.node_id();
        let (voters, leads) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let membership = metrics.committed_membership_config.membership();
            let voters: BTreeSet<u8> = membership.voter_ids().map(server_of).collect();
            (voters, leads(&metrics))
        };
        let answers = ask_all(&self.desk, self.me).await;
        let mut silent = Vec::new();
        for (&server, answer) in &answers {
            match answer {
                Answer::Member(member) if member.yours != 0 && member.yours != node => {
                    return Some(format!(
                        "server {server} knows server {} under another id than the one in this \
                         dataDir: it was admitted anew elsewhere. Empty this dataDir, or correct \
                         `myid`",
                        self.me
                    ));
                }
                Answer::Member(member) if member.leader == server => {
                    // It may be waiting for this server.
                    let _ = ask(&*self.desk.links, server, &Message::Ready { node }).await;
                }
                Answer::Member(_) | Answer::Empty(_) => {}
                Answer::Nothing(why) => silent.push(format!("server {server} ({why})")),
            }
        }
        let silent = match silent.is_empty() {
            true => String::new(),
            false => format!("; no answer from {}", silent.join(", ")),
        };
        let listed: Vec<u8> = self.desk.ensemble.participants().collect();
        Some(if leads {
            format!(
                "of the voters {listed:?} that are configured, {voters:?} are members yet, and \
                 clients are served from a majority on{silent}"
            )
        } else {
            format!("there is no leader, or this server is not a member yet{silent}")
        })
    }
}
