//! Proofs that reads are current, for a connection whose reads are linearizable.
//!
//! A read that came waits for a read index of the quorum that was asked for after it came, and for
//! local apply up to that. One proof is under way; it covers every read that came before it began,
//! so the reads of one pass over the socket share one, and so do those of other connections that
//! ask at the same time.
//!
//! Not here: the order of the line (`line`), what the quorum says (`replication`).
//!
//! Invariant: no read is covered by a proof that began before the read came.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use quorate_proto::OpCode;

use super::auth::ReadMode;
use crate::replication::Unavailable;

type Asking = Pin<Box<dyn Future<Output = Result<(), Unavailable>> + Send>>;

/// A read's place among those that need a proof.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Claim(u64);

/// The proofs of one connection; nothing until it asks for one.
#[derive(Default)]
pub(super) struct Proofs(Option<Box<Books>>);

struct Books {
    mode: ReadMode,
    /// Reads that came.
    came: u64,
    /// Of these, the first so many are proven.
    proven: u64,
    /// What it will have proven, and the question.
    under_way: Option<(u64, Asking)>,
}

impl Proofs {
    /// What reads that come from now on are to be.
    pub(super) fn set(&mut self, mode: ReadMode) {
        match &mut self.0 {
            Some(books) => books.mode = mode,
            None if mode == ReadMode::Local => {}
            None => {
                self.0 = Some(Box::new(Books {
                    mode,
                    came: 0,
                    proven: 0,
                    under_way: None,
                }));
            }
        }
    }

    /// A request came; its claim if it needs a proof.
    pub(super) fn claim(&mut self, op: OpCode) -> Option<Claim> {
        let books = self.0.as_deref_mut()?;
        if books.mode == ReadMode::Local || !shows_data(op) {
            return None;
        }
        books.came += 1;
        Some(Claim(books.came))
    }

    /// Whether what a read that came then would show is current.
    pub(super) fn covers(&self, claim: Claim) -> bool {
        self.0
            .as_deref()
            .is_some_and(|books| claim.0 <= books.proven)
    }

    /// Drives the proof under way, or begins one by `ask` if reads wait for it. Ready when one
    /// came to its end; never while no read waits.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        ask: impl FnOnce() -> Asking,
    ) -> Poll<Result<(), Unavailable>> {
        let Some(books) = self.0.as_deref_mut() else {
            return Poll::Pending;
        };
        if books.under_way.is_none() && books.proven == books.came {
            return Poll::Pending;
        }
        let came = books.came;
        let (upto, asking) = books.under_way.get_or_insert_with(|| (came, ask()));
        let upto = *upto;
        match asking.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(outcome) => {
                books.under_way = None;
                if outcome.is_ok() {
                    books.proven = upto;
                }
                Poll::Ready(outcome)
            }
        }
    }
}

/// Whether the reply shows what others wrote. Watches are armed and compared as of the moment:
/// they tell later what they did not see.
fn shows_data(op: OpCode) -> bool {
    matches!(
        op,
        OpCode::Exists
            | OpCode::GetData
            | OpCode::GetChildren
            | OpCode::GetChildren2
            | OpCode::GetAcl
            | OpCode::GetAllChildrenNumber
            | OpCode::GetEphemerals
            | OpCode::MultiRead
    )
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    /// Connects a question with the test's answer.
    fn question() -> (oneshot::Sender<Result<(), Unavailable>>, Asking) {
        let (answer, asked) = oneshot::channel();
        let asking = asked.map(|answered| answered.unwrap_or(Err(Unavailable::Stopping)));
        (answer, asking.boxed())
    }

    fn poll(proofs: &mut Proofs, ask: impl FnOnce() -> Asking) -> Poll<Result<(), Unavailable>> {
        proofs.poll(&mut Context::from_waker(std::task::Waker::noop()), ask)
    }

    fn never() -> Asking {
        panic!("nobody waits for a proof")
    }

    fn linearizable() -> Proofs {
        let mut proofs = Proofs::default();
        proofs.set(ReadMode::Linearizable);
        proofs
    }

    #[test]
    fn local_reads_and_requests_that_show_nothing_need_no_proof() {
        let mut proofs = Proofs::default();
        assert_eq!(proofs.claim(OpCode::GetData), None);
        proofs.set(ReadMode::Local);
        assert_eq!(proofs.claim(OpCode::GetData), None);
        let mut proofs = linearizable();
        for op in [OpCode::SetData, OpCode::Sync, OpCode::SetWatches] {
            assert_eq!(proofs.claim(op), None, "{op:?}");
        }
        assert!(poll(&mut proofs, never).is_pending());
        assert!(proofs.claim(OpCode::GetData).is_some());
        proofs.set(ReadMode::Local);
        assert_eq!(proofs.claim(OpCode::GetData), None);
    }

    #[test]
    fn reads_of_one_pass_share_a_proof_and_later_ones_need_another() {
        let mut proofs = linearizable();
        let first = proofs.claim(OpCode::GetData).unwrap();
        let second = proofs.claim(OpCode::Exists).unwrap();
        let (answer, asking) = question();
        assert!(poll(&mut proofs, || asking).is_pending());
        let late = proofs.claim(OpCode::GetData).unwrap();
        answer.send(Ok(())).unwrap();
        assert!(matches!(poll(&mut proofs, never), Poll::Ready(Ok(()))));
        assert!(proofs.covers(first) && proofs.covers(second));
        assert!(!proofs.covers(late), "its proof began before it came");

        let (answer, asking) = question();
        answer.send(Ok(())).unwrap();
        assert!(matches!(poll(&mut proofs, || asking), Poll::Ready(Ok(()))));
        assert!(proofs.covers(late));
        assert!(poll(&mut proofs, never).is_pending());
    }

    #[test]
    fn a_proof_that_failed_covers_nothing() {
        let mut proofs = linearizable();
        let claim = proofs.claim(OpCode::GetData).unwrap();
        let (answer, asking) = question();
        answer.send(Err(Unavailable::NoLeader)).unwrap();
        assert!(matches!(poll(&mut proofs, || asking), Poll::Ready(Err(_))));
        assert!(!proofs.covers(claim));
    }
}
