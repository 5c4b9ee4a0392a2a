//! `quorate 4lw`: sends a four-letter word and prints the answer.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use crate::cli::WordArgs;
use crate::codes;
use crate::failure::Failure;

/// More than the longest answer of our server; another's answer is cut there.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

pub(crate) fn run(args: &WordArgs) -> Result<(), Failure> {
    let servers = if args.server.is_empty() {
        let from_env = std::env::var("QUORATE_SERVER").unwrap_or_else(|_| "127.0.0.1:2181".into());
        from_env.split(',').map(str::to_owned).collect()
    } else {
        args.server.clone()
    };
    let mut failure = Failure::new(&codes::UNREACHABLE, "cannot reach any server");
    for server in &servers {
        let start = now();
        match connect(server, args.timeout) {
            Ok(socket) => return ask(socket, server, args),
            Err(error) => {
                let ms = start.elapsed().as_millis();
                let cause = match error.kind() {
                    ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                    ErrorKind::TimedOut => "no answer to the connection".to_owned(),
                    _ => error.to_string(),
                };
                failure = failure.detail(format!("{server}  {cause} ({ms} ms)"));
            }
        }
    }
    Err(failure.help("start one with `quorate server`, or name one with -s HOST:PORT"))
}

fn connect(server: &str, timeout: Duration) -> std::io::Result<TcpStream> {
    let with_port = if server.contains(':') {
        server.to_owned()
    } else {
        format!("{server}:2181")
    };
    let mut outcome = Err(std::io::Error::other("the name has no address"));
    for addr in with_port.to_socket_addrs()? {
        outcome = TcpStream::connect_timeout(&addr, timeout);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn ask(mut socket: TcpStream, server: &str, args: &WordArgs) -> Result<(), Failure> {
    let start = now();
    let word = &args.word;
    let broken = |error: &std::io::Error| {
        let ms = start.elapsed().as_millis();
        let late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        if late {
            Failure::new(&codes::TIMED_OUT, "timed out while connected")
                .detail(format!(
                    "{server}  no end of the answer to `{word}` after {ms} ms"
                ))
                .help(format!("quorate 4lw {word} -s {server} --timeout 30"))
        } else {
            Failure::new(&codes::UNREACHABLE, "the connection broke")
                .detail(format!("{server}  {error} ({ms} ms)"))
        }
    };
    let answer =
        exchange(&mut socket, word, start, args.timeout).map_err(|error| broken(&error))?;
    let text = String::from_utf8_lossy(&answer);
    if text.is_empty() {
        return Err(Failure::new(
            &codes::NO_ANSWER,
            "the server closed the connection without an answer",
        )
        .detail(format!("{server}  `{word}`"))
        .help("`quorate 4lw --help` lists the words that servers know"));
    }
    crate::data(&text)?;
    if text.contains("is not executed because it is not in the whitelist") {
        let help = format!("start it with a zoo.cfg that has 4lw.commands.whitelist={word}");
        return Err(
            Failure::new(&codes::NOT_LISTED, "the server does not answer this word")
                .detail(format!("{server}  `{word}` is not on its list"))
                .help(help),
        );
    }
    if text.contains("not currently serving requests") {
        return Err(
            Failure::new(&codes::NOT_SERVING, "the server is not serving")
                .detail(format!("{server}  up, but it serves no requests"))
                .help(format!("quorate 4lw ruok -s {server}")),
        );
    }
    Ok(())
}

/// The answer, whole within `timeout`, however slowly it trickles.
fn exchange(
    socket: &mut TcpStream,
    word: &str,
    start: Instant,
    timeout: Duration,
) -> std::io::Result<Vec<u8>> {
    socket.set_write_timeout(Some(timeout))?;
    socket.write_all(word.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let read = socket.read(&mut piece)?;
        answer.extend_from_slice(piece.get(..read).unwrap_or_default());
        let full = u64::try_from(answer.len()).is_ok_and(|len| len >= ANSWER_BYTES_MAX);
        if read == 0 || full {
            return Ok(answer);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a person waited, for the message"
)]
fn now() -> Instant {
    Instant::now()
}
