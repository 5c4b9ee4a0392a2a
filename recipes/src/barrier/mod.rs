//! Barriers: a gate that somebody opens, and a meeting that starts and ends for all at once.

mod double;
mod gate;

pub use double::{DoubleBarrier, Inside};
pub use gate::Barrier;
