//! The rules of sessions (R16 to R18) under every order of events that a seed can think of.
//!
//! One client, three servers, and a log that is replicated as Raft allows: a leader that was
//! deposed does not know it, leadership changes inside a lease (a hand-over does that), entries of
//! a former term may be kept or lost, what was lost is proposed again, servers apply at their own
//! pace, stand still, are cut off, and have clocks of their own. Reports, judgement, delivery and
//! the replicated state are the real ones; the network, the log and the time are the model's.
//!
//! What must hold at every instant, once the end of the session is applied on any server:
//! - The client does not believe in it: no reply that proves it was released whose request was
//!   sent less than a timeout ago.
//! - No server that is awake answers the client, or keeps a connection of it open that has heard
//!   of the server within the time after which ZooKeeper's client gives up.
//!
//! Each rule is taken out once, and a promise has to be broken. Seeds find three of the ten holes by
//! themselves; for the others there is a script each, which keeps all promises while the rule holds.

mod world;

use self::world::{Outcome, Plant, World, script};

/// Schedules of a plain run; `QUORATE_SCHEDULES` asks for more.
const SCHEDULES: u64 = 200;
/// Schedules in which a rule that was taken out must be missed.
const FOUND_WITHIN: u64 = 400;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(seed: u64, plant: Option<Plant>) -> Outcome {
    World::new(seed, plant).run()
}

#[test]
fn no_client_believes_in_a_session_that_is_over() {
    if let Some(seed) = number("QUORATE_SEED") {
        let outcome = run(seed, None);
        panic!("QUORATE_SEED={seed}: {outcome:#?}");
    }
    let schedules = number("QUORATE_SCHEDULES").unwrap_or(SCHEDULES);
    let mut sum = Outcome::default();
    for seed in 0..schedules {
        let outcome = run(seed, None);
        assert_eq!(outcome.broken, None, "QUORATE_SEED={seed}");
        sum.add(&outcome);
    }
    println!("{schedules} schedules: {sum:?}");
    // A model in which nothing happens keeps every promise.
    assert!(sum.ended > schedules / 10, "sessions end: {sum:?}");
    assert!(sum.proofs > schedules * 10, "clients are answered: {sum:?}");
    assert!(sum.elections > schedules, "leaders change: {sum:?}");
    assert!(sum.voided > schedules / 100, "expiries are void: {sum:?}");
}

/// The first schedule that breaks a promise without this rule.
fn missed(plant: Plant) {
    let broken = (0..FOUND_WITHIN).find_map(|seed| {
        let outcome = run(seed, Some(plant));
        outcome.broken.map(|broken| (seed, broken))
    });
    match broken {
        Some((seed, broken)) => println!("{plant:?}: seed {seed}: {broken}"),
        None => panic!("{plant:?} is not missed in {FOUND_WITHIN} schedules"),
    }
}

/// A script in which a promise is broken without this rule, and kept with it.
fn shown(plant: Plant, script: fn(&mut World)) {
    let kept = script::follow(script, None);
    assert_eq!(kept.broken, None, "with all rules");
    assert_eq!(kept.ended, 1, "the session is over in the end: {kept:?}");
    let outcome = script::follow(script, Some(plant));
    let broken = outcome.broken.as_deref();
    println!("{plant:?}: {}", broken.expect("missed"));
}

#[test]
fn a_reply_needs_a_report_that_left_behind_its_request() {
    shown(Plant::EarlierReport, script::ping_behind_a_report);
}

#[test]
fn a_marked_session_must_not_be_confirmed() {
    shown(Plant::ConfirmsMarked, script::report_behind_the_mark);
}

#[test]
fn a_leader_must_not_confirm_without_its_lease() {
    missed(Plant::NoLease);
}

#[test]
fn a_leader_must_not_confirm_before_the_first_entry_of_its_term() {
    shown(
        Plant::BeforeFirstEntry,
        script::report_in_front_of_the_first_entry,
    );
}

#[test]
fn a_new_leader_must_start_over() {
    missed(Plant::NoStartOver);
}

#[test]
fn a_new_leader_must_grant_its_lease_on_top() {
    shown(Plant::NoExtraLease, script::ping_at_the_end_of_a_lease);
}

#[test]
fn a_server_must_close_its_clients_when_nobody_confirms() {
    missed(Plant::NoBound);
}

#[test]
fn a_server_must_close_a_client_that_it_did_not_report() {
    shown(Plant::NoProof, script::read_behind_a_sweep);
}

#[test]
fn an_expiry_must_not_outlive_its_term() {
    shown(Plant::ExpiryOfAnyTerm, script::expiry_of_a_former_leader);
}

#[test]
fn an_expiry_must_not_pass_over_a_write() {
    shown(
        Plant::ExpiryDespiteWrites,
        script::write_in_front_of_an_expiry,
    );
}
