//! What each operation does, refuses and in which order it looks.

use quorate_proto::{Acl, ErrorCode, EventType, Perms, Zxid};

use super::support::*;
use crate::tree::txn::{Op, OpResult, Proposal, Txn};
use crate::tree::{CallerBuf, ChangeSink, State};

#[test]
fn a_fresh_tree_has_zookeepers_reserved_znodes_and_digest() {
    let world = World::new();
    let tree = world.state.tree();
    assert_eq!(tree.node_count(), 4);
    assert_eq!(tree.digest(), 1_371_985_504);
    let root = world.stat("/").unwrap();
    assert_eq!((root.cversion, root.num_children, root.czxid), (-1, 1, 0));
    let zookeeper = world.stat("/zookeeper").unwrap();
    assert_eq!((zookeeper.cversion, zookeeper.num_children), (-2, 2));
    let config = world.stat("/zookeeper/config").unwrap();
    assert_eq!(
        (config.aversion, config.version, config.data_length),
        (-1, 0, 0)
    );
    assert_eq!(world.data("/zookeeper/config"), Some(vec![]));
    let guard = tree.read("/zookeeper/config");
    assert_eq!(guard.node().unwrap().acl(), Acl::read_unsafe());
}

#[test]
fn the_empty_path_is_the_root_for_reads_only() {
    let mut world = World::new();
    assert_eq!(world.stat(""), world.stat("/"));
    for op in [create(""), delete("", -1), set("", "x", -1), check("", -1)] {
        assert_eq!(world.op(op), Err(ErrorCode::BadArguments));
    }
}

#[test]
fn a_create_sets_its_stat_and_touches_its_parent() {
    let mut world = World::new();
    world.create("/a").unwrap();
    world.now_ms = 2000;
    let before = world.stat("/a").unwrap();
    let created = world.op(create("/a/b")).unwrap();
    let zxid = world.zxid();
    let OpResult::Created { path, stat } = created else {
        panic!("{created:?}");
    };
    assert_eq!(&*path, "/a/b");
    assert_eq!((stat.czxid, stat.mzxid, stat.pzxid), (zxid, zxid, zxid));
    assert_eq!((stat.ctime, stat.mtime), (2000, 2000));
    assert_eq!((stat.version, stat.cversion, stat.aversion), (0, 0, 0));
    assert_eq!((stat.data_length, stat.ephemeral_owner), (4, 0));
    assert_eq!(world.stat("/a/b"), Some(stat));
    let after = world.stat("/a").unwrap();
    assert_eq!(
        (after.cversion, after.num_children, after.pzxid),
        (1, 1, zxid)
    );
    assert_eq!(
        (after.mzxid, after.mtime, after.version),
        (before.mzxid, before.mtime, 0)
    );
}

#[test]
fn a_delete_raises_its_parents_cversion_and_pzxid() {
    let mut world = World::new();
    world.create("/a").unwrap();
    world.create("/a/b").unwrap();
    world.op(delete("/a/b", 0)).unwrap();
    let parent = world.stat("/a").unwrap();
    assert_eq!((parent.cversion, parent.num_children), (2, 0));
    assert_eq!(parent.pzxid, world.zxid());
    assert_eq!(world.stat("/a/b"), None);
}

#[test]
fn set_data_touches_version_mzxid_and_mtime_alone() {
    let mut world = World::new();
    world.create("/a").unwrap();
    world.create("/a/b").unwrap();
    let parent = world.stat("/a").unwrap();
    let before = world.stat("/a/b").unwrap();
    world.now_ms = 5000;
    let after = world.changed(set("/a/b", "longer", 0)).unwrap();
    assert_eq!(after.mzxid, world.zxid());
    assert_eq!(
        (after.mtime, after.version, after.data_length),
        (5000, 1, 6)
    );
    assert_eq!(
        (after.czxid, after.ctime, after.pzxid, after.cversion),
        (before.czxid, before.ctime, before.pzxid, 0)
    );
    assert_eq!(world.stat("/a/b"), Some(after));
    assert_eq!(world.stat("/a"), Some(parent));
}

