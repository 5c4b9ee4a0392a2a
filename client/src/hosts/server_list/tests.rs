use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const CAP: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(60);

fn named(names: &[&str]) -> Vec<HostPort> {
    let server = |name: &&str| HostPort {
        host: (*name).to_owned(),
        port: 2181,
    };
    names.iter().map(server).collect()
}

fn many(count: usize) -> Vec<HostPort> {
    let names: Vec<String> = (0..count).map(|at| format!("h{at}")).collect();
    named(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

fn list(count: usize) -> ServerList {
    ServerList::new(many(count), CAP, 7)
}

fn round(list: &mut ServerList, count: usize) -> Vec<Attempt> {
    (0..count).map(|_| list.next()).collect()
}

fn names(attempts: &[Attempt]) -> Vec<String> {
    let name = |attempt: &Attempt| attempt.server.host.clone();
    attempts.iter().map(name).collect()
}

#[test]
fn clients_start_with_different_servers() {
    let first = |seed| ServerList::new(many(5), CAP, seed).next().server;
    let firsts: HashSet<HostPort> = (0..100).map(first).collect();
    assert_eq!(firsts.len(), 5);
}

#[test]
fn every_server_is_tried_before_any_is_tried_again() {
    let mut list = list(5);
    let first: HashSet<String> = names(&round(&mut list, 5)).into_iter().collect();
    assert_eq!(first.len(), 5);
    let second: HashSet<String> = names(&round(&mut list, 5)).into_iter().collect();
    assert_eq!(second, first);
}

#[test]
fn the_first_round_does_not_pause() {
    for attempt in round(&mut list(3), 3) {
        assert_eq!((attempt.pause, attempt.new_cycle), (Duration::ZERO, false));
    }
}

#[test]
fn further_rounds_start_with_a_pause_that_doubles_up_to_the_cap() {
    let mut list = list(3);
    round(&mut list, 3);
    for longest_ms in [300, 600, 1_200, 2_400, 4_800, 5_000, 5_000] {
        let attempts = round(&mut list, 3);
        let longest = Duration::from_millis(longest_ms);
        assert!(attempts[0].new_cycle && !attempts[1].new_cycle && !attempts[2].new_cycle);
        let pause = attempts[0].pause;
        assert!(
            pause >= longest / 2 && pause <= longest,
            "{pause:?} of {longest:?}"
        );
        assert!(attempts[1].pause <= SERVER_PAUSE && attempts[1].pause >= SERVER_PAUSE / 2);
        assert!(attempts[2].pause <= SERVER_PAUSE * 2 && attempts[2].pause >= SERVER_PAUSE);
    }
}

#[test]
fn pauses_of_clients_differ() {
    let second_round = |seed| {
        let mut list = ServerList::new(many(1), CAP, seed);
        list.next();
        list.next().pause
    };
    let pauses: HashSet<Duration> = (0..100).map(second_round).collect();
    assert!(pauses.len() > 90);
}

#[test]
fn the_server_that_worked_last_comes_first_and_at_once() {
    let mut list = list(3);
    let order = names(&round(&mut list, 5));
    list.success();
    let again = round(&mut list, 3);
    assert_eq!(again[0].server.host, order[4]);
    assert_eq!(names(&again)[1..], [order[2].clone(), order[3].clone()]);
    assert!(
        again
            .iter()
            .all(|attempt| attempt.pause.is_zero() && !attempt.new_cycle)
    );
}

#[test]
fn a_lasting_connection_keeps_the_privilege() {
    let mut list = list(3);
    let order = names(&round(&mut list, 2));
    list.success();
    list.lost(LONG);
    assert_eq!(list.next().server.host, order[1]);
}

/// A server that takes sessions and drops them would otherwise be dialled at full speed.
#[test]
fn a_connection_that_breaks_at_once_counts_as_a_failed_attempt() {
    let mut list = list(2);
    let order = names(&round(&mut list, 2));
    let mut paused = Duration::ZERO;
    for at in 0..20 {
        let attempt = list.next();
        assert_eq!(attempt.server.host, order[at % 2]);
        paused += attempt.pause;
        list.success();
        list.lost(Duration::from_millis(5));
    }
    assert!(paused > Duration::from_secs(10), "{paused:?}");
}

#[test]
fn one_lasting_connection_ends_the_penalty() {
    let mut list = list(2);
    round(&mut list, 7);
    list.success();
    list.lost(LONG);
    assert_eq!(list.next().pause, Duration::ZERO);
    list.success();
    list.lost(Duration::ZERO);
    assert_eq!(list.next().pause, Duration::ZERO, "the first round goes on");
}

#[test]
fn success_or_loss_told_twice_is_told_once() {
    let mut list = list(3);
    let order = names(&round(&mut list, 1));
    list.success();
    list.success();
    assert_eq!(list.next().server.host, order[0]);
    list.success();
    list.lost(Duration::ZERO);
    list.lost(Duration::ZERO);
    let next = list.next().server.host;
    assert_ne!(next, order[0]);
}

#[test]
fn the_same_servers_in_another_order_change_nothing() {
    let mut list = list(3);
    let order = names(&round(&mut list, 4));
    let mut same = many(3);
    same.reverse();
    assert!(list.replace(same));
    assert!(list.replace(Vec::new()), "an empty list is no list");
    let next = list.next();
    assert_eq!(next.server.host, order[1]);
    assert!(!next.pause.is_zero(), "and the pauses go on growing");
}

#[test]
fn a_connected_server_keeps_its_turn_in_a_new_list() {
    let mut list = list(3);
    let connected = round(&mut list, 2).remove(1).server;
    list.success();
    let mut grown = named(&["n1", "n2", "n3"]);
    grown.push(connected.clone());
    assert!(list.replace(grown));
    let attempts = round(&mut list, 4);
    assert_eq!(attempts[0].server, connected);
    assert_eq!(
        names(&attempts).into_iter().collect::<HashSet<_>>().len(),
        4
    );
}

#[test]
fn a_connected_server_that_left_the_list_is_named() {
    let mut list = list(3);
    list.next();
    list.success();
    assert!(!list.replace(named(&["n1", "n2"])));
    let attempts = round(&mut list, 2);
    assert!(
        attempts
            .iter()
            .all(|attempt| attempt.server.host.starts_with('n'))
    );
    assert!(attempts.iter().all(|attempt| attempt.pause.is_zero()));
}

#[test]
fn a_new_list_is_tried_without_pauses_and_the_failed_server_last() {
    let mut list = list(2);
    let failed = round(&mut list, 6).remove(5).server;
    let mut grown = many(2);
    grown.extend(named(&["n1", "n2"]));
    assert!(list.replace(grown));
    let attempts = round(&mut list, 4);
    assert!(attempts.iter().all(|attempt| attempt.pause.is_zero()));
    assert_eq!(attempts[3].server, failed);
}

#[test]
fn a_lone_server_that_failed_comes_last_in_the_list_that_replaces_it() {
    let mut list = list(1);
    let failed = list.next().server;
    let mut grown = many(1);
    grown.extend(named(&["n1", "n2"]));
    list.replace(grown);
    assert_eq!(round(&mut list, 3)[2].server, failed);
}

/// The list may change while a server is being dialled.
#[test]
fn a_server_that_connects_behind_a_change_of_the_list_comes_first_as_well() {
    let mut list = list(2);
    let dialled = round(&mut list, 2).remove(1).server;
    let mut grown = many(2);
    grown.extend(named(&["n1", "n2"]));
    list.replace(grown);
    list.success();
    assert_eq!(list.next().server, dialled);
}

#[test]
fn a_server_that_left_the_list_is_named_again_each_time() {
    let mut list = list(3);
    list.next();
    list.success();
    assert!(!list.replace(named(&["n1", "n2"])));
    assert!(!list.replace(named(&["n2", "n1"])));
    list.next();
    assert!(list.replace(named(&["n1", "n2"])));
}

/// A read-only server is left as soon as another takes writes, however short that was.
#[test]
fn a_preferred_server_is_next_and_leaving_for_it_is_no_failure() {
    let mut list = list(4);
    let better = round(&mut list, 6).remove(3).server;
    list.success();
    list.prefer(&better);
    list.lost(Duration::ZERO);
    let attempt = list.next();
    assert_eq!((attempt.server, attempt.pause), (better, Duration::ZERO));
    list.prefer(&named(&["unknown"])[0]);
    assert!(many(4).contains(&list.next().server));
}

#[derive(Clone, Debug)]
enum Step {
    Next,
    Success,
    Lost(u64),
    Prefer(u8),
    Replace(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Next),
        1 => Just(Step::Success),
        1 => (0_u64..2_000).prop_map(Step::Lost),
        1 => (0_u8..6).prop_map(Step::Prefer),
        1 => proptest::collection::vec(0_u8..6, 0..5).prop_map(Step::Replace),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_a_listed_server_comes_next_and_no_pause_exceeds_the_cap(
        steps in proptest::collection::vec(step(), 0..200),
        cap_ms in 0_u64..5_000,
        seed in any::<u64>(),
    ) {
        let cap = Duration::from_millis(cap_ms);
        let mut current = many(3);
        let mut list = ServerList::new(current.clone(), cap, seed);
        for step in steps {
            match step {
                Step::Next => {
                    let attempt = list.next();
                    prop_assert!(current.contains(&attempt.server));
                    prop_assert!(attempt.pause <= cap);
                }
                Step::Success => list.success(),
                Step::Lost(lasted_ms) => list.lost(Duration::from_millis(lasted_ms)),
                Step::Prefer(at) => list.prefer(&named(&[&format!("h{at}")])[0]),
                Step::Replace(servers) => {
                    let names: Vec<String> = servers.iter().map(|at| format!("h{at}")).collect();
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    list.replace(named(&names));
                    if !names.is_empty() {
                        current = named(&names);
                    }
                }
            }
        }
    }
}
