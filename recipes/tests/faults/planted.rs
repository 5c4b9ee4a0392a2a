//! The checker finds what is planted, and excuses no more than it must.

use std::time::Duration;

use quorate_recipes::client::SessionId;
use quorate_recipes::lock::Mutex;
use quorate_recipes::{Contention, FencingToken, Layout, Naming};
use tokio::time::{Instant, timeout};

use super::history::{BEGINS_WITHIN, History, Hold, Kill, Stall};
use super::process::Process;
use super::relay::Relay;
use super::{PATIENCE, SESSION, client, server};

/// Its turn had come, so that no more than the proof of its session stands before its claim.
#[tokio::test]
async fn a_killed_contender_claims_nothing_once_it_could_know() {
    let server = server().await;
    for is_cut_off in [false, true] {
        let relay = Relay::start(server.addr()).await;
        let one = client(relay.connect_string()).await;
        let naming = Naming::new(Layout::Curator, "lock-", &[]);
        let contender = Contention::new(&one, "/lock", naming).enter("").await;
        let contender = contender.unwrap();
        contender.wait(|_, own| own.checked_sub(1)).await.unwrap();
        relay.swallow(is_cut_off);
        server.expire_session(contender.session()).await.unwrap();
        let knows = timeout(SESSION + BEGINS_WITHIN, contender.lost()).await;
        assert!(knows.is_ok(), "cut off: {is_cut_off}");
        let claim = timeout(PATIENCE, contender.prove()).await.unwrap();
        assert!(claim.is_err(), "cut off: {is_cut_off}");
    }
}

/// Takes turns by names alone: neither pinned to a session nor told of a loss.
#[tokio::test]
async fn the_checker_finds_a_holder_that_does_not_check_whose_znode_it_holds() {
    let server = server().await;
    let relay = Relay::start(server.addr()).await;
    let one = client(relay.connect_string()).await;
    let two = client(server.connect_string()).await;
    let history = History::default();
    let mine = one
        .create("/lock/lock-", "")
        .ephemeral()
        .sequential()
        .protected()
        .container_parents()
        .await
        .unwrap();
    let (session, token) = (
        one.session_id().unwrap(),
        FencingToken::from(mine.stat.czxid),
    );
    let believed = history.enter(0, session, token, 1);
    relay.swallow(true);
    let guard = Mutex::new(&two, "/lock").acquire().await.unwrap();
    let held = history.enter(1, guard.session(), guard.token(), 1);
    drop((held, believed));
    assert_eq!(history.faults(1).len(), 1);
}

#[tokio::test]
async fn the_checker_finds_a_contender_that_waits_for_the_wrong_one() {
    let server = server().await;
    let one = client(server.connect_string()).await;
    let naming = Naming::new(Layout::Curator, "lock-", &[]);
    let contention = Contention::new(&one, "/lock", naming);
    let history = History::default();
    let mut holding = Vec::new();
    let mut contenders = Vec::new();
    for holder in 0..2 {
        let contender = contention.enter("").await.unwrap();
        contender.wait(|_, own| own.checked_sub(2)).await.unwrap();
        let (session, token) = (contender.session(), contender.token());
        holding.push(history.enter(holder, session, token, 1));
        contenders.push(contender);
    }
    drop(holding);
    assert_eq!(history.faults(1).len(), 1);
}

#[tokio::test]
async fn the_checker_finds_a_token_that_is_a_sequence_number() {
    let server = server().await;
    let one = client(server.connect_string()).await;
    let (by_number, by_czxid) = (History::default(), History::default());
    for holder in 0..2 {
        let guard = Mutex::new(&one, "/lock").acquire().await.unwrap();
        let number: i64 = guard.path().rsplit('-').next().unwrap().parse().unwrap();
        drop(by_number.enter(holder, guard.session(), FencingToken::from(number), 1));
        drop(by_czxid.enter(holder, guard.session(), guard.token(), 1));
        guard.release().await.unwrap();
        // As the server does with a container that is empty: the numbers start again.
        one.delete("/lock").await.unwrap();
    }
    assert_eq!(by_number.faults(1).len(), 1);
    assert_eq!(by_czxid.faults(1), Vec::<String>::new());
}