#[test]
fn set_acl_touches_aversion_alone_and_fires_nothing() {
    let mut world = World::new();
    world.create("/a").unwrap();
    let before = world.stat("/a").unwrap();
    world.events();
    let after = world.changed(set_acl("/a", &only(Perms::READ), 0)).unwrap();
    assert_eq!(
        after,
        quorate_proto::Stat {
            aversion: 1,
            ..before
        }
    );
    assert_eq!(world.events(), []);
    let guard = world.state.tree().read("/a");
    assert_eq!(guard.node().unwrap().acl(), only(Perms::READ));
}

#[test]
fn set_acl_compares_the_acl_version() {
    let mut world = World::new();
    world.create("/a").unwrap();
    world.changed(set("/a", "x", -1)).unwrap();
    let open = Acl::open_unsafe();
    assert_eq!(
        world.op(set_acl("/a", &open, 1)),
        Err(ErrorCode::BadVersion)
    );
    assert!(world.op(set_acl("/a", &open, 0)).is_ok());
    assert!(world.op(set_acl("/a", &open, -1)).is_ok());
}

#[test]
fn null_data_is_not_empty_data() {
    let mut world = World::new();
    world.op(ephemeral("/null")).unwrap();
    world.create("/a").unwrap();
    world.changed(set("/a", "", -1)).unwrap();
    let tree = world.state.tree();
    assert_eq!(tree.read("/null").node().unwrap().data(), None);
    assert_eq!(tree.read("/a").node().unwrap().data(), Some(&b""[..]));
    assert_eq!(world.stat("/null").unwrap().data_length, 0);
}

#[test]
fn sequence_numbers_count_creations_not_children() {
    let mut world = World::new();
    world.create("/s").unwrap();
    assert_eq!(world.sequential("/s/n-").unwrap(), "/s/n-0000000000");
    assert_eq!(world.sequential("/s/n-").unwrap(), "/s/n-0000000001");
    assert_eq!(world.stat("/s").unwrap().cversion, 2);
    world.op(delete("/s/n-0000000001", -1)).unwrap();
    assert_eq!(world.stat("/s").unwrap().cversion, 3);
    assert_eq!(world.sequential("/s/n-").unwrap(), "/s/n-0000000002");
    world.create("/s/plain").unwrap();
    assert_eq!(world.sequential("/s/").unwrap(), "/s/0000000004");
    world.op(delete("/s/plain", -1)).unwrap();
    assert_eq!(
        world.children("/s"),
        ["0000000004", "n-0000000000", "n-0000000002"]
    );
}

#[test]
fn a_refused_create_does_not_advance_the_counter() {
    let mut world = World::new();
    world.create("/s").unwrap();
    world.create("/s/n-0000000001").unwrap();
    assert_eq!(world.sequential("/s/n-"), Err(ErrorCode::NodeExists));
    assert_eq!(world.sequential("/s/n-"), Err(ErrorCode::NodeExists));
    assert_eq!(world.sequential("/s/m-").unwrap(), "/s/m-0000000001");
}

