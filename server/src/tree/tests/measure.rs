//! Figures, not facts: `cargo test --release -p quorate-server tree::tests::measure -- --ignored
//! --nocapture --test-threads 1`.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::time::Instant;

use bytes::BytesMut;

use super::support::*;
use crate::tree::txn::{CreateKind, Op, Origin, Proposal, Txn};
use crate::tree::{CallerBuf, State};

const COUNT: usize = 1_000_000;

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

struct Nothing;

impl crate::tree::ChangeSink for Nothing {
    fn change(
        &mut self,
        _: quorate_proto::Zxid,
        _: quorate_proto::EventType,
        _: &str,
        _: &[quorate_proto::Acl],
    ) {
    }
}

/// Paths of 35 bytes below 100 parents, in no order.
fn path(number: usize) -> String {
    let mixed = number * 7_919 % COUNT;
    format!("/bench/parent-{:05}/node-{mixed:010}", mixed % 100)
}

#[test]
#[ignore = "prints figures"]
fn a_million_znodes() {
    let mut world = World::new();
    world.create("/bench").unwrap();
    for parent in 0..100 {
        world.create(&format!("/bench/parent-{parent:05}")).unwrap();
    }
    world.events();
    assert_eq!(path(5).len(), 35);
    let caller = CallerBuf::new(&[], false);
    let data = [7; 100];
    let proposals = |make: &dyn Fn(usize) -> Op<'static>, first: usize| {
        let mut log = BytesMut::new();
        for number in 0..COUNT {
            Proposal {
                origin: Origin {
                    session: world.session,
                    attach: 1,
                    seq: (first + number) as u64,
                },
                caller: caller.as_caller(),
                txn: Txn::Op(make(number)),
            }
            .encode(&mut log);
        }
        log.to_vec()
    };
    let creates = proposals(
        &|number| {
            let Op::Create(mut create) = create("") else {
                unreachable!()
            };
            create.path = path(number).into();
            create.data = Some(data.to_vec().into());
            Op::Create(create)
        },
        102,
    );
    let sets = proposals(
        &|number| Op::SetData {
            path: path(number * 31).into(),
            data: Some(data.to_vec().into()),
            version: quorate_proto::Version::ANY,
            enforce_quota: false,
        },
        102 + COUNT,
    );
    let run = |name: &str, log: &[u8]| {
        let start = Instant::now();
        let mut rest = log;
        while !rest.is_empty() {
            let proposal = Proposal::decode(&mut rest).unwrap();
            let verdict = world.state.apply(5, &proposal, &mut Nothing);
            assert!(matches!(
                verdict,
                crate::tree::txn::Verdict::Judged {
                    outcome: crate::tree::txn::Outcome::Done(_),
                    ..
                }
            ));
        }
        let ns = start.elapsed().as_nanos() / COUNT as u128;
        println!("{name}: {ns} ns, {} k/s", 1_000_000 / ns);
    };
    let before = resident();
    run("create", &creates);
    println!("resident: {} B/znode", (resident() - before) / COUNT);
    run("setData", &sets);
    println!(
        "resident after setData: {} B/znode",
        (resident() - before) / COUNT
    );

    let start = Instant::now();
    let mut found = 0;
    for number in 0..COUNT {
        let path = path(number * 17);
        found += usize::from(world.state.tree().read(&path).node().is_some());
    }
    println!(
        "read: {} ns with formatting the path ({found})",
        start.elapsed().as_nanos() / COUNT as u128
    );

    let start = Instant::now();
    let mut capture = world.state.capture();
    let mut nodes = Vec::new();
    while let Some(section) = capture.next_section() {
        nodes.push(section);
    }
    println!("capture: {} ms", start.elapsed().as_millis());

    let start = Instant::now();
    let builder = State::builder([0; 32]);
    let acl = builder.acl(&quorate_proto::Acl::open_unsafe());
    for node in nodes.iter().flatten() {
        builder
            .node(node.path(), node.data(), &acl, &node.stat())
            .unwrap();
    }
    println!("load, nodes: {} ms", start.elapsed().as_millis());
    let state = builder.finish().unwrap();
    println!("load: {} ms", start.elapsed().as_millis());
    assert_eq!(state.tree().node_count(), world.state.tree().node_count());
    assert_eq!(create_with("/a", CreateKind::Persistent, None).path, "/a");
}
