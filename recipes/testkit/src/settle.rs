//! When a runtime has done all that it can do without time passing.

use std::time::Duration;

use tokio::task::yield_now;

use crate::line::Line;

/// Turns in which a runtime runs whatever is ready and looks at its sockets. A frame needs one from
/// socket to line, one from line to socket, and one to the task that waits for it.
const TURNS: usize = 6;
/// Turns that an answer is waited for. A server that takes longer has stopped.
const TURNS_MAX: usize = 2_000_000;

/// Lets this runtime do all that it can do now; `asks` to have all that the server has to say.
///
/// # Panics
/// If the server does not answer.
pub(crate) async fn settle(lines: &[Line], asks: bool) {
    if asks {
        for line in lines {
            line.barrier().await;
        }
    }
    let mut turns = 0;
    loop {
        let before = moved(lines);
        for _ in 0..TURNS {
            yield_now().await;
        }
        if before == moved(lines) && !lines.iter().any(Line::is_busy) {
            return;
        }
        turns += 1;
        assert!(turns < TURNS_MAX, "the server does not answer");
    }
}

/// Lets this runtime's time pass.
pub(crate) async fn pass(time: Duration) {
    tokio::time::advance(time).await;
}

pub(crate) fn moved(lines: &[Line]) -> u64 {
    lines.iter().map(Line::moved).sum()
}

/// While it lives, the paused clock of this runtime moves by command only, and not whenever all
/// tasks wait: they may wait for a socket.
#[derive(Debug)]
pub(crate) struct Still {
    _let_go: std::sync::mpsc::Sender<()>,
}

impl Still {
    /// For a runtime whose clock is paused.
    pub(crate) fn hold() -> Still {
        let (let_go, is_let_go) = std::sync::mpsc::channel::<()>();
        // A blocking task that is under way keeps the clock where it is.
        drop(tokio::task::spawn_blocking(move || is_let_go.recv()));
        Still { _let_go: let_go }
    }
}
