//! What the kit commands happens, at the time that was commanded, and every time in the same way.
#![expect(clippy::unwrap_used, reason = "helper functions of tests")]

use std::time::Duration;

use quorate_client::Client;
use quorate_recipes::lock::Mutex;
use quorate_testkit::Kit;
use tokio::time::{Instant, sleep};

const SESSION: Duration = Duration::from_secs(30);

async fn has(client: &Client, path: &str) -> bool {
    client.exists(path).await.unwrap().is_some()
}

#[tokio::test(start_paused = true)]
async fn a_session_in_silence_ends_after_its_timeout_and_one_that_is_heard_does_not() {
    let mut kit = Kit::start().await;
    let (one, two) = (kit.line().await, kit.line().await);
    let (silent, heard) = (
        one.client(SESSION).await.unwrap(),
        two.client(SESSION).await.unwrap(),
    );
    for (client, path) in [(&silent, "/silent"), (&heard, "/heard")] {
        client.create(path, "").ephemeral().await.unwrap();
    }
    one.silence();
    let before = silent.session_id().unwrap();
    kit.advance(SESSION).await;
    assert!(has(&heard, "/silent").await);
    // A tick, by which the server rounds up, and a step.
    kit.advance(Duration::from_millis(240)).await;
    assert!(!has(&heard, "/silent").await);
    kit.advance(SESSION * 20).await;
    assert!(has(&heard, "/heard").await);
    one.heal();
    kit.within(SESSION, silent.connected())
        .await
        .unwrap()
        .unwrap();
    assert_ne!(silent.session_id(), Some(before));
}

#[tokio::test(start_paused = true)]
async fn a_cut_costs_no_session_that_comes_back_in_time() {
    let mut kit = Kit::start().await;
    let line = kit.line().await;
    let client = line.client(SESSION).await.unwrap();
    client.create("/here", "").ephemeral().await.unwrap();
    let session = client.session_id();
    line.cut();
    kit.advance(SESSION / 2).await;
    line.heal();
    kit.within(SESSION / 2, client.connected())
        .await
        .unwrap()
        .unwrap();
    kit.advance(SESSION * 2).await;
    assert_eq!(client.session_id(), session);
    assert!(has(&client, "/here").await);
    for _ in 0..2 {
        kit.kill_server().await;
        kit.restart_server().await;
        kit.within(SESSION, client.connected())
            .await
            .unwrap()
            .unwrap();
        assert!(has(&client, "/here").await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_ended_before_its_client_can_know_and_its_lock_is_lost() {
    let mut kit = Kit::start().await;
    let client = kit.line().await.client(SESSION).await.unwrap();
    let guard = Mutex::new(&client, "/lock").acquire().await.unwrap();
    let begun = Instant::now();
    assert!(kit.expire(&client).await);
    kit.within(SESSION, guard.lost()).await.unwrap();
    assert!(begun.elapsed() <= SESSION);
    let lock = Mutex::new(&client, "/lock");
    let again = kit.within(SESSION, lock.acquire()).await.unwrap().unwrap();
    assert!(again.token() > guard.token());
}

#[tokio::test(start_paused = true)]
async fn containers_and_ttl_znodes_end_by_the_same_time() {
    let mut kit = Kit::builder()
        .config(|config| config.extended_types = true)
        .start()
        .await;
    let client = kit.line().await.client(SESSION).await.unwrap();
    let lock = Mutex::new(&client, "/locks/a");
    lock.acquire().await.unwrap().release().await.unwrap();
    let ttl = client.create("/ttl", "").ttl(Duration::from_secs(600));
    ttl.await.unwrap();
    kit.advance(Duration::from_secs(90)).await;
    assert!(has(&client, "/ttl").await);
    assert!(!has(&client, "/locks/a").await);
    kit.advance(Duration::from_secs(600)).await;
    assert!(!has(&client, "/ttl").await);
}

#[tokio::test(start_paused = true)]
async fn time_passes_by_command_alone_and_to_the_millisecond() {
    let mut kit = Kit::start().await;
    let client = kit.line().await.client(SESSION).await.unwrap();
    let begun = Instant::now();
    for _ in 0..50 {
        has(&client, "/").await;
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    kit.advance(Duration::from_millis(1_234)).await;
    assert_eq!(begun.elapsed(), Duration::from_millis(1_234));
    let slept = kit.within(Duration::from_secs(9), sleep(Duration::from_secs(10)));
    assert!(slept.await.is_none());
    let slept = kit.within(Duration::from_secs(9), sleep(Duration::from_secs(1)));
    assert!(slept.await.is_some());
}

/// Who noticed what when, down to the millisecond of simulated time.
async fn a_story() -> Vec<(Duration, &'static str)> {
    let mut kit = Kit::start().await;
    let begun = Instant::now();
    let mut story = Vec::new();
    let (one, two) = (kit.line().await, kit.line().await);
    let (first, second) = (
        one.client(SESSION).await.unwrap(),
        two.client(SESSION).await.unwrap(),
    );
    let guard = Mutex::new(&first, "/lock").acquire().await.unwrap();
    one.silence();
    let (first_lost, next) = tokio::join!(
        async {
            guard.lost().await;
            (begun.elapsed(), "lost")
        },
        async {
            let lock = Mutex::new(&second, "/lock");
            let both = kit.within(SESSION * 2, lock.acquire()).await;
            drop(both.unwrap().unwrap());
            (begun.elapsed(), "taken over")
        }
    );
    story.extend([first_lost, next]);
    story
}

#[tokio::test(start_paused = true)]
async fn the_same_commands_tell_the_same_story() {
    let story = a_story().await;
    assert!(story[0].0 < story[1].0, "{story:?}");
    for _ in 0..4 {
        assert_eq!(a_story().await, story);
    }
}