/// What one who was killed may still do, and until when: (from, to, token of the killed one, which
/// has the second place in line; how often that is a fault), in milliseconds after the kill.
#[tokio::test]
async fn the_checker_excuses_a_killed_holder_only_while_it_cannot_know() {
    let killed_at = Instant::now() + SESSION;
    let at = |ms: i64| match u64::try_from(ms) {
        Ok(ms) => killed_at + Duration::from_millis(ms),
        Err(_) => killed_at - Duration::from_millis(ms.unsigned_abs()),
    };
    let begins_by = i64::try_from(BEGINS_WITHIN.as_millis()).unwrap();
    let table = [
        ("it held before", -20, 30, 2, false),
        ("its turn had come", 15, 40, 2, false),
        ("black-holed until its trust lapses", 15, 980, 2, false),
        ("it holds when its trust has lapsed", -20, 1_400, 2, true),
        (
            "it begins when it must know",
            begins_by + 2,
            begins_by + 3,
            2,
            true,
        ),
        ("its token is not behind the next one's", 15, 40, 4, true),
        ("its token is that of one before", 15, 40, 1, true),
        ("it begins while another holds", -90, 30, 2, true),
    ];
    for (case, from, to, token, is_fault) in table {
        let history = History::default();
        let (killed, other) = (SessionId(1), SessionId(2));
        let mut holds = vec![
            (other, 1, -100, -80),
            (killed, token, from, to),
            (other, 3, 10, 50),
            (other, 5, 60, 70),
        ];
        holds.sort_by_key(|&(_, _, from, _)| from);
        for (session, token, from, to) in holds {
            history.held(Hold {
                holder: 0,
                session,
                token,
                weight: 1,
                start: at(from),
                end: Some(at(to)),
            });
        }
        history.killed(Kill {
            session: killed,
            asked: at(0),
            done: at(1),
            timeout: SESSION,
        });
        let faults = history.faults(1);
        assert_eq!(!faults.is_empty(), is_fault, "{case}: {faults:#?}");
        assert_eq!(history.excused(), (4, 1), "{case}");
        let tells_kills = faults.last().is_none_or(|fault| fault.contains("killed:"));
        assert!(tells_kills, "{case}: {faults:#?}");
    }
}

#[tokio::test]
async fn the_checker_finds_a_history_that_is_mostly_excuses() {
    let history = History::default();
    let asked = Instant::now();
    for session in 1..=3 {
        drop(history.enter(0, SessionId(session), FencingToken::from(session), 1));
        if session > 1 {
            history.killed(Kill {
                session: SessionId(session),
                asked,
                done: Instant::now(),
                timeout: SESSION,
            });
        }
    }
    assert_eq!(history.excused(), (3, 2));
    let faults = history.faults(1);
    assert!(
        faults.iter().any(|fault| fault.contains("2 of 3")),
        "{faults:#?}"
    );
}

/// What a pause may excuse, in milliseconds from its begin, which is 100 long, and its holder's
/// token (the next one's is 3).
#[tokio::test]
async fn the_checker_excuses_one_who_stood_still_only_until_it_had_its_turn() {
    let begin = Instant::now() + SESSION;
    let at = |ms: u64| begin + Duration::from_millis(ms) - Duration::from_millis(1_000);
    let table = [
        ("it lets go as soon as it may", 2, 1_110, false),
        ("it goes on believing", 2, 1_400, true),
        ("its token is not behind the next one's", 4, 1_110, true),
    ];
    for (case, token, ends, is_fault) in table {
        let history = History::default();
        for (holder, token, from, to) in [
            (0, token, 900, ends),
            (1, 3, 1_050, 1_160),
            (2, 5, 1_200, 1_210),
        ] {
            history.held(Hold {
                holder,
                session: SessionId(token),
                token,
                weight: 1,
                start: at(from),
                end: Some(at(to)),
            });
        }
        history.stalled(Stall {
            process: Some(0),
            from: at(1_000),
            to: at(1_100),
        });
        let faults = history.faults(1);
        assert_eq!(!faults.is_empty(), is_fault, "{case}: {faults:#?}");
    }
}

/// Nothing that looks can stop one who does not: what it writes is refused by its token.
#[tokio::test]
async fn one_who_stands_still_for_too_long_is_refused_by_its_token_and_told_when_it_looks() {
    let server = server().await;
    let history = History::default();
    let (tell, mut told) = tokio::sync::mpsc::channel(4);
    let work = history.clone();
    let process = Process::start(
        0,
        (server.connect_string(), SESSION),
        &history,
        async move |client| {
            let guard = Mutex::new(&client, "/lock").acquire().await.unwrap();
            let holding = work.enter(0, guard.session(), guard.token(), 1);
            assert!(holding.write());
            tell.send(None).await.unwrap();
            // Stands still here, and writes before it looks whether it may.
            tokio::task::yield_now().await;
            let next_holds = async {
                while work.holds_of(1) == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            next_holds.await;
            let is_taken = holding.write();
            let woken = Instant::now();
            guard.lost().await;
            drop(holding);
            tell.send(Some((is_taken, woken.elapsed()))).await.unwrap();
        },
    )
    .await;
    assert!(told.recv().await.unwrap().is_none());
    process.pause(SESSION * 2);
    let two = client(server.connect_string()).await;
    let guard = Mutex::new(&two, "/lock").acquire().await.unwrap();
    let holding = history.enter(1, guard.session(), guard.token(), 1);
    assert!(holding.write());
    let (is_taken, heard_after) = told.recv().await.unwrap().unwrap();
    assert!(!is_taken);
    assert!(heard_after < Duration::from_millis(100), "{heard_after:?}");
    drop(holding);
    assert_eq!((history.refused(), history.faults(1)), (1, vec![]));
    process.join();
}
