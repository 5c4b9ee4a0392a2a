//! What tests need, ours and those of applications. Nothing here is in a server that runs.

pub mod wire;
