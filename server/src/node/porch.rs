//! Who knocks before this server serves: peers, whose business it is to make it serve, and
//! operators, who ask why it does not. Clients are sent on.
//!
//! A server of an ensemble that was never started waits for the others. Where peers and clients
//! share a port, somebody has to answer it meanwhile.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::admin::{self, word::Word};
use crate::config::{Config, FourLetterWords};
use crate::peers::{FIRST_BYTE, Peers, tune};

/// Who may stand here at once; the others wait in the backlog.
const MOST: usize = 128;
/// How long they may take to say what they are.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to hold back after a failed accept.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers until it is dropped; never ready. Only a server of an ensemble has anybody to wait for.
pub(super) async fn answer(
    listener: Option<&TcpListener>,
    peers: Option<&Arc<Peers>>,
    config: &Config,
    runtime: &Handle,
) {
    let (Some(listener), Some(peers)) = (listener, peers) else {
        return std::future::pending().await;
    };
    let words = Arc::new(config.four_letter_words.clone());
    let mut guests = JoinSet::new();
    loop {
        while guests.try_join_next().is_some() {}
        if guests.len() >= MOST {
            let _ = guests.join_next().await;
        }
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (peers, words) = (peers.clone(), words.clone());
        let greeting = async move {
            let _ = tokio::time::timeout(PATIENCE, greet(stream, &peers, &words)).await;
        };
        guests.spawn_on(greeting, runtime);
    }
}

async fn greet(mut stream: TcpStream, peers: &Peers, words: &FourLetterWords) {
    let mut read = BytesMut::with_capacity(64);
    while read.first() != Some(&FIRST_BYTE) && read.len() < 4 {
        if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
            return;
        }
    }
    if read.first() == Some(&FIRST_BYTE) {
        if tune(&stream).is_ok() {
            peers.adopt(Box::new(stream), read);
        }
        return;
    }
    if let Some(word) = read.first_chunk().copied().and_then(Word::from_bytes) {
        let _ = stream.write_all(&admin::answer_early(word, words)).await;
        let _ = stream.shutdown().await;
    }
}
