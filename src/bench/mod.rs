//! `quorate bench`: measures any server of the ZooKeeper protocol.
//!
//! The way of one run: [`admin`] makes the znodes that the preset needs, [`mod@run`] opens the
//! connections on one or more threads and names the window of time that counts, each thread
//! [drives](drive) a [`workload`] over a [`net`], the [`record`]s are merged and
//! [reported](report). [`null`] is the other end: a server without state that says what this
//! machine could do at most.
//!
//! What this does not do: it is no client library. It keeps no watches over a reconnect, and a
//! lost connection ends the run, because a number that hides one is worth nothing.
//!
//! The generator shares its machine with the server it measures, so it must be cheap: requests
//! are encoded once and patched, one thread serves all connections with one `read` and one
//! `write` for everything that is due on a connection, and the clock is read once per batch.

mod admin;
mod args;
mod clock;
mod drive;
mod error;
mod net;
mod null;
mod process;
mod progress;
mod record;
mod report;
mod run;
mod template;
#[cfg(test)]
mod tests;
mod workload;

use std::process::ExitCode;

pub(crate) use self::args::BenchArgs;
use self::args::What;
pub(crate) use self::process::raise_file_limit;

/// Runs the command: 0 for a finished run, 1 where it could not be finished.
pub(crate) fn run(args: BenchArgs) -> ExitCode {
    raise_file_limit();
    let result = match args.what {
        What::NullServer(args) => null::run(&args),
        what => run::run(&what.plan()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&error);
            ExitCode::FAILURE
        }
    }
}
