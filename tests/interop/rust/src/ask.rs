//! What is asked and answered at once.

use std::time::Duration;

use quorate_recipes::Client;
use quorate_recipes::barrier::Barrier;
use quorate_recipes::client::Codec;
use quorate_recipes::counter::{
    Ascii, AtomicInteger, AtomicLong, AtomicValue, CachedAtomic, SharedCount, SharedValue,
};
use quorate_recipes::election::{LeaderLatch, LeaderSelector};
use quorate_recipes::lease::{Lease, MultiLease};
use quorate_recipes::lock::{Mutex, RwLock, revoke};
use quorate_recipes::queue::{Item, Sharder};

use crate::take::{group, layout, queue};
use crate::{Peer, Result};

impl Peer {
    pub(crate) async fn ask(
        &self,
        kind: &str,
        whose: &str,
        path: &str,
        words: &[&str],
    ) -> Result<String> {
        let client = &self.client;
        match kind {
            "gate" => {
                let gate = Barrier::new(client, path);
                let changed = match words.first() {
                    Some(&"close") => gate.close().await?,
                    _ => gate.open().await?,
                };
                Ok(changed.to_string())
            }
            "members" => {
                let members = group(client, path, whose).members().await?;
                let ids: Vec<String> = members.into_iter().map(|member| member.id).collect();
                Ok(ids.join(","))
            }
            "counter" => count(client, whose, path, words).await,
            "count" => shared_count(client, path, words).await,
            "value" => value(client, whose, path, words).await,
            "cached" => {
                let counter = CachedAtomic::new(AtomicLong::new(client, path), 4);
                let mut numbers = Vec::new();
                for _ in 0..number(words, 0)? {
                    numbers.push(counter.next().await?.to_string());
                }
                Ok(numbers.join(","))
            }
            "lease" => {
                let (holder, time) = lease(words)?;
                let is_ours = Lease::new(client, path, holder).obtain(time).await?;
                Ok(is_ours.to_string())
            }
            "multi-lease" => {
                let (holder, time) = lease(words)?;
                let lease = MultiLease::new(client, path, holder, 2);
                Ok(lease.obtain(time).await?.is_some().to_string())
            }
            "put" => self.put(whose, path, words).await,
            "remove" => {
                let removed = queue(client, path, whose, "id");
                let id = words.first().ok_or("an id")?;
                Ok(removed.remove(id).await?.to_string())
            }
            "revoke" => {
                revoke(client, path).await?;
                Ok(String::new())
            }
            "leader" => {
                let leader = match words.first() {
                    Some(&"selector") => {
                        let selector = LeaderSelector::with_layout(client, path, "", layout(whose));
                        selector.leader().await?
                    }
                    _ => {
                        let latch = LeaderLatch::with_layout(client, path, "", layout(whose));
                        latch.leader().await?
                    }
                };
                let data = leader.map(|leader| leader.data).unwrap_or_default();
                Ok(String::decode(&data)?)
            }
            "foreign" => {
                let standing = match words.first() {
                    Some(&"rw") => {
                        let lock = RwLock::with_layout(client, path, layout(whose));
                        lock.contenders().await?
                    }
                    Some(&"latch") => {
                        let latch = LeaderLatch::with_layout(client, path, "", layout(whose));
                        latch.participants().await?
                    }
                    _ => {
                        let lock = Mutex::with_layout(client, path, layout(whose));
                        lock.contenders().await?
                    }
                };
                Ok(standing.foreign.join(","))
            }
            _ => Err(format!("no {kind}").into()),
        }
    }

    async fn put(&self, whose: &str, path: &str, words: &[&str]) -> Result<String> {
        let (order, body, wish) = match words {
            [order, body] => (*order, *body, None),
            [order, body, wish] => (*order, *body, Some(*wish)),
            _ => return Err("ORDER BODY [WISH]".into()),
        };
        if whose == "sharded" {
            let shards = Sharder::<String>::open(&self.client, path, |queue| queue);
            shards.check().await?;
            shards.put(body.to_owned()).await?;
            return Ok(String::new());
        }
        let item = Item::new(body.to_owned());
        let item = match (order, wish) {
            ("priority", Some(wish)) => item.priority(wish.parse()?),
            ("delay", Some(wish)) => item.delay(Duration::from_millis(wish.parse()?)),
            ("id", Some(wish)) => item.id(wish),
            _ => item,
        };
        queue(&self.client, path, whose, order).put(item).await?;
        Ok(String::new())
    }
}

fn number(words: &[&str], at: usize) -> Result<i32> {
    Ok(words.get(at).ok_or("a number")?.parse()?)
}

fn lease<'w>(words: &[&'w str]) -> Result<(&'w str, Duration)> {
    let seconds = u64::try_from(number(words, 1)?)?;
    let holder = words.first().ok_or("a holder")?;
    Ok((holder, Duration::from_secs(seconds)))
}

async fn count(client: &Client, whose: &str, path: &str, words: &[&str]) -> Result<String> {
    let delta = match words.first() {
        Some(&"add") => Some(number(words, 1)?),
        _ => None,
    };
    Ok(match (whose, delta) {
        ("int", Some(delta)) => {
            let counter = AtomicInteger::new(client, path).tries(1000);
            counter.add(&delta).await?.after.to_string()
        }
        ("int", None) => AtomicInteger::new(client, path).get().await?.to_string(),
        ("long", Some(delta)) => {
            let counter = AtomicLong::new(client, path).tries(1000);
            counter.add(&delta.into()).await?.after.to_string()
        }
        ("long", None) => AtomicLong::new(client, path).get().await?.to_string(),
        (_, delta) => {
            let counter = quorate_recipes::counter::Atomic::<Ascii<i64>>::new(client, path);
            let counter = counter.tries(1000);
            match delta {
                Some(delta) => counter.add(&Ascii(delta.into())).await?.after.0.to_string(),
                None => counter.get().await?.0.to_string(),
            }
        }
    })
}

async fn shared_count(client: &Client, path: &str, words: &[&str]) -> Result<String> {
    let count = SharedCount::open(client, path, 0).await?;
    match words.first() {
        Some(&"add") => {
            let delta = number(words, 1)?;
            loop {
                let seen = count.get();
                let sum = seen.value.wrapping_add(delta);
                if count.try_set(&seen, sum).await? {
                    return Ok(sum.to_string());
                }
            }
        }
        Some(&"set") => {
            count.set(number(words, 1)?).await?;
            Ok(String::new())
        }
        _ => Ok(count.get().value.to_string()),
    }
}

async fn value(client: &Client, whose: &str, path: &str, words: &[&str]) -> Result<String> {
    let written = match words {
        ["set", value] => Some((*value).to_owned()),
        _ => None,
    };
    let bytes = match (whose, written) {
        ("atomic", Some(value)) => {
            let atomic = AtomicValue::new(client, path);
            atomic.force_set(&value.clone().into()).await?;
            return Ok(value);
        }
        ("atomic", None) => AtomicValue::new(client, path).get().await?,
        (_, Some(value)) => {
            let shared = SharedValue::open(client, path, "".into()).await?;
            shared.set(value.clone().into()).await?;
            return Ok(value);
        }
        (_, None) => {
            let shared = SharedValue::open(client, path, "".into()).await?;
            shared.get().value
        }
    };
    Ok(String::decode(&bytes)?)
}
