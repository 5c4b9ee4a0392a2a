//! A future may be dropped at any time: nothing is left behind that nobody knows of.
//!
//! Each call is dropped after every number of polls, and with the session and the server given
//! every number of turns in between, so that its request has not left, has left, was answered, or
//! was answered and not looked at.
#![expect(clippy::unwrap_used, reason = "helper functions of tests")]

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use quorate_client::{Client, Credential};
use quorate_server::config::FourLetterWords;
use quorate_server::testing::TestServer;
use quorate_server::testing::wire::WireClient;
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::timeout;

/// Turns that all others are given between two polls of a caller: from none to more than a request
/// takes to be answered.
const TURNS: &[usize] = &[0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
/// With few turns a call needs many polls; its later steps are reached with many turns.
const POLLS_MAX: usize = 64;
const PATIENCE: Duration = Duration::from_secs(20);

struct Scene {
    server: TestServer,
    client: Client,
    /// Sees what is left.
    witness: Client,
}

async fn start() -> Scene {
    let server = TestServer::builder()
        .config(|config| config.four_letter_words = FourLetterWords::All)
        .start()
        .await;
    let client = Client::connect(server.connect_string()).await.unwrap();
    let witness = Client::connect(server.connect_string()).await.unwrap();
    client.create("/d/sub/leaf", "x").parents().await.unwrap();
    Scene {
        server,
        client,
        witness,
    }
}

/// Polls a future so often, each time with so many turns for all others before, and drops it.
/// What it returned, if it came that far.
async fn polled<T>(future: impl Future<Output = T>, polls: usize, turns: usize) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let now = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(result) = now {
            return Some(result);
        }
        for _ in 0..turns {
            yield_now().await;
        }
    }
    None
}

/// Drops the call in every way; what is made by one that got through is handed to `undo`.
async fn sweep<T, F, U>(
    scene: &Scene,
    name: &str,
    call: impl Fn(Client) -> F,
    undo: impl Fn(Client, T) -> U,
) where
    F: Future<Output = T>,
    U: Future<Output = ()>,
{
    let tasks = Handle::current().metrics().num_alive_tasks();
    let (mut dropped, mut finished) = (0, 0);
    for &turns in TURNS {
        for polls in 0..POLLS_MAX {
            match polled(call(scene.client.clone()), polls, turns).await {
                Some(result) => {
                    finished += 1;
                    undo(scene.client.clone(), result).await;
                    break;
                }
                None => dropped += 1,
            }
        }
    }
    assert!(dropped > 0 && finished > 0, "{name}: {dropped} {finished}");
    nothing_is_left(scene, name, tasks).await;
}

async fn nothing_is_left(scene: &Scene, name: &str, tasks: usize) {
    let wait = async {
        loop {
            // Whatever is on its way is done behind it.
            scene.client.sync("/").await.unwrap();
            let others = left(scene).await.iter().any(|name| name.contains('-'));
            let word = WireClient::tcp(scene.server.addr())
                .await
                .word("wchs")
                .await;
            let on_server = !word.contains("Total watches:0");
            let now = Handle::current().metrics().num_alive_tasks();
            if !others && !on_server && scene.client.watches() == 0 && now <= tasks {
                return;
            }
        }
    };
    if timeout(PATIENCE, wait).await.is_err() {
        let word = WireClient::tcp(scene.server.addr())
            .await
            .word("wchs")
            .await;
        panic!(
            "{name}: left: {:?}, {} watches here, {word} there, {} tasks after {tasks}",
            left(scene).await,
            scene.client.watches(),
            Handle::current().metrics().num_alive_tasks(),
        );
    }
}

async fn left(scene: &Scene) -> Vec<String> {
    let mut names = scene.witness.children("/d").await.unwrap().0;
    if let Ok((deep, _)) = scene.witness.children("/d/new/deep").await {
        names.extend(deep);
    }
    names
}

/// Nothing is to be undone.
async fn keep<T>(_client: Client, _result: T) {}

macro_rules! sweep {
    ($scene:ident, $client:ident => $call:expr) => {
        sweep(
            &$scene,
            stringify!($call),
            |$client| async move { $call.await.map(drop) },
            keep,
        )
        .await
    };
}

