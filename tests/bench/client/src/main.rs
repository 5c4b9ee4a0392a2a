//! One cell of the comparison: one client, one operation, so many outstanding, against a server
//! that runs already. Prints one line of JSON.
//!
//! ```text
//! quorate-bench-client LIBRARY OPERATION OUTSTANDING OPERATIONS SERVER [RUNTIME]
//! ```
//!
//! LIBRARY is `quorate`, `zookeeper-client` or `raw`, see [`raw`]; OPERATION `get`, `set` or `create`; RUNTIME `multi`
//! (the default: as many workers as there are cores) or `current`. The CPU time is the whole
//! process's, between the first timed call and the last answer. `watches` takes the place of
//! OPERATION in `quorate watches …`, see [`watches`].

mod cpu;
mod quorate;
mod raw;
mod watches;
mod zookeeper;

use std::error::Error;
use std::future::Future;
use std::time::{Duration, Instant};

use futures::StreamExt;

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Bytes in every znode.
pub const DATA: [u8; 100] = [b'x'; 100];

/// What one run is asked to do.
#[derive(Clone, Debug)]
pub struct Cell {
    pub operation: String,
    pub outstanding: usize,
    pub operations: usize,
    pub server: String,
}

impl Cell {
    /// A parent for this run alone.
    pub fn parent(&self) -> String {
        format!("/bench-{}-{}", std::process::id(), self.operation)
    }

    /// How many calls come before the clock starts.
    pub fn warm_up(&self) -> usize {
        self.operations / 10
    }
}

/// What one run took.
pub struct Taken {
    pub wall: Duration,
    pub cpu: Duration,
}

/// Keeps `cell.outstanding` calls open until all are answered, and times them.
pub async fn timed<F, E>(cell: &Cell, mut call: impl FnMut(usize) -> F) -> Result<Taken>
where
    F: Future<Output = std::result::Result<(), E>>,
    E: Error + Send + Sync + 'static,
{
    all(cell.outstanding, 0..cell.warm_up(), &mut call).await?;
    let (began, cpu) = (Instant::now(), cpu::used());
    let timed = cell.warm_up()..cell.warm_up() + cell.operations;
    all(cell.outstanding, timed, &mut call).await?;
    Ok(Taken {
        wall: began.elapsed(),
        cpu: cpu::used() - cpu,
    })
}

async fn all<F, E>(
    outstanding: usize,
    numbers: std::ops::Range<usize>,
    call: &mut impl FnMut(usize) -> F,
) -> Result<()>
where
    F: Future<Output = std::result::Result<(), E>>,
    E: Error + Send + Sync + 'static,
{
    if outstanding == 1 {
        for number in numbers {
            call(number).await?;
        }
        return Ok(());
    }
    let mut answers = futures::stream::iter(numbers)
        .map(call)
        .buffered(outstanding);
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (library, operation, outstanding, operations, server, runtime) = match words[..] {
        [l, op, out, n, server] => (l, op, out, n, server, "multi"),
        [l, op, out, n, server, runtime] => (l, op, out, n, server, runtime),
        _ => return Err("LIBRARY OPERATION OUTSTANDING OPERATIONS SERVER [RUNTIME]".into()),
    };
    let cell = Cell {
        operation: operation.to_owned(),
        outstanding: outstanding.parse()?,
        operations: operations.parse()?,
        server: server.to_owned(),
    };
    let runtime = match runtime {
        "current" => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?,
        _ => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?,
    };
    if operation == "watches" {
        return runtime.block_on(watches::run(&cell));
    }
    let taken = runtime.block_on(async {
        match library {
            "quorate" => quorate::run(&cell).await,
            "zookeeper-client" => zookeeper::run(&cell).await,
            "raw" => raw::run(&cell),
            other => Err(format!("no library {other}").into()),
        }
    })?;
    let operations = cell.operations as f64;
    println!(
        "{{\"ops_per_s\": {:.0}, \"cpu_us_per_op\": {:.2}}}",
        operations / taken.wall.as_secs_f64(),
        taken.cpu.as_secs_f64() * 1e6 / operations,
    );
    Ok(())
}
