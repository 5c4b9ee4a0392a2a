//! How a server becomes a member, and how members keep in order who is one.
//!
//! First boot: empty servers ask each other what they are, one founds the ensemble alone, and it
//! admits the others one by one (R22). A wiped server is empty again: it is admitted under a new
//! id, and its old id loses its vote in the same change that gives the new one a vote. Later, the
//! same links tell a leader that died from one that cannot be reached ([`election`]).
//!
//! Not here: who serves clients (`role`), what is replicated (openraft), who may dial (`peers`).
//!
//! Invariants:
//! - A server without an identity votes for nobody: it runs no engine.
//! - An id is in the log before its server knows it, and no id is drawn twice.
//! - Only the leader changes who belongs, one change at a time, and only for servers of its own
//!   list.

mod admit;
mod decide;
mod desk;
pub(super) mod election;
mod first;
mod message;

#[cfg(test)]
pub(super) mod tests;

use std::io;
use std::time::Duration;

use sha2::{Digest, Sha256};

pub(super) use self::admit::Steward;
pub(super) use self::desk::Desk;
pub(super) use self::first::{Arrival, identity, unmark};
use self::message::Message;
use super::links::Links;
use crate::config::{Ensemble, Role};
use crate::peers::Purpose;

/// How long one question may take. A server that is there answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The file in dataDir by which an operator says that this server never held anything.
const MARKER: &str = "initialize";

/// Stands for the numbers and roles of a list. Two servers whose lists differ found nothing
/// together.
fn digest(ensemble: &Ensemble) -> u64 {
    let mut hash = Sha256::new();
    for line in &ensemble.servers {
        let role = match line.role {
            Role::Participant => 1,
            Role::Observer => 2,
        };
        hash.update([line.id, role]);
    }
    let hash = hash.finalize();
    hash.first_chunk()
        .map_or(0, |chunk| u64::from_be_bytes(*chunk))
}

/// One question over a link of its own, and the answer to it.
async fn ask(links: &dyn Links, server: u8, question: &Message) -> io::Result<Message> {
    let asked = async {
        let mut link = links.call(server, Purpose::Boot).await?;
        link.writer.send(&question.encode()).await?;
        let answer = link.reader.recv().await?;
        let answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
        Message::decode(&answer).map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))
    };
    let timeout = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    let answer = tokio::time::timeout(ANSWER_WITHIN, asked).await;
    answer.unwrap_or_else(|_| Err(timeout()))
}
