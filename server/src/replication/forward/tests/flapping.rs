//! Roles change at random, links break at random, and each session's writes are applied once and
//! in order.

use super::*;

const SESSIONS: i64 = 6;

/// What a run met, to know that it was worth its time.
#[derive(Default)]
struct Met {
    duplicates: u64,
    reads: u64,
    confirmed: usize,
}

/// A reader on one server, at any time: what was committed when it asked is applied when it is
/// answered.
async fn read_on(world: &World, number: u8, met: &Mutex<Met>) {
    let server = world.server(number);
    loop {
        let committed = world.engine.lock().committed;
        if server.read_index.wait().await.is_ok() {
            assert!(server.progress.has_applied(committed));
            met.lock().reads += 1;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// A report from one server: when it is confirmed, somebody who led renewed it after it was sent.
async fn report_on(world: &World, number: u8, met: &Mutex<Met>) {
    let mut count = 0;
    loop {
        count += 1;
        let known = SessionId(i64::from(number) * 1_000_000 + count);
        let unknown = SessionId(-known.0);
        let report = world.server(number).confirmer.confirm(vec![known, unknown]);
        if let Ok(confirmed) = report.await {
            assert_eq!(confirmed.refused, [unknown]);
            let renewed = world.renewed.lock();
            assert!(
                renewed
                    .iter()
                    .any(|(_, sessions)| sessions.contains(&known))
            );
            met.lock().confirmed += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn storm(world: &World, dice: &mut StdRng, writes: &mut HashMap<i64, u64>) {
    let mut term = 1;
    for _ in 0..400 {
        match dice.random_range(0..100) {
            // The engine's truth first; servers hear of it in any order, each later or never.
            0..4 => {
                term += 1;
                let leader = dice.random_range(0..4);
                let leader = (leader > 0).then_some((leader, term));
                let kept = dice.random_range(0..4);
                world.engine.lock().elect(leader, kept);
                for number in 1..=3 {
                    if dice.random_bool(0.9) {
                        world.tell(number, leader);
                    }
                    let ms = dice.random_range(0..4);
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                }
            }
            4..60 => {
                let session = dice.random_range(0..SESSIONS);
                let number = u8::try_from(session % 3).unwrap() + 1;
                for _ in 0..dice.random_range(1..5) {
                    let seq = writes.entry(session).or_default();
                    *seq += 1;
                    world.server(number).push(session, *seq);
                }
            }
            60..80 => {
                let mut engine = world.engine.lock();
                let some = dice.random_range(0..=engine.tail.len());
                engine.commit(some);
            }
            80..90 => {
                let number = dice.random_range(1..=3);
                let committed = world.engine.lock().committed;
                world.server(number).progress.advance(committed);
            }
            _ => {
                let ms = dice.random_range(0..30);
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
        }
        tokio::task::yield_now().await;
    }
    term += 1;
    *world.wires.weather.lock() = Weather::default();
    world.elect(u8::try_from(term % 3).unwrap() + 1, term);
    world.until(|engine| engine.applied == *writes).await;
}

async fn run(seed: u64) -> Met {
    let mut dice = StdRng::seed_from_u64(seed);
    let world = World::new(seed);
    *world.wires.weather.lock() = Weather {
        late: 300,
        cut: 20,
        repeated: 5,
        refused: 100,
    };
    let mut writes = HashMap::new();
    let met = Mutex::default();
    let readers = async {
        tokio::join!(
            read_on(&world, 1, &met),
            read_on(&world, 2, &met),
            read_on(&world, 3, &met),
            report_on(&world, 1, &met),
            report_on(&world, 2, &met),
            report_on(&world, 3, &met),
        )
    };
    tokio::select! {
        ended = tokio::time::timeout(Duration::from_secs(600), storm(&world, &mut dice, &mut writes)) => {
            assert!(ended.is_ok(), "seed {seed}: {writes:?}, {:?}", world.engine.lock().applied);
        }
        _ = readers => {}
    }
    {
        let engine = world.engine.lock();
        assert!(engine.gaps.is_empty(), "seed {seed}: {:?}", engine.gaps);
        met.lock().duplicates = engine.duplicates;
    }
    world.end().await;
    met.into_inner()
}

#[tokio::test(start_paused = true)]
async fn whoever_leads_and_whatever_breaks_each_write_is_applied_once_and_in_order() {
    let mut all = Met::default();
    for seed in 0..40 {
        let met = run(seed).await;
        all.duplicates += met.duplicates;
        all.reads += met.reads;
        all.confirmed += met.confirmed;
    }
    assert!(all.duplicates > 100, "{}", all.duplicates);
    assert!(all.reads > 1000, "{}", all.reads);
    assert!(all.confirmed > 1000, "{}", all.confirmed);
}
