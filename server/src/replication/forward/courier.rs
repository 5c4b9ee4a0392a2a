//! The courier: on a server that does not lead, takes requests and errands to the one that does.
//!
//! One link at a time. When it ends, all that the leader did not take goes back to the queue and
//! leaves again, in order, over the next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_proto::SessionId;
use tokio::sync::{mpsc, oneshot};

use super::message::{FromLeader, ToLeader};
use super::{Errand, Patience};
use crate::peers::{Call, Link, LinkReader, LinkWriter, Purpose};
use crate::replication::entry::Header;
use crate::replication::queue::{Next, ProposeQueue, Way};

/// Pauses between two attempts to reach the same leader.
const RETRY_MIN: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_millis(200);

/// See the module.
pub(in crate::replication) struct Courier {
    pub(in crate::replication) queue: Arc<ProposeQueue>,
    pub(in crate::replication) call: Arc<dyn Call>,
    pub(in crate::replication) errands: mpsc::Receiver<Errand>,
    pub(in crate::replication) patience: Patience,
}

/// Why a link is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Entries go another way, or none are left.
    Turned,
    /// The link broke; something had come over it, or nothing at all.
    Broken { was_of_use: bool },
}

impl Courier {
    /// Serves one leader, until entries go another way than this or the queue has ended.
    pub(in crate::replication) async fn follow(&mut self, leader: u8, way: Way) {
        let mut pause = RETRY_MIN;
        while self.queue.way() == way && !self.queue.is_through() {
            let link = tokio::select! {
                link = self.call.call(leader, Purpose::Requests) => link,
                () = self.queue.turned(way) => break,
            };
            match link {
                Ok(link) => {
                    let end = self.serve(link, way).await;
                    self.queue.link_lost();
                    match end {
                        End::Turned => break,
                        End::Broken { was_of_use } if was_of_use => pause = RETRY_MIN,
                        End::Broken { .. } => {}
                    }
                }
                Err(error) => tracing::debug!(leader, %error, "the leader cannot be reached"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.queue.turned(way) => break,
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
        // Whoever waits for these asks again, in the role that comes now.
        while self.errands.try_recv().is_ok() {}
    }

    async fn serve(&mut self, link: Link, way: Way) -> End {
        let Link { reader, writer } = link;
        let asked = Mutex::new(Asked::default());
        let reading = read(reader, &self.queue, &asked);
        let writing = write(writer, &self.queue, way, &mut self.errands, &asked);
        let end = tokio::select! {
            // The leader may have closed because it leads no more: its last words first.
            biased;
            why = reading => {
                tracing::debug!(why, "the link to the leader ended");
                None
            }
            end = writing => end,
            () = overdue(&asked, self.patience.answer) => {
                tracing::debug!("the leader leaves questions unanswered");
                None
            }
            () = self.queue.turned(way) => Some(End::Turned),
        };
        end.unwrap_or(End::Broken {
            was_of_use: asked.lock().heard,
        })
    }
}

/// What this end said on a link and has no word of.
#[derive(Default)]
pub(in crate::replication) struct Asked {
    /// The newest frame of requests.
    pub(in crate::replication) sent: Option<u64>,
    next: u64,
    /// In the order in which they were asked.
    pub(in crate::replication) questions: VecDeque<Question>,
    /// Counts the looks of [`overdue`].
    looks: u64,
    heard: bool,
}

pub(in crate::replication) struct Question {
    number: u64,
    asked_at: u64,
    answer: Answer,
}

enum Answer {
    Index(oneshot::Sender<Option<u64>>),
    Refused(oneshot::Sender<Option<Vec<SessionId>>>),
}

impl Asked {
    /// The message for an errand; `None` if nobody waits for it any more.
    pub(in crate::replication) fn note(&mut self, errand: Errand) -> Option<ToLeader> {
        let number = self.next;
        let (message, answer) = match errand {
            Errand::ReadIndex(answer) if !answer.is_closed() => {
                (ToLeader::ReadIndex { number }, Answer::Index(answer))
            }
            Errand::Touches(sessions, answer) if !answer.is_closed() => {
                let touches = ToLeader::Touches { number, sessions };
                (touches, Answer::Refused(answer))
            }
            Errand::ReadIndex(_) | Errand::Touches(..) => return None,
        };
        self.next += 1;
        self.questions.push_back(Question {
            number,
            asked_at: self.looks,
            answer,
        });
        Some(message)
    }

    fn answer(&mut self, number: u64) -> Option<Answer> {
        let at = self.questions.iter().position(|q| q.number == number)?;
        self.questions.remove(at).map(|question| question.answer)
    }

    /// Takes in a message; the number up to which flights are taken, if it says so.
    pub(in crate::replication) fn hear(
        &mut self,
        message: FromLeader,
    ) -> Result<Option<u64>, &'static str> {
        self.heard = true;
        // Whoever asked may have gone away: then the answer goes nowhere.
        match message {
            FromLeader::Taken { up_to } if self.sent.is_some_and(|sent| up_to <= sent) => {
                return Ok(Some(up_to));
            }
            FromLeader::Taken { .. } => return Err("it took what was never sent"),
            FromLeader::ReadAt { number, index } => match self.answer(number) {
                Some(Answer::Index(answer)) => {
                    let _ = answer.send(Some(index));
                }
                _ => return Err("it answered what was not asked"),
            },
            FromLeader::Confirmed { number, refused } => match self.answer(number) {
                Some(Answer::Refused(answer)) => {
                    let _ = answer.send(Some(refused));
                }
                _ => return Err("it answered what was not asked"),
            },
            FromLeader::Unproven { number } => match self.answer(number) {
                Some(Answer::Index(answer)) => {
                    let _ = answer.send(None);
                }
                Some(Answer::Refused(answer)) => {
                    let _ = answer.send(None);
                }
                None => return Err("it answered what was not asked"),
            },
        }
        Ok(None)
    }
}

/// Takes in what the leader says, until the link ends; why it did.
async fn read(mut reader: LinkReader, queue: &ProposeQueue, asked: &Mutex<Asked>) -> String {
    loop {
        let body = match reader.recv().await {
            Ok(Some(body)) => body,
            Ok(None) => return "closed by the leader".to_owned(),
            Err(error) => return error.to_string(),
        };
        let message = match FromLeader::decode(body) {
            Ok(message) => message,
            Err(error) => return error.to_string(),
        };
        let heard = asked.lock().hear(message);
        match heard {
            Ok(Some(up_to)) => queue.taken(up_to),
            Ok(None) => {}
            Err(error) => return error.to_owned(),
        }
    }
}

/// Sends errands and requests as they come. `None`: the link broke.
async fn write(
    mut writer: LinkWriter,
    queue: &ProposeQueue,
    way: Way,
    errands: &mut mpsc::Receiver<Errand>,
    asked: &Mutex<Asked>,
) -> Option<End> {
    loop {
        // Errands are small and hold up whole sessions: none waits behind more than one frame.
        while let Ok(errand) = errands.try_recv() {
            let message = asked.lock().note(errand);
            if let Some(message) = message {
                writer.feed(&message.encode()).await.ok()?;
            }
        }
        // Only the leader's stamp counts: this header does not leave.
        let next = queue.next(way, |count| Header {
            wall_ms: 0,
            count,
            applied: None,
        });
        match next {
            Next::Frame {
                number,
                count,
                requests,
            } => {
                asked.lock().sent = Some(number);
                let message = ToLeader::Requests {
                    number,
                    count,
                    requests,
                };
                writer.feed(&message.encode()).await.ok()?;
                continue;
            }
            Next::Sleep => {}
            // Entries are for the engine: this is not the way any more.
            Next::Turn | Next::End | Next::Send { .. } | Next::Resend { .. } => {
                return Some(End::Turned);
            }
        }
        writer.flush().await.ok()?;
        tokio::select! {
            () = queue.wake() => {}
            errand = errands.recv() => {
                let message = asked.lock().note(errand?);
                if let Some(message) = message {
                    writer.feed(&message.encode()).await.ok()?;
                }
            }
        }
    }
}

/// Returns when a question was not answered for at least `patience`, and at most half as long
/// again.
async fn overdue(asked: &Mutex<Asked>, patience: Duration) {
    loop {
        tokio::time::sleep(patience / 2).await;
        let mut asked = asked.lock();
        asked.looks += 1;
        let looks = asked.looks;
        let oldest = asked.questions.front();
        if oldest.is_some_and(|oldest| oldest.asked_at + 2 < looks) {
            return;
        }
    }
}
