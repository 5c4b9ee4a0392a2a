//! A server without state: the limit of the machine.
//!
//! It does what every server of this protocol has to do, and nothing else: it takes connections,
//! answers the handshake, splits the stream into frames, and answers each with a body of the
//! right shape. With a [`disk`] every change is in a file and synced before its answer leaves,
//! all that wait together by one sync.
//!
//! What it does not: it keeps no znode, fires no watch and expires no session, so presets that
//! need one (locks, watches) cannot run against it.

mod answer;
mod disk;
mod serve;

use std::io::Write;
use std::path::Path;

use self::serve::Server;
use super::args::NullArgs;
use super::error::BenchError;

/// Serves until it is killed. The first line says where.
pub(super) fn run(args: &NullArgs) -> Result<(), BenchError> {
    let server = start(args)?;
    writeln!(std::io::stdout(), "listening on {}", server.address())
        .map_err(BenchError::io("write the address"))?;
    server.serve()
}

/// A server that listens and does not serve yet.
pub(super) fn start(args: &NullArgs) -> Result<Server, BenchError> {
    Server::bind(args.listen, args.fsync.as_deref().map(Path::new))
}