#[test]
fn counters_of_a_multi_advance_with_it_or_not_at_all() {
    let mut world = World::new();
    world.create("/s").unwrap();
    let failed = world.multi(vec![
        sequential("/s/n-"),
        sequential("/s/n-"),
        check("/none", -1),
    ]);
    assert_eq!(failed, Err((2, ErrorCode::NoNode)));
    let done = world
        .multi(vec![sequential("/s/n-"), sequential("/s/n-")])
        .unwrap();
    let paths: Vec<_> = done
        .iter()
        .map(|result| match result {
            OpResult::Created { path, .. } => &**path,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(paths, ["/s/n-0000000000", "/s/n-0000000001"]);
}

#[test]
fn the_sequence_wraps_with_its_sign() {
    use crate::tree::{PersistedStat, State};
    let mut builder = State::builder([0; 32]);
    let acl = builder.acl(&Acl::open_unsafe());
    let zero = PersistedStat::default();
    builder.node("/", Some(b""), &acl, &zero).unwrap();
    let last = PersistedStat {
        cversion: i32::MAX,
        ..zero
    };
    builder.node("/s", None, &acl, &last).unwrap();
    builder.level(1);
    let mut world = World::of(builder.finish().unwrap());
    assert_eq!(world.sequential("/s/").unwrap(), "/s/2147483647");
    assert_eq!(world.sequential("/s/").unwrap(), "/s/-2147483648");
    assert_eq!(world.sequential("/s/").unwrap(), "/s/-2147483647");
}

#[test]
fn versions_wrap_and_pass_through_minus_one() {
    use crate::tree::{PersistedStat, State};
    let builder = State::builder([0; 32]);
    let acl = builder.acl(&Acl::open_unsafe());
    for (path, version) in [("/a", i32::MAX), ("/b", -2)] {
        let stat = PersistedStat {
            version,
            ..PersistedStat::default()
        };
        builder.node(path, None, &acl, &stat).unwrap();
    }
    let mut world = World::of(builder.finish().unwrap());
    assert_eq!(
        world.changed(set("/a", "", i32::MAX)).unwrap().version,
        i32::MIN
    );
    assert_eq!(world.changed(set("/b", "", -2)).unwrap().version, -1);
}

#[test]
fn create_looks_at_path_parent_permission_and_existence_in_this_order() {
    let mut world = World::new();
    world.create("/a").unwrap();
    world.op(protected("/closed", &only(Perms::READ))).unwrap();
    world.op(ephemeral("/e")).unwrap();
    world.become_caller(&[("super", "")]);
    world.create("/closed/child").unwrap();
    world.become_caller(&[]);
    for (path, code) in [
        ("", ErrorCode::BadArguments),
        ("foo", ErrorCode::BadArguments),
        ("/none/\0", ErrorCode::BadArguments),
        ("//", ErrorCode::BadArguments),
        ("/b/", ErrorCode::NoNode),
        ("/b//c", ErrorCode::NoNode),
        ("/a/", ErrorCode::BadArguments),
        ("/a//b", ErrorCode::NoNode),
        ("/nope/b/", ErrorCode::NoNode),
        ("/closed/child", ErrorCode::NoAuth),
        ("/closed/\t", ErrorCode::NoAuth),
        ("/a/\t", ErrorCode::BadArguments),
        ("/", ErrorCode::NodeExists),
        ("/zookeeper", ErrorCode::NodeExists),
        ("/e/child", ErrorCode::NoChildrenForEphemerals),
        ("/a/.", ErrorCode::BadArguments),
    ] {
        assert_eq!(world.create(path), Err(code), "{path:?}");
    }
}

#[test]
fn delete_looks_at_path_parent_permission_node_version_and_children_in_this_order() {
    let mut world = World::new();
    world.create("/a").unwrap();
    world.create("/a/b").unwrap();
    world.become_caller(&[("super", "")]);
    world.op(protected("/closed", &only(Perms::READ))).unwrap();
    world.create("/closed/child").unwrap();
    world.become_caller(&[]);
    for (path, version, code) in [
        ("a", -1, ErrorCode::BadArguments),
        ("/a\0", -1, ErrorCode::BadArguments),
        ("/", -1, ErrorCode::BadArguments),
        ("/zookeeper", -1, ErrorCode::BadArguments),
        ("/zookeeper/quota", -1, ErrorCode::BadArguments),
        ("/zookeeper/config", -1, ErrorCode::BadArguments),
        ("/none/a", -1, ErrorCode::NoNode),
        ("/closed/none", -1, ErrorCode::NoAuth),
        ("/closed/child", 7, ErrorCode::NoAuth),
        ("/none", -1, ErrorCode::NoNode),
        ("/a/", -1, ErrorCode::NoNode),
        ("/a", 7, ErrorCode::BadVersion),
        ("/a", -2, ErrorCode::BadVersion),
        ("/a", -1, ErrorCode::NotEmpty),
    ] {
        assert_eq!(world.op(delete(path, version)), Err(code), "{path:?}");
    }
    assert!(world.op(delete("/closed", -1)).is_err(), "it has a child");
}

#[test]
fn set_data_set_acl_and_check_look_at_path_node_permission_and_version_in_this_order() {
    let mut world = World::new();
    world
        .op(protected("/closed", &only(Perms::CREATE)))
        .unwrap();
    world.create("/a").unwrap();
    let open = Acl::open_unsafe();
    for (path, code) in [
        ("/none/", ErrorCode::BadArguments),
        ("/none\t", ErrorCode::BadArguments),
        ("none", ErrorCode::BadArguments),
        ("/none", ErrorCode::NoNode),
        ("/closed", ErrorCode::NoAuth),
        ("/a", ErrorCode::BadVersion),
    ] {
        assert_eq!(world.op(set(path, "", 9)), Err(code), "{path:?}");
        assert_eq!(world.op(set_acl(path, &open, 9)), Err(code), "{path:?}");
        assert_eq!(world.op(check(path, 9)), Err(code), "{path:?}");
    }
    assert_eq!(world.op(check("/a", -1)), Ok(OpResult::Checked));
    assert_eq!(world.op(check("/a", 0)), Ok(OpResult::Checked));
}

#[test]
fn each_operation_asks_for_its_own_permission() {
    let mut world = World::new();
    let open = Acl::open_unsafe();
    for perms in [
        Perms::READ,
        Perms::WRITE,
        Perms::CREATE,
        Perms::DELETE,
        Perms::ADMIN,
    ] {
        world.become_caller(&[("super", "")]);
        world.op(protected("/p", &only(perms))).unwrap();
        world.create("/p/c").unwrap();
        world.become_caller(&[]);
        assert_eq!(world.create("/p/d").is_ok(), perms == Perms::CREATE);
        assert_eq!(world.op(delete("/p/c", -1)).is_ok(), perms == Perms::DELETE);
        assert_eq!(world.op(set("/p", "", -1)).is_ok(), perms == Perms::WRITE);
        assert_eq!(world.op(check("/p", -1)).is_ok(), perms == Perms::READ);
        assert_eq!(
            world.op(set_acl("/p", &open, -1)).is_ok(),
            perms == Perms::ADMIN
        );
        world.become_caller(&[("super", "")]);
        for name in world.children("/p") {
            world.op(delete(&format!("/p/{name}"), -1)).unwrap();
        }
        world.op(delete("/p", -1)).unwrap();
    }
}

#[test]
fn the_root_takes_data_and_an_acl() {
    let mut world = World::new();
    assert_eq!(world.changed(set("/", "x", 0)).unwrap().version, 1);
    assert_eq!(
        world
            .changed(set_acl("/", &only(Perms::READ), 0))
            .unwrap()
            .aversion,
        1
    );
    assert_eq!(world.text("/"), "x");
    assert_eq!(world.create("/a"), Err(ErrorCode::NoAuth));
}

#[test]
fn the_config_znode_is_closed_and_zookeeper_is_open() {
    let mut world = World::new();
    assert_eq!(
        world.op(set("/zookeeper/config", "x", -1)),
        Err(ErrorCode::NoAuth)
    );
    assert!(world.create("/zookeeper/foo").is_ok());
    assert!(world.op(set("/zookeeper", "x", -1)).is_ok());
}

#[test]
fn containers_and_ttl_znodes_have_children_and_show_no_owner() {
    let mut world = World::new();
    world.op(container("/c")).unwrap();
    world.op(ttl("/t", 1000)).unwrap();
    for path in ["/c", "/t"] {
        assert_eq!(world.stat(path).unwrap().ephemeral_owner, 0);
        assert!(world.create(&format!("{path}/child")).is_ok());
    }
    let tree = world.state.tree();
    let raw = |path| tree.read(path).node().unwrap().persisted().ephemeral_owner;
    assert_eq!(raw("/c"), i64::MIN);
    assert_eq!(raw("/t").cast_unsigned(), 0xFF00_0000_0000_03E8);
    assert_eq!(tree.ephemeral_count(), 0);
}

#[test]
fn changes_are_told_node_first_then_parent() {
    use EventType::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};
    let mut world = World::new();
    world.create("/a").unwrap();
    world.changed(set("/a", "x", -1)).unwrap();
    world.create("/a/b").unwrap();
    world.op(delete("/a/b", -1)).unwrap();
    let told = |event, path: &str| (event, path.to_owned());
    assert_eq!(
        world.events(),
        [
            told(NodeCreated, "/a"),
            told(NodeChildrenChanged, "/"),
            told(NodeDataChanged, "/a"),
            told(NodeCreated, "/a/b"),
            told(NodeChildrenChanged, "/a"),
            told(NodeDeleted, "/a/b"),
            told(NodeChildrenChanged, "/a"),
        ]
    );
}

#[test]
fn events_carry_the_acl_of_the_znode_that_they_name() {
    struct Acls(Vec<(String, i32)>);
    impl crate::tree::ChangeSink for Acls {
        fn change(&mut self, _: quorate_proto::Zxid, _: EventType, path: &str, acl: &[Acl]) {
            self.0.push((path.to_owned(), acl[0].perms.0));
        }
    }
    let mut world = World::new();
    world.op(protected("/p", &only(Perms(5)))).unwrap();
    world.op(protected("/p/c", &only(Perms(8)))).unwrap();
    world.become_caller(&[("super", "")]);
    let origin = world.next();
    let caller = world.caller.clone();
    let proposal = crate::tree::txn::Proposal {
        origin,
        caller: caller.as_caller(),
        txn: crate::tree::txn::Txn::Op(delete("/p/c", -1)),
    };
    let mut acls = Acls(Vec::new());
    world.state.apply(0, &proposal, &mut acls);
    assert_eq!(acls.0, [("/p/c".to_owned(), 8), ("/p".to_owned(), 5)]);
}

#[test]
fn operations_of_a_multi_see_those_before_them() {
    let mut world = World::new();
    let results = world
        .multi(vec![
            create("/a"),
            create("/a/b"),
            set("/a/b", "xy", 0),
            check("/a/b", 1),
            delete("/a/b", 1),
            create("/a/b"),
        ])
        .unwrap();
    let OpResult::Created { stat: first, .. } = &results[0] else {
        panic!("{results:?}");
    };
    assert_eq!(first.num_children, 0, "as it was after that operation");
    let OpResult::Changed { stat } = &results[2] else {
        panic!("{results:?}");
    };
    assert_eq!((stat.version, stat.data_length), (1, 2));
    let zxid = world.zxid();
    let parent = world.stat("/a").unwrap();
    assert_eq!(
        (parent.cversion, parent.num_children, parent.pzxid),
        (3, 1, zxid)
    );
    let child = world.stat("/a/b").unwrap();
    assert_eq!((child.version, child.czxid, child.mzxid), (0, zxid, zxid));
    assert_eq!(world.text("/a/b"), "data");
}

#[test]
fn a_multi_tells_every_change_in_order() {
    use EventType::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};
    let mut world = World::new();
    world.create("/w").unwrap();
    world.events();
    world
        .multi(vec![
            create("/w/m"),
            set("/w/m", "x", -1),
            delete("/w/m", -1),
        ])
        .unwrap();
    let told = |event, path: &str| (event, path.to_owned());
    assert_eq!(
        world.events(),
        [
            told(NodeCreated, "/w/m"),
            told(NodeChildrenChanged, "/w"),
            told(NodeDataChanged, "/w/m"),
            told(NodeDeleted, "/w/m"),
            told(NodeChildrenChanged, "/w"),
        ]
    );
    assert_eq!(world.stat("/w/m"), None);
}

