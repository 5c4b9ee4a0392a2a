//! Quotas through the whole of apply.

use quorate_proto::{ErrorCode, Version};

use super::support::*;
use crate::tree::txn::{Create, CreateKind, Op};

const LIMITS: &str = "/zookeeper/quota/q/zookeeper_limits";
const STATS: &str = "/zookeeper/quota/q/zookeeper_stats";

fn world_with(limits: &str) -> World {
    let mut world = World::new();
    world.create("/q").unwrap();
    world.create("/q/old").unwrap();
    world.create("/zookeeper/quota/q").unwrap();
    let data = Some(limits.as_bytes());
    let limits = create_with(LIMITS, CreateKind::Persistent, data);
    world.op(Op::Create(limits)).unwrap();
    let stats = create_with(STATS, CreateKind::Persistent, Some(b"count=0,bytes=0"));
    world.op(Op::Create(stats)).unwrap();
    world.events();
    world
}

fn enforced<'a>(path: &'a str, data: &'a str) -> Op<'a> {
    Op::Create(Create {
        enforce_quota: true,
        ..create_with(path, CreateKind::Persistent, Some(data.as_bytes()))
    })
}

fn enforced_set<'a>(path: &'a str, data: &'a str) -> Op<'a> {
    Op::SetData {
        path: path.into(),
        data: Some(data.as_bytes().into()),
        version: Version::ANY,
        enforce_quota: true,
    }
}

#[test]
fn usage_is_counted_when_its_znode_is_made_and_followed_silently() {
    let mut world = world_with("count=100,bytes=-1");
    assert_eq!(world.text(STATS), "count=2,bytes=8");
    let before = world.stat(STATS).unwrap();
    world.create("/q/a").unwrap();
    assert_eq!(world.text(STATS), "count=3,bytes=12");
    world.changed(set("/q/a", "123456789", -1)).unwrap();
    assert_eq!(world.text(STATS), "count=3,bytes=17");
    world.op(delete("/q/a", -1)).unwrap();
    assert_eq!(world.text(STATS), "count=2,bytes=8");
    world.create("/elsewhere").unwrap();
    assert_eq!(world.text(STATS), "count=2,bytes=8");
    assert_eq!(world.stat(STATS), Some(before), "no version, no mzxid");
    assert!(world.events().iter().all(|(_, path)| path != STATS));
}

#[test]
fn the_length_of_the_usage_follows_its_text() {
    let mut world = world_with("count=100");
    for number in 0..10 {
        world.create(&format!("/q/{number}")).unwrap();
    }
    assert_eq!(world.text(STATS), "count=12,bytes=48");
    assert_eq!(world.stat(STATS).unwrap().data_length, 17);
}

#[test]
fn hard_limits_refuse_only_where_the_server_enforces_them() {
    let mut world = world_with("count=-1,bytes=-1=;byteHardLimit=20;countHardLimit=4");
    assert_eq!(
        world.op(enforced("/q/big", &"x".repeat(13))),
        Err(ErrorCode::QuotaExceeded)
    );
    assert!(
        world.op(enforced("/q/fits", &"x".repeat(12))).is_ok(),
        "reaches 20 exactly"
    );
    assert_eq!(
        world.op(enforced_set("/q/fits", &"x".repeat(13))),
        Err(ErrorCode::QuotaExceeded)
    );
    assert!(world.op(enforced("/q/empty", "")).is_ok(), "the fourth");
    assert_eq!(
        world.op(enforced("/q/fifth", "")),
        Err(ErrorCode::QuotaExceeded)
    );
    assert!(world.create("/q/fifth").is_ok());
    assert_eq!(world.text(STATS), "count=5,bytes=24");
    assert!(world.op(enforced_set("/q/fits", "x")).is_ok());
    assert_eq!(
        world
            .op(enforced("/elsewhere", &"x".repeat(99)))
            .map(|_| ()),
        Ok(())
    );
}

#[test]
fn soft_limits_refuse_nothing() {
    let mut world = world_with("count=1,bytes=1");
    assert!(world.op(enforced("/q/a", "data")).is_ok());
}

#[test]
fn garbage_limits_fail_where_they_are_enforced() {
    let mut world = world_with("nonsense");
    assert_eq!(
        world.op(enforced("/q/a", "")),
        Err(ErrorCode::MarshallingError)
    );
    assert_eq!(
        world.op(enforced_set("/q", "")),
        Err(ErrorCode::MarshallingError)
    );
    assert!(world.create("/q/a").is_ok());
    world.changed(set(LIMITS, "", -1)).unwrap();
    assert!(
        world.op(enforced("/q/b", "")).is_ok(),
        "empty limits are none"
    );
}

#[test]
fn a_quota_ends_with_its_limits() {
    let mut world = world_with("count=-1,bytes=-1=;countHardLimit=2");
    assert_eq!(
        world.op(enforced("/q/a", "")),
        Err(ErrorCode::QuotaExceeded)
    );
    world.op(delete(LIMITS, -1)).unwrap();
    assert!(world.op(enforced("/q/a", "")).is_ok());
    assert_eq!(world.text(STATS), "count=2,bytes=8", "no longer followed");
}

#[test]
fn a_multi_is_held_against_the_committed_usage_only() {
    let mut world = world_with("count=-1,bytes=-1=;countHardLimit=3");
    let multi = vec![
        enforced("/q/a", ""),
        enforced("/q/b", ""),
        enforced("/q/c", ""),
    ];
    assert!(world.multi(multi).is_ok());
    assert_eq!(world.text(STATS), "count=5,bytes=8");
    assert_eq!(
        world.op(enforced("/q/d", "")),
        Err(ErrorCode::QuotaExceeded)
    );
}

#[test]
fn the_quota_of_a_set_is_looked_at_before_its_version() {
    let mut world = world_with("count=-1,bytes=-1=;byteHardLimit=8");
    let op = Op::SetData {
        path: "/q/old".into(),
        data: Some(b"too long"[..].into()),
        version: Version(99),
        enforce_quota: true,
    };
    assert_eq!(world.op(op), Err(ErrorCode::QuotaExceeded));
}

#[test]
fn the_ephemerals_of_a_session_leave_the_usage_with_it() {
    let mut world = world_with("count=100");
    world.op(ephemeral("/q/e")).unwrap();
    assert_eq!(world.text(STATS), "count=3,bytes=8");
    world.write(crate::tree::txn::Txn::CloseSession);
    assert_eq!(world.text(STATS), "count=2,bytes=8");
}

#[test]
fn usage_that_a_client_overwrote_stays_as_it_is() {
    let mut world = world_with("count=100");
    world.changed(set(STATS, "nonsense", -1)).unwrap();
    world.create("/q/a").unwrap();
    assert_eq!(world.text(STATS), "nonsense");
}
