//! `quorate demo`: three servers and a living workload on one terminal, and leaders that are killed.
//!
//! Everything is what a user has: `Server::start` with a zoo.cfg for each server, the client and the
//! recipes. Job: to run them for a while, to show what they do, and to count at the end whether
//! something acknowledged was lost. Not here: the checks of histories (`tests/ensemble`).

mod board;
mod ensemble;
mod work;

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::cli::DemoArgs;
use crate::codes;
use crate::failure::Failure;
use board::Board;
use ensemble::Ensemble;
use work::Work;

/// Whatever goes wrong: a demo has nothing to repair.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How often the terminal is painted, and how often a pipe gets a line.
const PAINT: Duration = Duration::from_millis(200);
const LINE: Duration = Duration::from_secs(1);
/// For how long a killed server stays away.
const AWAY: Duration = Duration::from_millis(700);

pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    crate::bench::raise_file_limit();
    let failed = |error: &dyn std::error::Error| {
        Failure::from_error(&codes::UNEXPECTED, error).detail("the demo could not go on")
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    let board = runtime
        .block_on(play(args))
        .map_err(|error| failed(error.as_ref()))?;
    let losses = board.losses();
    if losses.is_empty() {
        return Ok(());
    }
    let failure = Failure::new(&codes::UNEXPECTED, "the demo counted a loss");
    Err(losses.into_iter().fold(failure, Failure::detail))
}

async fn play(args: &DemoArgs) -> Outcome<Board> {
    let out = Screen::new();
    out.print("three servers are starting…\n")?;
    let board = Board::new();
    let mut ensemble = Ensemble::start().await?;
    out.print(&format!(
        "serving at {}; Ctrl-C ends it\n",
        ensemble.connect_string()
    ))?;
    let work = Work::start(ensemble.connect_string(), &board).await?;
    let end = args.seconds.map(|time| Instant::now() + time);
    let over = async {
        tokio::select! {
            () = until(end) => Outcome::Ok(()),
            stopped = tokio::signal::ctrl_c() => Ok(stopped?),
        }
    };
    tokio::select! {
        over = over => over?,
        failed = kill_leaders(&mut ensemble, &board, args.kill_every) => failed?,
        failed = out.show(&board) => failed?,
    }
    out.print("\nstopping the work, and counting…\n")?;
    ensemble.all_up().await?;
    work.finish(&board).await?;
    out.print(&board.summary())?;
    ensemble.stop().await;
    Ok(board)
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Kills whoever leads, again and again, and starts it again.
async fn kill_leaders(ensemble: &mut Ensemble, board: &Board, every: Duration) -> Outcome {
    loop {
        sleep(every).await;
        let killed = ensemble.leader().await;
        let began = Instant::now();
        ensemble.kill(killed);
        board.kills.add(1);
        board.event(format!("server {killed}, the leader, is killed"));
        let leader = ensemble.leader().await;
        let ms = began.elapsed().as_millis();
        board.event(format!("server {leader} leads, {ms} ms later"));
        sleep(AWAY).await;
        ensemble.start_again(killed).await?;
        board.event(format!("server {killed} is back"));
    }
}

/// A terminal is painted over and over, a pipe gets a line each second and one for each event.
struct Screen {
    is_terminal: bool,
}

impl Screen {
    fn new() -> Screen {
        Screen {
            is_terminal: std::io::stdout().is_terminal(),
        }
    }

    fn print(&self, text: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    }

    async fn show(&self, board: &Board) -> Outcome {
        let mut painted = 0;
        let mut told = 0;
        loop {
            if self.is_terminal {
                let picture = board.picture();
                // Up to where the last picture began, and clear what is below.
                let up = match painted {
                    0 => String::new(),
                    lines => format!("\x1b[{lines}A\x1b[J"),
                };
                painted = picture.lines().count();
                self.print(&(up + &picture))?;
                sleep(PAINT).await;
            } else {
                for event in board.events_from(&mut told) {
                    self.print(&(event + "\n"))?;
                }
                self.print(&(board.line() + "\n"))?;
                sleep(LINE).await;
            }
        }
    }
}
