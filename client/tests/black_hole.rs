//! The promise of `trusted_until`: it has passed, and everybody has been told, before the server
//! gives away what the session owned.
//!
//! `QUORATE_RUNS=100` makes 100 runs of it; the smallest margins are printed.
//! `QUORATE_TEST_SERVER=host:port` makes them against that server, which must grant sessions of
//! 1.5 s, instead of one in this process.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "helpers of tests are tests"
)]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use quorate_client::{Client, SessionState};
use support::proxy::{Proxy, Weather};
use support::{builder, quick_server, soon, state_is};
use tokio::time::{Instant, sleep};

const TIMEOUT: Duration = Duration::from_millis(1500);

/// How much earlier than the znode went each of these was, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Margins {
    trusted_until: i64,
    lapsed: i64,
    lost: i64,
}

impl Margins {
    fn smallest(self, other: Margins) -> Margins {
        Margins {
            trusted_until: self.trusted_until.min(other.trusted_until),
            lapsed: self.lapsed.min(other.lapsed),
            lost: self.lost.min(other.lost),
        }
    }
}

fn millis(earlier: Instant, later: Instant) -> i64 {
    let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap();
    match later >= earlier {
        true => ms(later - earlier),
        false => -ms(earlier - later) - 1,
    }
}

async fn run(server: SocketAddr, number: usize) -> Margins {
    let proxy = Proxy::start(server).await;
    let up_to = |limit: Duration| limit.mul_f64(rand::random::<f64>());
    // A slow network: it matters from when trust is counted.
    proxy.set(Weather {
        request_delay: up_to(TIMEOUT / 10),
        reply_delay: up_to(TIMEOUT / 5),
        ..Weather::default()
    });
    let client = builder(&proxy.connect_string())
        .session_timeout(TIMEOUT)
        .connect()
        .await
        .unwrap();
    // On ZooKeeper nothing but writes proves a session.
    let _lease = client.hold_trust();
    let path = format!("/lock-{:016x}", rand::random::<u64>());
    client.create(&path, "").ephemeral().await.unwrap();
    let other = Client::connect(server.to_string()).await.unwrap();
    let (stat, gone) = other.exists(&path).watch().await.unwrap();
    assert!(stat.is_some());

    sleep(up_to(TIMEOUT)).await;
    let swallows_requests = number % 3 != 1;
    let swallows_replies = number % 3 != 2;
    proxy.set(Weather {
        swallows_requests,
        swallows_replies,
        reply_delay: up_to(TIMEOUT / 5),
        ..Weather::default()
    });
    let at = |future: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        tokio::spawn(async move {
            future.await;
            Instant::now()
        })
    };
    let (lapsing, losing, watching) = (client.clone(), client.clone(), client.clone());
    let lapsed = at(Box::pin(async move { lapsing.trust_lapsed().await }));
    let lost = at(Box::pin(async move {
        state_is(&losing, SessionState::Lost).await;
    }));
    // The last word on the matter before there is none.
    let last_trust = tokio::spawn(async move {
        let mut last = watching.trusted_until();
        while let Some(until) = watching.trusted_until() {
            last = Some(until);
            sleep(Duration::from_millis(5)).await;
        }
        last.unwrap()
    });
    soon(gone).await.unwrap();
    let gone = Instant::now();
    Margins {
        trusted_until: millis(soon(last_trust).await.unwrap(), gone),
        lapsed: millis(soon(lapsed).await.unwrap(), gone),
        lost: millis(soon(lost).await.unwrap(), gone),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_ends_before_the_server_frees_what_the_session_owned() {
    let runs = std::env::var("QUORATE_RUNS").map_or(6, |runs| runs.parse().unwrap());
    let named = std::env::var("QUORATE_TEST_SERVER").ok();
    let own = match named {
        Some(_) => None,
        None => Some(quick_server().await),
    };
    let server = match (&own, named) {
        (Some(own), _) => own.addr(),
        (None, named) => named.unwrap().parse().unwrap(),
    };
    let mut smallest: Option<Margins> = None;
    let numbers: Vec<usize> = (0..runs).collect();
    for batch in numbers.chunks(6) {
        let batch: Vec<_> = batch
            .iter()
            .map(|&number| tokio::spawn(run(server, number)))
            .collect();
        for run in batch {
            let margins = run.await.unwrap();
            smallest = Some(smallest.map_or(margins, |least| least.smallest(margins)));
        }
    }
    let smallest = smallest.unwrap();
    println!("smallest margins of {runs} runs, in ms: {smallest:?}");
    assert!(smallest.trusted_until >= 0, "{smallest:?}");
    assert!(smallest.lapsed >= 0 && smallest.lost >= 0, "{smallest:?}");
}
