//! Who breaks the ensemble, by the seed. A majority of the voters is always left whole, so that
//! acknowledged writes have somewhere to survive; who belongs to it changes all the time.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_server::testing::TestCluster;
use rand::Rng;
use rand::rngs::StdRng;

/// One thing that was done.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "shown with the outcome of a run")]
pub(crate) enum Fault {
    Kill(u8),
    PowerFailure(u8),
    Restart(u8),
    Stop(u8),
    Pause(u8),
    Resume(u8),
    Partition(Vec<u8>),
    OneWay(u8, u8),
    SlowLink(u8, u8, Duration),
    SlowDisk(u8, Duration),
    Snapshot(u8),
    Heal,
}

pub(crate) struct Nemesis {
    servers: Vec<u8>,
    down: BTreeSet<u8>,
    paused: BTreeSet<u8>,
    slow: BTreeSet<u8>,
    seed: u64,
}

impl Nemesis {
    pub(crate) fn new(servers: Vec<u8>, rng: &mut StdRng) -> Nemesis {
        Nemesis {
            servers,
            down: BTreeSet::new(),
            paused: BTreeSet::new(),
            slow: BTreeSet::new(),
            seed: rng.random(),
        }
    }

    /// How many more may be out of order at once.
    fn spare(&self) -> usize {
        let most = (self.servers.len() - 1) / 2;
        most.saturating_sub(self.down.len() + self.paused.len())
    }

    /// A victim: often the leader.
    fn victim(&self, cluster: &TestCluster, rng: &mut StdRng) -> Option<u8> {
        let up: Vec<u8> = self
            .servers
            .iter()
            .copied()
            .filter(|id| !self.down.contains(id) && !self.paused.contains(id))
            .collect();
        match cluster.leader_now() {
            Some(leader) if up.contains(&leader) && rng.random_bool(0.5) => Some(leader),
            _ => up.get(rng.random_range(0..up.len().max(1))).copied(),
        }
    }

    /// Breaks or mends one thing.
    pub(crate) async fn step(&mut self, cluster: &mut TestCluster, rng: &mut StdRng) -> Fault {
        let any = |rng: &mut StdRng, set: &BTreeSet<u8>| {
            let at = rng.random_range(0..set.len().max(1));
            set.iter().copied().nth(at)
        };
        loop {
            let victim = self.victim(cluster, rng);
            match rng.random_range(0..14) {
                0..3 if self.spare() > 0 => {
                    let Some(id) = victim else { continue };
                    self.down.insert(id);
                    cluster.kill(id).await;
                    return Fault::Kill(id);
                }
                3 if self.spare() > 0 => {
                    let Some(id) = victim else { continue };
                    self.down.insert(id);
                    self.seed = self.seed.wrapping_add(1);
                    cluster.power_failure(id, self.seed).await;
                    return Fault::PowerFailure(id);
                }
                4 if self.spare() > 0 => {
                    let Some(id) = victim else { continue };
                    self.down.insert(id);
                    cluster.stop(id).await;
                    return Fault::Stop(id);
                }
                5 if self.spare() > 0 => {
                    let Some(id) = victim else { continue };
                    self.paused.insert(id);
                    cluster.pause(id);
                    return Fault::Pause(id);
                }
                6 => {
                    let Some(id) = any(rng, &self.paused) else {
                        continue;
                    };
                    self.paused.remove(&id);
                    cluster.resume(id);
                    return Fault::Resume(id);
                }
                7 | 8 => {
                    let Some(id) = any(rng, &self.down) else {
                        continue;
                    };
                    self.down.remove(&id);
                    cluster.restart(id).await;
                    return Fault::Restart(id);
                }
                9 => {
                    let Some(alone) = victim else { continue };
                    let rest: Vec<u8> = self
                        .servers
                        .iter()
                        .copied()
                        .filter(|&id| id != alone)
                        .collect();
                    cluster.partition(&[&[alone], &rest]);
                    return Fault::Partition(vec![alone]);
                }
                10 => {
                    let (Some(from), Some(to)) = (victim, self.victim(cluster, rng)) else {
                        continue;
                    };
                    if from == to {
                        continue;
                    }
                    cluster.cut_one_way(from, to);
                    return Fault::OneWay(from, to);
                }
                11 => {
                    let (Some(from), Some(to)) = (victim, self.victim(cluster, rng)) else {
                        continue;
                    };
                    if from == to {
                        continue;
                    }
                    let delay = Duration::from_millis(rng.random_range(1..60));
                    cluster.slow_link(from, to, delay);
                    return Fault::SlowLink(from, to, delay);
                }
                12 => {
                    let Some(id) = victim else { continue };
                    let each = Duration::from_millis(rng.random_range(1..40));
                    self.slow.insert(id);
                    cluster.slow_disk(id, each);
                    return Fault::SlowDisk(id, each);
                }
                13 if rng.random_bool(0.3) => {
                    let Some(id) = victim else { continue };
                    cluster.snapshot(id).await;
                    return Fault::Snapshot(id);
                }
                13 => {
                    cluster.heal();
                    return Fault::Heal;
                }
                _ => {}
            }
        }
    }

    /// Everything works again.
    pub(crate) async fn mend(&mut self, cluster: &mut TestCluster) {
        cluster.heal();
        for id in std::mem::take(&mut self.paused) {
            cluster.resume(id);
        }
        for id in std::mem::take(&mut self.down) {
            cluster.restart(id).await;
        }
        for id in std::mem::take(&mut self.slow) {
            cluster.slow_disk(id, Duration::ZERO);
        }
    }
}