/// R6: whatever stands in front of the operation that fails leaves no trace.
#[test]
fn a_multi_that_fails_anywhere_leaves_nothing_and_tells_nothing() {
    let ops = || {
        vec![
            create("/w/a"),
            sequential("/w/s-"),
            set("/w", "new", -1),
            ephemeral("/w/e"),
            delete("/w/old", -1),
            container("/w/c"),
            ttl("/w/t", 5),
            create("/zookeeper/quota/w"),
            create("/zookeeper/quota/w/zookeeper_limits"),
        ]
    };
    let failures = [
        (check("/none", -1), ErrorCode::NoNode),
        (set("/w", "", 99), ErrorCode::BadVersion),
        (
            Op::Refused {
                code: ErrorCode::InvalidAcl,
            },
            ErrorCode::InvalidAcl,
        ),
    ];
    let mut world = World::new();
    world.create("/w").unwrap();
    world.create("/w/old").unwrap();
    for at in 0..=ops().len() {
        for (failure, code) in &failures {
            let before = snapshot_of(&world);
            world.events();
            let mut ops = ops();
            ops.insert(at, failure.clone());
            assert_eq!(world.multi(ops), Err((at, *code)));
            assert_eq!(world.events(), []);
            assert_eq!(snapshot_of(&world), before);
        }
    }
    world.multi(ops()).unwrap();
    assert_eq!(world.children("/w"), ["a", "c", "e", "s-0000000002", "t"]);
}

