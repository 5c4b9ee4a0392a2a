//! From an empty directory to an identity: found, or be admitted.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;

use super::decide::{Answer, Decision, decide};
use super::desk::Desk;
use super::message::{Admitted, Empty, Message};
use super::{MARKER, ask, digest};
use crate::config::{Config, Ensemble};
use crate::disk::Disk;
use crate::replication::identity::Identity;
use crate::replication::start::{StartError, io_at};

/// Pause between two rounds of questions.
const ROUND: Duration = Duration::from_millis(100);
/// How often this server says what it waits for.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// How an empty server becomes a member.
pub(in crate::replication) enum Arrival {
    /// It founds the ensemble, with the data that it has.
    Founder,
    /// It joins one, with nothing.
    Joined(Identity),
}

/// Asks until one of both is certain. Serves no client, needs no engine, and says every five
/// seconds what it waits for.
///
/// # Cancel safety
/// May be dropped at any time. An id that was drawn and never used stays unused.
pub(in crate::replication) async fn identity(
    config: &Config,
    ensemble: &Ensemble,
    desk: &Desk,
    history: i64,
    disk: &dyn Disk,
) -> Result<Arrival, StartError> {
    let own = Empty {
        list: digest(ensemble),
        history,
        marked: is_marked(disk, &config.data_dir),
    };
    desk.is_empty(own);
    let mut told = Told::new();
    loop {
        let answers = ask_all(desk, config.my_id).await;
        let why = match decide(config.my_id, own, ensemble, &answers) {
            Decision::Found => return Ok(Arrival::Founder),
            Decision::Join(leader) => match join(config, desk, leader).await {
                Ok(admitted) => {
                    return Ok(Arrival::Joined(Identity {
                        node_id: admitted.node,
                        cluster_id: admitted.cluster,
                        cluster_key: admitted.key,
                        imported: None,
                    }));
                }
                Err(why) => why,
            },
            Decision::Wait(why) => why,
        };
        told.tell(&why);
        tokio::time::sleep(ROUND).await;
    }
}

/// What each of the other servers of the list says that it is.
pub(super) async fn ask_all(desk: &Desk, me: u8) -> BTreeMap<u8, Answer> {
    let others = desk.ensemble.servers.iter().map(|line| line.id);
    let questions = others
        .filter(|&server| server != me)
        .map(|server| async move {
            let answer = match ask(&*desk.links, server, &Message::Ask).await {
                Ok(Message::Empty(empty)) => Answer::Empty(empty),
                Ok(Message::Member(member)) => Answer::Member(member),
                Ok(Message::Later(why) | Message::Refused(why)) => Answer::Nothing(why),
                Ok(_) => Answer::Nothing("it answers something else".into()),
                Err(error) => Answer::Nothing(error.to_string()),
            };
            (server, answer)
        });
    join_all(questions).await.into_iter().collect()
}

async fn join(config: &Config, desk: &Desk, leader: u8) -> Result<Admitted, String> {
    match ask(&*desk.links, leader, &Message::Join).await {
        Ok(Message::Admitted(admitted)) if admitted.node >> 32 == u64::from(config.my_id) => {
            Ok(admitted)
        }
        Ok(Message::Later(why)) => Err(format!("server {leader} leads and says: {why}")),
        Ok(Message::Refused(why)) => Err(format!("server {leader} leads and refuses: {why}")),
        Ok(_) => Err(format!("server {leader} leads and answers something else")),
        Err(error) => Err(format!(
            "server {leader} leads and does not answer: {error}"
        )),
    }
}

fn is_marked(disk: &dyn Disk, data_dir: &Path) -> bool {
    disk.open(&data_dir.join(MARKER)).is_ok()
}

/// Takes the operator's word back: this server holds something now.
pub(in crate::replication) fn unmark(disk: &dyn Disk, data_dir: &Path) -> Result<(), StartError> {
    if !is_marked(disk, data_dir) {
        return Ok(());
    }
    disk.remove(&data_dir.join(MARKER))
        .map_err(io_at(data_dir))?;
    disk.sync_dir(data_dir).map_err(io_at(data_dir))
}

/// Says what is waited for: news soon, the same again after a while.
pub(super) struct Told {
    last: String,
    at: Option<tokio::time::Instant>,
}

impl Told {
    pub(super) fn new() -> Told {
        Told {
            last: String::new(),
            at: None,
        }
    }

    pub(super) fn tell(&mut self, why: &str) {
        let now = tokio::time::Instant::now();
        // What is true for a moment while everybody starts is nobody's business.
        let at = *self.at.get_or_insert(now);
        let every = if self.last.is_empty() {
            SAY_EVERY / 5
        } else {
            SAY_EVERY
        };
        if now.duration_since(at) < every {
            return;
        }
        tracing::warn!("waiting: {why}");
        self.at = Some(now);
        self.last.clear();
        self.last.push_str(why);
    }
}
