//! A whole ensemble in one thread, under a time and a network of its own: thousands of schedules a
//! minute, each the same every time that its seed is run.
//!
//! Real are: the tree and apply with its digests, the propose queue with its guests and the
//! dedupe of requests that come twice, the messages of forwarding, what a clerk makes of them and
//! what a courier remembers, the lease and the role's effect on it, sessions with their reports,
//! judgement, delivery, and the bytes of replies. In their place are models of: the log's
//! replication ([`raft`], in place of openraft), the network, disks, clocks, the tasks that drive
//! all these ([`server`]), and what a connection does for its client ([`desk`]).
//!
//! In a schedule, servers crash and lose what was not synced, stand still, are cut off both ways or
//! one way, hand leadership over; disks are slow, calendars jump, clocks run at different rates;
//! messages are late, early, lost, or come twice; links and connections break; clients fall
//! silent. Meanwhile five clients write, read, sync, and take a lock.
//!
//! In each schedule:
//! - what clients were told is a history of one machine (`history`, shared with the runs on real
//!   servers): acknowledged writes are there at the end, none was applied twice, `sync` and read
//!   see all that was acknowledged before, sessions do not read backwards;
//! - all servers have the same digest behind the same entry, and agree in the end;
//! - no session ends while its client may believe in it, and no lock is given to another before
//!   (R16 to R18);
//! - ephemerals are of living sessions.
//!
//! Not covered: openraft, snapshots and changes of members; files, sockets and tasks; the line of a
//! connection (`pipeline`), watches and ACLs. The runs on real servers in `tests/ensemble` have
//! those, at some tens of schedules a minute.
//!
//! `QUORATE_SEEDS=20000` runs that many schedules, `QUORATE_SEED=17` that one alone.

mod client;
mod clock;
mod desk;
mod faults;
#[path = "../../../tests/ensemble/history.rs"]
mod history;
mod raft;
mod server;
mod tests;
mod world;

use std::time::Duration;

use self::clock::Time;

/// The timeout of all sessions.
const T: Duration = Duration::from_millis(500);
const T_US: Time = 500_000;
/// For how long a client believes: its clock and the judge's differ in rate, by twice
/// [`DRIFT_PPM`] at most, and a bit.
const BELIEF: Time = T_US * 98 / 100;
const DRIFT_PPM: i64 = 5_000;
/// What a leader's lease lasts, and what a follower waits at least before it stands for election.
const LEASE: Duration = Duration::from_millis(100);
const HEARTBEAT: Duration = Duration::from_millis(25);
/// D of R17.
const SILENCE: Duration = Duration::from_millis(240);
const SWEEP_PAUSE: Duration = Duration::from_millis(40);
/// How long a leader may leave a question unanswered.
const PATIENCE: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_millis(10);
/// How often servers look at their clocks.
const TICK: Duration = Duration::from_millis(10);

/// A rule that is taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Plant {
    /// A server counts as stored what it has not synced.
    ReplyBeforeSync,
    /// The leader judges half a timeout early.
    ExpiresEarly,
    /// A server answers its clients, pings too, whatever it has heard from a leader.
    CutOffAnswers,
    /// A request that comes again is applied again.
    AppliedTwice,
    /// Whoever thinks that it leads says what is committed, without asking a quorum, and the
    /// session is not confirmed.
    DeposedSyncs,
}