/// All that a multi could have touched.
fn snapshot_of(world: &World) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut capture = world.state.capture();
    let mut nodes = Vec::new();
    while let Some(section) = capture.next_section() {
        for node in section {
            let data = node.data().map(<[u8]>::to_vec);
            nodes.push((
                node.path().to_owned(),
                data,
                node.acl().to_vec(),
                node.stat(),
            ));
        }
    }
    let tree = world.state.tree();
    (
        nodes,
        (
            tree.digest(),
            tree.node_count(),
            tree.approximate_data_size(),
        ),
        world.state.ephemerals_of(world.session),
        tree.reap_candidates(i64::MAX, Some(0), 100),
        world.children("/w"),
    )
}

#[test]
fn a_refused_request_takes_a_zxid() {
    let mut world = World::new();
    let before = world.zxid();
    world.op(create("/none/a")).unwrap_err();
    assert_eq!(world.zxid(), before + 1);
    let code = ErrorCode::InvalidAcl;
    assert_eq!(world.op(Op::Refused { code }), Err(code));
    assert_eq!(world.zxid(), before + 2);
    assert_eq!(world.multi(vec![]), Ok(vec![]));
    assert_eq!(world.zxid(), before + 3);
}

#[test]
fn a_new_epoch_is_the_term_or_the_next_one() {
    let mut world = World::new();
    world.state.begin_epoch(1);
    assert_eq!(world.zxid(), 1 << 32);
    world.create("/a").unwrap();
    assert_eq!(world.stat("/a").unwrap().czxid, (1 << 32) + 1);
    world.state.begin_epoch(5);
    assert_eq!(world.zxid(), 5 << 32);
    world.state.begin_epoch(5);
    assert_eq!(world.zxid(), 6 << 32);
}