#[tokio::test]
async fn a_dropped_create_leaves_no_znode_whose_name_nobody_heard() {
    let scene = start().await;
    let undo = async |client: Client, created: quorate_client::Result<_>| {
        let created: quorate_client::Created = created.unwrap();
        client.delete(&created.path).await.unwrap();
    };
    sweep(
        &scene,
        "sequential",
        |client| async move { client.create("/d/s-", "").sequential().await },
        undo,
    )
    .await;
    sweep(
        &scene,
        "ephemeral sequential",
        |client| async move { client.create("/d/es-", "").sequential().ephemeral().await },
        undo,
    )
    .await;
    sweep(
        &scene,
        "protected",
        |client| async move { client.create("/d/p-", "").protected().await },
        undo,
    )
    .await;
    sweep(
        &scene,
        "protected ephemeral sequential",
        |client| async move {
            let create = client.create("/d/pes-", "").ephemeral();
            create.sequential().protected().await
        },
        undo,
    )
    .await;
    sweep(
        &scene,
        "protected with parents",
        |client| async move {
            let create = client.create("/d/new/deep/p-", "").protected().parents();
            let created = create.await;
            client.delete_recursive("/d/new").await.unwrap();
            created
        },
        async |_, created| drop(created.unwrap()),
    )
    .await;
}

#[tokio::test]
async fn a_dropped_watch_is_taken_off_here_and_there() {
    let scene = start().await;
    sweep!(scene, client => client.get("/d").watch());
    sweep!(scene, client => client.exists("/d").watch());
    sweep!(scene, client => client.exists("/d/none").watch());
    sweep!(scene, client => client.children("/d").watch());
    sweep(
        &scene,
        "a watch that is waited for",
        |client| async move {
            let (_, watch) = client.get("/d").watch().await.unwrap();
            let fired = timeout(Duration::ZERO, watch).await;
            assert!(fired.is_err(), "nothing has changed");
        },
        keep,
    )
    .await;
}

#[tokio::test]
async fn a_dropped_read_leaves_nothing() {
    let scene = start().await;
    sweep!(scene, client => client.get("/d"));
    sweep!(scene, client => client.exists("/d"));
    sweep!(scene, client => client.children("/d"));
    sweep!(scene, client => client.get_acl("/d"));
    sweep!(scene, client => client.sync("/d"));
    sweep!(scene, client => client.ephemerals("/"));
    sweep!(scene, client => client.count_descendants("/d"));
    sweep!(scene, client => client.who_am_i());
    sweep!(scene, client => client.config());
    sweep!(scene, client => client.read_multi().get("/d").children("/d"));
    sweep!(scene, client => client.node::<String>("/d").get());
    sweep!(scene, client => client.node::<String>("/d").find());
    sweep!(scene, client => client.connected());
}

#[tokio::test]
async fn a_dropped_write_leaves_nothing_but_what_it_wrote() {
    let scene = start().await;
    sweep!(scene, client => client.set("/d", "1"));
    sweep!(scene, client => client.set("/d", "1").idempotent());
    sweep!(scene, client => client.delete("/d/none"));
    sweep!(scene, client => client.delete("/d/none").guaranteed());
    sweep!(scene, client => client.set_acl("/d", quorate_client::Acl::open_unsafe()));
    sweep!(scene, client => client.multi().set("/d", "1").check("/d", -1));
    sweep!(scene, client => client.reconfig().leaving("7"));
    sweep!(scene, client => client.add_auth(Credential::digest("bob", "x")));
    sweep!(scene, client => client.node::<String>("/d").set(&String::new()));
    sweep!(scene, client => client.node::<String>("/d").update(|text| text));
    sweep!(scene, client => client.ensure_path("/d/sub/x/y"));
    sweep!(scene, client => client.ensure_containers("/d/sub/x/z"));
    sweep!(scene, client => client.delete_recursive("/d/sub"));
}

#[tokio::test]
async fn a_dropped_connect_or_close_leaves_no_task_and_no_ephemeral() {
    let scene = start().await;
    let address = scene.server.connect_string();
    sweep(
        &scene,
        "connect",
        |_| Client::connect(address.clone()),
        async |_, client| client.unwrap().close().await.unwrap(),
    )
    .await;
    sweep(
        &scene,
        "close",
        |_| async {
            let client = Client::connect(address.clone()).await.unwrap();
            client
                .create("/d/e-", "")
                .ephemeral()
                .sequential()
                .await
                .unwrap();
            client.close().await
        },
        keep,
    )
    .await;
}

#[tokio::test]
async fn a_client_that_is_dropped_with_its_calls_leaves_no_znode() {
    let scene = start().await;
    for &turns in TURNS {
        for repeat in 0..4 {
            let client = Client::connect(scene.server.connect_string())
                .await
                .unwrap();
            let create = client.create("/d/s-", "").sequential();
            // One cleans up when its answer comes, the other by searching.
            let call = match repeat % 2 {
                0 => create.send(),
                _ => create.protected().send(),
            };
            for _ in 0..turns + repeat * turns / 4 {
                yield_now().await;
            }
            drop((call, client));
        }
    }
    let wait = async {
        let is_left = |names: &[String]| names.iter().any(|name| name.contains('-'));
        while is_left(&left(&scene).await) {}
    };
    if timeout(PATIENCE, wait).await.is_err() {
        panic!("{:?}", left(&scene).await);
    }
}
