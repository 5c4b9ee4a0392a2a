//! Schedules by seed, and those in which a rule is missed.

use super::Plant;
use super::world::{Outcome, World};

/// Schedules of a plain run.
const SEEDS: u64 = 20;
/// Schedules in which a rule that was taken out must be missed.
const FOUND_WITHIN: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(seed: u64, plant: Option<Plant>) -> Outcome {
    World::new(seed, plant).run()
}

#[test]
fn an_ensemble_keeps_its_promises() {
    if let Some(seed) = number("QUORATE_SEED") {
        let outcome = run(seed, None);
        println!("QUORATE_SEED={seed}: {outcome:#?}");
        assert_eq!(outcome.broken, None);
        return;
    }
    let seeds = number("QUORATE_SEEDS").unwrap_or(SEEDS);
    let mut sum = Outcome::default();
    for seed in 0..seeds {
        let outcome = run(seed, None);
        assert_eq!(outcome.broken, None, "QUORATE_SEED={seed}");
        sum.events += outcome.events;
        sum.calls += outcome.calls;
        sum.entries += outcome.entries;
        sum.elections += outcome.elections;
        sum.expired += outcome.expired;
        sum.proofs += outcome.proofs;
        sum.locks += outcome.locks;
        sum.resent += outcome.resent;
    }
    println!("{seeds} schedules: {sum:?}");
    // An ensemble in which nothing happens keeps every promise.
    assert!(
        sum.calls as u64 > seeds * 100,
        "clients are answered: {sum:?}"
    );
    assert!(sum.elections > seeds * 2, "leaders change: {sum:?}");
    assert!(sum.expired > 0, "sessions expire: {sum:?}");
    assert!(sum.locks > seeds, "the lock is taken: {sum:?}");
    assert!(sum.resent > seeds, "links break: {sum:?}");
}

#[test]
fn a_seed_is_one_schedule() {
    for seed in 0..5 {
        assert_eq!(run(seed, None), run(seed, None), "QUORATE_SEED={seed}");
    }
}

/// The first schedule in which the check of this rule finds that it was taken out.
fn missed(plant: Plant, says: &[&str]) {
    let broken = (0..FOUND_WITHIN).find_map(|seed| {
        let broken = run(seed, Some(plant)).broken?;
        let by_its_check = says.iter().any(|what| broken.contains(what));
        by_its_check.then_some((seed, broken))
    });
    match broken {
        Some((seed, broken)) => println!("{plant:?}: seed {seed}: {broken}"),
        None => panic!("{plant:?} is not missed in {FOUND_WITHIN} schedules"),
    }
}

#[test]
fn a_reply_before_a_quorum_synced_is_found() {
    // A quorum that lost it never had it: replicas find that before clients do.
    missed(
        Plant::ReplyBeforeSync,
        &["Lost", "takes back", "differs behind"],
    );
}

#[test]
fn a_session_that_is_expired_early_is_found() {
    missed(Plant::ExpiresEarly, &["believes until"]);
}

#[test]
fn a_ping_that_a_cut_off_follower_answers_is_found() {
    missed(Plant::CutOffAnswers, &["believes until"]);
}

#[test]
fn a_forwarded_write_that_is_applied_twice_is_found() {
    missed(Plant::AppliedTwice, &["Twice"]);
}

#[test]
fn a_sync_that_a_deposed_leader_answers_is_found() {
    missed(Plant::DeposedSyncs, &["Stale"]);
}
