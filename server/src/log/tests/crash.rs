//! Power failures and kills at every point of a run.

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::model::Life;
use super::*;

/// Runs a program until its power is cut, then lets the disk crash and opens it again; all the
/// while the log must be what was promised. `false`: the program ended before the cut.
fn survive(program: u64, cut: u64, crash: u64, prepare: impl Fn(&SimDisk)) -> Result<bool, String> {
    let mut life = Life::new(program);
    let disk = SimDisk::new();
    prepare(&disk);
    disk.cut_after(cut);
    for _ in 0..3 {
        let Ok(log) = life.reopen(&disk) else { break };
        life.run(&log, 25, 1);
        log.close();
    }
    let ended = disk.operations() <= cut;
    let mut disk = disk.crash(crash);
    // The power fails again while the log is being opened and first used.
    let mut rng = StdRng::seed_from_u64(crash ^ cut);
    disk.cut_after(rng.random_range(0..12));
    if let Ok(log) = open_with(&disk, life.options().clone()) {
        life.check(&log)?;
        life.run(&log, 3, 1);
        log.close();
    }
    disk = disk.crash(crash + 1);
    let log = life.reopen(&disk)?;
    life.run(&log, 10, 1);
    log.close();
    drop(life.reopen(&disk.crash(crash + 2))?);
    Ok(!ended)
}

#[test]
fn acknowledged_writes_survive_a_cut_at_every_write_and_sync() {
    for program in 0..2 {
        let mut cuts = 0;
        while (0..3).fold(false, |cut, seed| {
            let was_cut = survive(program, cuts, seed * 1000, |_| {});
            cut | was_cut.unwrap_or_else(|why| {
                panic!("program {program}, cut after {cuts}, crash {seed}: {why}")
            })
        }) {
            cuts += 1;
        }
        assert!(cuts > 150, "the program is worth cutting: {cuts}");
    }
}

/// A kill leaves what was written and not synced, and names that are not durable. The next
/// process sees them; what it believes must hold when the power fails a moment later.
#[test]
fn what_a_killed_process_left_is_made_durable_before_it_is_believed() {
    let mut rng = StdRng::seed_from_u64(5);
    for cut in (0..400).step_by(2) {
        for _ in 0..6 {
            let mut life = Life::new(11);
            let disk = SimDisk::new();
            disk.cut_after(cut);
            let Ok(log) = life.reopen(&disk) else {
                continue;
            };
            life.run(&log, 60, 1);
            log.close();
            let disk = disk.kill();
            disk.cut_after(rng.random_range(0..25));
            if let Ok(log) = open_with(&disk, life.options().clone()) {
                let why = life.check(&log);
                why.unwrap_or_else(|why| panic!("cut after {cut}: {why}"));
                life.run(&log, 20, 1);
                log.close();
            }
            let last = life.reopen(&disk.crash(rng.random()));
            drop(last.unwrap_or_else(|why| panic!("cut after {cut}: {why}")));
        }
    }
}

/// The same test finds a disk that says "synced" and is not: it can see what it looks for.
#[test]
fn the_check_goes_red_on_a_disk_that_lies() {
    let mut caught = 0;
    for cut in 20..60 {
        caught += usize::from(survive(0, cut, 7, SimDisk::lie_about_sync).is_err());
    }
    assert!(caught > 10, "{caught}");
}

#[test]
fn random_lives_match_the_model() {
    let seed = std::env::var("QUORATE_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let seeds = seed.map_or(0..100, |seed| seed..seed + 1);
    for seed in seeds {
        let mut rng = StdRng::seed_from_u64(!seed);
        let mut life = Life::new(seed);
        life.options().helper_thread = rng.random_bool(0.2);
        let mut disk = SimDisk::new();
        for _ in 0..8 {
            if rng.random_bool(0.6) {
                disk.cut_after(rng.random_range(0..150));
            }
            let opened = match open_with(&disk, life.options().clone()) {
                Ok(log) => life.check(&log).map(|()| Some(log)),
                // Only the power can be the reason; the next turn opens without a cut or later.
                Err(LogError::Io { .. }) => Ok(None),
                Err(other) => Err(other.to_string()),
            };
            let log = opened.unwrap_or_else(|why| panic!("QUORATE_SEED={seed}: {why}"));
            if let Some(log) = &log {
                life.run(log, 60, 8);
                if log.failure().is_none() {
                    let why = life.check(log);
                    why.unwrap_or_else(|why| panic!("QUORATE_SEED={seed}, open: {why}"));
                }
            }
            // While the log may still be at work: a kill does not ask.
            let next = match rng.random_range(0..3) {
                0 => disk.crash(rng.random()),
                1 => disk.kill(),
                _ => {
                    if let Some(log) = &log {
                        log.close();
                    }
                    disk.kill()
                }
            };
            drop(log);
            disk = next;
        }
        let last = life.reopen(&disk);
        drop(last.unwrap_or_else(|why| panic!("QUORATE_SEED={seed}, last: {why}")));
    }
}
