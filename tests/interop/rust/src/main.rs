//! A process that does with `quorate-recipes` what the matrix tells it to. Its siblings do the same
//! with Curator (`java/peer`) and with kazoo (`recipes_peer.py`).
//!
//! ```text
//! quorate-interop-peer HOSTS SESSION_MS
//!
//! 1 take rust-1 mutex curator /lock     waits until it is held; its znode says `rust-1`
//! 1 ok
//! 2 give rust-1
//! 2 ok
//! 3 ask counter int /count add 5
//! 3 ok 5
//! 4 items rust-7                        what a consumer or a follower has seen
//! 4 ok a,b
//! ```
//!
//! Requests are carried out side by side; an answer carries its request's number. What goes wrong is
//! answered `error` with its text. The end of standard input ends the process.

mod ask;
mod take;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use parking_lot::Mutex;
use quorate_recipes::Client;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Stdout, stdin, stdout};
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::task::TaskTracker;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

/// What a consumer or a follower has seen so far.
type Items = Arc<Mutex<Vec<String>>>;

/// Something that is held, or goes on, until it is given back.
struct Held {
    items: Items,
    give: Box<dyn FnOnce() -> BoxFuture<'static, Result<()>> + Send>,
}

impl Held {
    fn new<G>(give: impl FnOnce() -> G + Send + 'static) -> Held
    where
        G: Future<Output = Result<()>> + Send + 'static,
    {
        Held::with(Items::default(), give)
    }

    fn with<G>(items: Items, give: impl FnOnce() -> G + Send + 'static) -> Held
    where
        G: Future<Output = Result<()>> + Send + 'static,
    {
        Held {
            items,
            give: Box::new(|| Box::pin(give())),
        }
    }
}

struct Peer {
    client: Client,
    held: Mutex<HashMap<String, Held>>,
    tasks: TaskTracker,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let hosts = arguments.next().ok_or("HOSTS SESSION_MS")?;
    let session_ms = arguments.next().ok_or("HOSTS SESSION_MS")?.parse()?;
    let client = Client::builder(hosts)
        .session_timeout(Duration::from_millis(session_ms))
        .connect()
        .await?;
    let peer = Arc::new(Peer {
        client,
        held: Mutex::default(),
        tasks: TaskTracker::new(),
    });
    let output = Arc::new(AsyncMutex::new(stdout()));
    let mut lines = BufReader::new(stdin()).lines();
    say(&output, "0 ok").await?;
    while let Some(line) = lines.next_line().await? {
        let task = answer(Arc::clone(&peer), Arc::clone(&output), line);
        peer.tasks.spawn(task);
    }
    Ok(())
}

async fn answer(peer: Arc<Peer>, output: Arc<AsyncMutex<Stdout>>, line: String) {
    let (number, request) = line.split_once(' ').unwrap_or((&line, ""));
    let answer = match peer.carry_out(request).await {
        Ok(answer) => format!("{number} ok {answer}"),
        Err(error) => format!("{number} error {}", with_causes(&*error)),
    };
    // Whoever asked is gone if nobody reads.
    drop(say(&output, answer.trim_end()).await);
}

async fn say(output: &AsyncMutex<Stdout>, line: &str) -> Result<()> {
    let mut output = output.lock().await;
    output.write_all(format!("{line}\n").as_bytes()).await?;
    Ok(output.flush().await?)
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text.replace('\n', " ")
}

impl Peer {
    async fn carry_out(&self, request: &str) -> Result<String> {
        let words: Vec<&str> = request.split(' ').collect();
        match &words[..] {
            ["take", handle, kind, layout, path, rest @ ..] => {
                let held = self.take(handle, kind, layout, path, rest).boxed().await?;
                self.held.lock().insert((*handle).to_owned(), held);
                Ok(String::new())
            }
            ["give", handle] => {
                let held = self.held.lock().remove(*handle).ok_or("it is not held")?;
                (held.give)().await?;
                Ok(String::new())
            }
            ["items", handle] => {
                let held = self.held.lock();
                let held = held.get(*handle).ok_or("it is not held")?;
                Ok(held.items.lock().join(","))
            }
            ["ask", kind, layout, path, rest @ ..] => {
                self.ask(kind, layout, path, rest).boxed().await
            }
            _ => Err(format!("what is {request:?}?").into()),
        }
    }
}
