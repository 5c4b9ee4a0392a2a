//! What the generator does on its connections, one workload per kind of preset.

mod fanout;
mod lock;
mod pump;
mod storm;

pub(super) use self::fanout::Fanout;
pub(super) use self::lock::Lock;
pub(super) use self::pump::{NODES_PER_PARENT, Pump, PumpPlan};
pub(super) use self::storm::Storm;