#[test]
fn the_counters_end_starts_an_epoch() {
    let mut builder = crate::tree::State::builder([0; 32]);
    builder.zxid(quorate_proto::Zxid((3 << 32) | 0xFFFF_FFFE));
    let mut world = World::of(builder.finish().unwrap());
    assert_eq!(world.zxid(), (3 << 32) | 0xFFFF_FFFF);
    world.create("/a").unwrap();
    assert_eq!(world.zxid(), (4 << 32) + 1);
}

#[test]
fn descendants_are_counted_all_the_way_down() {
    let mut world = World::new();
    for path in ["/a", "/a/b", "/a/b/c", "/a/d", "/ab", "/ab/c"] {
        world.create(path).unwrap();
    }
    let tree = world.state.tree();
    assert_eq!(tree.descendants("/a"), Some(3));
    assert_eq!(tree.descendants("/a/b/c"), Some(0));
    assert_eq!(tree.descendants("/"), Some(9));
    assert_eq!(tree.descendants(""), Some(9));
    assert_eq!(tree.descendants("/none"), None);
    for number in 0..1200 {
        world.create(&format!("/a/d/{number}")).unwrap();
    }
    assert_eq!(world.state.tree().descendants("/a"), Some(1203));
}

/// A client that read the change and comes back on a new connection claims to have seen its zxid.
#[test]
fn a_change_is_seen_before_it_counts_as_applied_and_settled_waits_for_it() {
    struct Peek<'s> {
        state: &'s State,
        asks: std::sync::mpsc::Sender<()>,
        applied_then: Zxid,
        changed: Zxid,
    }
    impl ChangeSink for Peek<'_> {
        fn change(&mut self, zxid: Zxid, _: EventType, _: &str, _: &[Acl]) {
            self.applied_then = self.state.applied_zxid();
            self.changed = zxid;
            self.asks.send(()).unwrap();
        }
    }

    let mut world = World::new();
    world.create("/a").unwrap();
    let origin = world.next();
    let caller = CallerBuf::new(&[], false);
    let proposal = Proposal {
        origin,
        caller: caller.as_caller(),
        txn: Txn::Op(set("/a", "x", -1)),
    };
    let state = &world.state;
    std::thread::scope(|scope| {
        let (asks, asked) = std::sync::mpsc::channel();
        let settled = scope.spawn(move || {
            asked.recv().unwrap();
            state.settled_zxid()
        });
        let mut sink = Peek {
            state,
            asks,
            applied_then: Zxid::ZERO,
            changed: Zxid::ZERO,
        };
        state.apply(2000, &proposal, &mut sink);
        assert!(sink.applied_then < sink.changed);
        assert_eq!(settled.join().unwrap(), sink.changed);
    });
}
