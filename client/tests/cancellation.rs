//! A future may be dropped at any time: nothing is left behind that nobody knows of.
//!
//! Each call is dropped after every number of polls, and with the session and the server given
//! every number of turns in between, so that its request has not left, has left, was answered, or
//! was answered and not looked at.
#![expect(clippy::unwrap_used, reason = "helper functions of tests")]

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt as _;
use quorate_client::{Client, Credential, Notice};
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
async fn a_dropped_lasting_watch_is_taken_off_here_and_there() {
    let scene = start().await;
    sweep!(scene, client => client.watch("/d"));
    sweep!(scene, client => client.watch_recursive("/d"));
    for is_recursive in [false, true] {
        sweep(
            &scene,
            "the next notice",
            |client| async move {
                let mut notices = match is_recursive {
                    true => client.watch_recursive("/d").await.unwrap(),
                    false => client.watch("/d").await.unwrap(),
                };
                client.set("/d", "1").await.unwrap();
                assert!(matches!(notices.next().await, Some(Notice::Event(_))));
            },
            keep,
        )
        .await;
    }
}

#[tokio::test]
async fn a_dropped_stream_of_states_leaves_no_watch() {
    let scene = start().await;
    sweep(
        &scene,
        "follow",
        |client| async move {
            let mut states = client.follow("/d");
            states.next().await.unwrap().unwrap();
            client.set("/d", "1").await.unwrap();
            states.next().await.unwrap().unwrap();
        },
        keep,
    )
    .await;
    sweep(
        &scene,
        "value",
        |client| async move {
            let mut values = client.value::<String>("/d");
            values.next().await.unwrap().unwrap();
            client.set("/d", "1").await.unwrap();
            values.next().await.unwrap().unwrap();
        },
        keep,
    )
    .await;
    sweep(
        &scene,
        "follow_children",
        |client| async move {
            let mut children = client.follow_children("/d");
            children.next().await.unwrap().unwrap();
            // Whoever was dropped in between has left it there: then it goes.
            if client.create("/d/x", "").await.is_err() {
                client.delete("/d/x").await.unwrap();
            }
            children.next().await.unwrap().unwrap();
        },
        keep,
    )
    .await;
}

#[tokio::test]
async fn a_dropped_cache_leaves_no_watch_and_no_task() {
    let scene = start().await;
    for one_shot in [false, true] {
        sweep(
            &scene,
            "node_cache",
            |client| async move {
                let cache = client.node_cache("/d").start().unwrap();
                cache.synced().await.unwrap();
                assert!(cache.node().is_some());
            },
            keep,
        )
        .await;
        sweep(
            &scene,
            "children_cache",
            |client| async move {
                let builder = client.children_cache("/d");
                let builder = match one_shot {
                    true => builder.one_shot_watches(),
                    false => builder,
                };
                let cache = builder.start().unwrap();
                cache.synced().await.unwrap();
                assert!(!cache.snapshot().is_empty());
            },
            keep,
        )
        .await;
        sweep(
            &scene,
            "tree_cache",
            |client| async move {
                let builder = client.tree_cache("/d");
                let builder = match one_shot {
                    true => builder.one_shot_watches(),
                    false => builder,
                };
                let cache = builder.start().unwrap();
                let mut events = cache.events();
                cache.synced().await.unwrap();
                client.set("/d/sub/leaf", "1").await.unwrap();
                assert!(events.next().await.is_some());
            },
            keep,
        )
        .await;
    }
}

#[tokio::test]
async fn a_dropped_declaration_leaves_no_znode_and_no_task() {
    let scene = start().await;
    for is_ephemeral in [true, false] {
        sweep(
            &scene,
            "declare",
            |client| async move {
                let declare = client.declare("/d/dec-1", "");
                let declare = match is_ephemeral {
                    true => declare,
                    false => declare.persistent(),
                };
                let declared = declare.start().unwrap();
                declared.established().await.unwrap();
                declared.update("1");
                declared.withdraw().await;
            },
            keep,
        )
        .await;
    }
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
    // Neither comes: it is waited for, and no longer.
    sweep!(scene, client => timeout(Duration::ZERO, client.lost()));
    sweep!(scene, client => timeout(Duration::ZERO, client.trust_lapsed()));
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
    sweep!(scene, client => client.node::<String>("/d").set_version(&String::new(), -1));
    sweep!(scene, client => client.node::<String>("/d").update(|text| text));
    sweep!(scene, client => client.node::<String>("/d").create(&String::new()));
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

/// What is added to the client is added to the sweep.
#[test]
fn every_public_function_that_waits_is_swept() {
    let swept = include_str!("cancellation.rs");
    let mut sources = Vec::new();
    let mut folders = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => sources.push(std::fs::read_to_string(path).unwrap()),
            }
        }
    }
    // What a builder is, that is sent when it is awaited, or a stream.
    let after = |text: &str, mark: &str| -> Vec<String> {
        let names = text.split(mark).skip(1);
        let name = |rest: &str| {
            rest.split(|c: char| !c.is_alphanumeric())
                .next()
                .map(str::to_owned)
        };
        names.filter_map(name).collect()
    };
    let mut waits = vec!["Call".to_owned(), "WatchStream".to_owned()];
    for source in &sources {
        waits.extend(after(source, "\nsent_when_awaited!("));
        waits.extend(after(source, "Stream for "));
    }
    let mut missing = Vec::new();
    let mut count = 0;
    for signature in sources
        .iter()
        .flat_map(|source| source.split("\n    pub ").skip(1))
    {
        let signature = signature
            .split_once('{')
            .map_or(signature, |(head, _)| head);
        let (is_async, rest) = match signature.strip_prefix("async fn ") {
            Some(rest) => (true, rest),
            None => match signature.strip_prefix("fn ") {
                Some(rest) => (false, rest),
                None => continue,
            },
        };
        let name = rest
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .unwrap();
        let result = rest.rsplit_once("-> ").map_or("", |(_, result)| result);
        let is_waited_for = waits.iter().any(|kind| {
            let rest = result.strip_prefix(kind.as_str());
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
        });
        // Options of a builder give the builder back, and `send` is what awaiting it does.
        let is_option = rest.contains("(mut self") || rest.contains("(self,") || name == "send";
        if is_async || (is_waited_for && !is_option) {
            count += 1;
            if !swept.contains(&format!("{name}(")) && !swept.contains(&format!("{name}::<")) {
                missing.push(name.to_owned());
            }
        }
    }
    assert!(count > 40, "{count} found");
    assert!(missing.is_empty(), "{missing:?}");
}
