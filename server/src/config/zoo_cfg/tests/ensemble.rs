//! Server lines, `myid`, the dynamic file and the client address.

use super::*;
use crate::config::{Ensemble, FirstBoot};

const MEMBERS: &str = "server.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888\n";

/// Everything that a member needs.
fn member(world: &World, id: u8) {
    world.file("myid", &id.to_string());
}

fn ensemble(world: &World, text: &str) -> Ensemble {
    world.config(text).ensemble.expect("an ensemble")
}

#[test]
fn several_participants_are_an_ensemble() {
    let world = World::new();
    member(&world, 2);
    let parsed = world
        .load(&format!(
            "tickTime=2000\ninitLimit=7\nsyncLimit=3\n{MEMBERS}"
        ))
        .unwrap();
    assert_eq!(texts(&parsed.warnings), "");
    let config = parsed.config;
    assert_eq!(config.my_id, 2);
    let ensemble = config.ensemble.clone().unwrap();
    assert_eq!(ensemble.role, Role::Participant);
    assert_eq!(ensemble.init_limit, Duration::from_secs(14));
    assert_eq!(ensemble.sync_limit, Duration::from_secs(6));
    assert!(ensemble.participants().eq(1..=3));
    assert_eq!(ensemble.server(3).unwrap().addresses[0].host, "c");
    assert_eq!(ensemble.patience(&config), Duration::from_secs(2));
    assert_eq!(
        ensemble.text(0x10),
        "server.1=a:2888:3888:participant\nserver.2=b:2888:3888:participant\n\
         server.3=c:2888:3888:participant\nversion=10"
    );
}

#[test]
fn without_limits_ten_and_five_ticks_hold() {
    let world = World::new();
    member(&world, 1);
    for limits in ["", "initLimit=0\nsyncLimit=0\n"] {
        let ensemble = ensemble(&world, &format!("{limits}{MEMBERS}"));
        assert_eq!(ensemble.init_limit, Duration::from_secs(30));
        assert_eq!(ensemble.sync_limit, Duration::from_secs(15));
    }
}

/// An observer among participants that have ports of their own.
#[test]
fn an_observer_follows_without_a_vote() {
    let world = World::new();
    member(&world, 4);
    let parsed = world
        .load(&format!(
            "{MEMBERS}server.4=d:2888:3888:observer\npeerType=observer"
        ))
        .unwrap();
    assert_eq!(texts(&parsed.warnings), "");
    let ensemble = parsed.config.ensemble.unwrap();
    assert_eq!(ensemble.role, Role::Observer);
    assert!(ensemble.participants().eq(1..=3));
    assert_eq!(ensemble.servers.len(), 4);
}

/// The file of many tutorials, and one in which every participant's two ports are one.
#[test]
fn a_peer_port_may_be_the_client_port() {
    let world = World::new();
    let file = "server.1=127.0.0.1:2181:3181:observer\nserver.2=127.0.0.2:2181:3181\n\
                server.3=127.0.0.3:2181:3181\nserver.4=127.0.0.4:2181:3181\n";
    member(&world, 1);
    let parsed = world
        .load(&format!(
            "{file}peerType=observer\nclientPortAddress=127.0.0.1\ninitLimit=10\nsyncLimit=5"
        ))
        .unwrap();
    assert_eq!(texts(&parsed.warnings), "");
    assert!(texts(&parsed.notes).contains(
        "the first port of server.1 is also its client port: clients and peers share it"
    ));
    assert_eq!(parsed.config.ensemble.unwrap().role, Role::Observer);
    member(&world, 3);
    let parsed = world.load(file).unwrap();
    assert!(texts(&parsed.notes).contains("server.3 is also its client port"));
    assert_eq!(parsed.config.ensemble.unwrap().role, Role::Participant);
}

/// The list counts: a voter that lost its vote by one key would take the quorum with it.
#[test]
fn a_peer_type_makes_no_observer_of_a_participant() {
    let world = World::new();
    member(&world, 1);
    let parsed = world.load(&format!("{MEMBERS}peerType=observer")).unwrap();
    assert!(texts(&parsed.warnings).contains(
        "peer type from the servers list (participant) of server.1 does not match `peerType` \
         (observer): the list counts"
    ));
    assert_eq!(parsed.config.ensemble.unwrap().role, Role::Participant);
    member(&world, 4);
    let observer = format!("{MEMBERS}server.4=d:1:2:observer\n");
    let parsed = world
        .load(&format!("{observer}peerType=participant"))
        .unwrap();
    assert!(texts(&parsed.warnings).contains("(observer) of server.4 does not match"));
    assert_eq!(texts(&world.load(&observer).unwrap().warnings), "");
}

#[test]
fn every_mistake_about_the_own_number_has_its_own_message() {
    let world = World::new();
    let refusal = world.refusal(MEMBERS);
    assert!(
        refusal.contains("myid is missing: which of the servers is this?"),
        "{refusal}"
    );
    assert!(
        refusal.contains("help: write its number there: 1, 2, 3"),
        "{refusal}"
    );
    member(&world, 7);
    let refusal = world.refusal(MEMBERS);
    assert!(
        refusal.contains("myid: this server is 7, and the list has no server.7, only 1, 2, 3"),
        "{refusal}"
    );
    world.file("myid", "one");
    assert!(
        world
            .refusal(MEMBERS)
            .contains("server id `one` is not a number")
    );
    world.file("myid", "256");
    assert!(
        world
            .refusal(MEMBERS)
            .contains("server id 256 is too large: ids are 1 to 255")
    );
    member(&world, 1);
    let refusal = world.refusal(&format!("{MEMBERS}server.2=d:2888:3888"));
    assert!(
        refusal.contains("zoo.cfg:6: server.2 is listed twice, and before (")
            && refusal.contains("zoo.cfg:4) with other addresses"),
        "{refusal}"
    );
    let twice = world
        .load(&format!("{MEMBERS}server.2=b:2888:3888"))
        .unwrap();
    assert!(texts(&twice.notes).contains("server.2 is listed twice"));
    let refusal = world.refusal(&format!("{MEMBERS}server.4=b:2888:3999"));
    assert!(
        refusal.contains("server.2 and server.4 have the same address b:2888"),
        "{refusal}"
    );
    assert!(
        world
            .refusal("server.256=a:1:2")
            .contains("is not a server number")
    );
}

#[test]
fn numbers_up_to_255_are_members() {
    let world = World::new();
    for id in [1, 128, 254, 255] {
        member(&world, id);
        let file = format!("server.{id}=a:1:2\nserver.9=b:1:2\nserver.10=c:1:2");
        assert_eq!(world.config(&file).my_id, id);
        assert!(ensemble(&world, &file).server(id).is_some());
    }
}

#[test]
fn election_times_are_read_and_must_fit_together() {
    let world = World::new();
    member(&world, 1);
    let times = |beat, min, max| {
        format!(
            "{MEMBERS}quorate.heartbeatMs={beat}\nquorate.electionTimeoutMinMs={min}\n\
             quorate.electionTimeoutMaxMs={max}"
        )
    };
    let slow = ensemble(&world, &times(100, 400, 700));
    let ms = Duration::from_millis;
    assert_eq!(
        (slow.heartbeat, slow.election_min, slow.election_max),
        (ms(100), ms(400), ms(700))
    );
    assert!(
        world
            .refusal(&times(100, 150, 700))
            .contains("less than two heartbeats")
    );
    assert!(
        world
            .refusal(&times(10, 300, 300))
            .contains("is not smaller than")
    );
    let parsed = world.load(&times(500, 1000, 2000)).unwrap();
    assert!(
        texts(&parsed.warnings)
            .contains("an election may take 4000 ms, and clients are disconnected after 3000 ms"),
        "{}",
        texts(&parsed.warnings)
    );
    assert!(
        world
            .refusal("quorate.heartbeatMs=0")
            .contains("is not a number from 1")
    );
    assert_eq!(slow.first_boot, FirstBoot::All);
    for spelled in ["firstBoot", "quorate.firstBoot"] {
        let majority = ensemble(&world, &format!("{MEMBERS}{spelled}=majority"));
        assert_eq!(majority.first_boot, FirstBoot::Majority);
    }
    assert!(
        world
            .refusal("quorate.firstBoot=some")
            .contains("neither `all` nor `majority`")
    );
}

#[test]
fn votes_are_equal_or_the_file_is_refused() {
    let world = World::new();
    member(&world, 1);
    let with = |text: &str| world.load(&format!("{MEMBERS}{text}"));
    for fine in [
        "group.1=1:2:3",
        "weight.1=1\nweight.2=1",
        "weight.1=2\nweight.2=2\nweight.3=2",
    ] {
        assert!(with(fine).is_ok(), "{fine}");
    }
    for (bad, message) in [
        ("group.1=1\ngroup.2=2:3", "a majority of groups"),
        ("weight.1=2", "different votes"),
        ("weight.1=1\nweight.2=0\nweight.3=1", "different votes"),
        ("weight.1=0\nweight.2=0\nweight.3=0", "different votes"),
    ] {
        let refusal = with(bad).unwrap_err().to_string();
        assert!(refusal.contains(message), "{bad}: {refusal}");
    }
}

#[test]
fn a_number_of_participants_that_is_not_worth_it_is_told() {
    let world = World::new();
    member(&world, 1);
    let two = world.load("server.1=a:1:2\nserver.2=b:1:2").unwrap();
    assert!(texts(&two.warnings).contains("two participants: when either stops"));
    let four = world.load(&format!("{MEMBERS}server.4=d:1:2")).unwrap();
    assert_eq!(texts(&four.warnings), "");
    assert!(texts(&four.notes).contains("4 participants survive the loss of 1, as 3 do"));
}

#[test]
fn one_observer_alone_is_an_invalid_configuration() {
    let world = World::new();
    let refusal = world.refusal("server.1=192.168.11.129:2181:3181:observer\npeerType=observer");
    assert!(
        refusal.contains("zoo.cfg:3: observers without participants are an invalid configuration"),
        "{refusal}"
    );
    let refusal = world.refusal("server.1=a:1:2\nserver.2=b:1:2:observer");
    assert!(refusal.contains("observers without a quorum"), "{refusal}");
}

#[test]
fn one_line_without_a_role_runs_standalone_whatever_the_peer_type_says() {
    let world = World::new();
    let parsed = world
        .load("server.1=192.168.11.129:2181:3181\npeerType=observer")
        .unwrap();
    assert!(
        texts(&parsed.warnings).contains("does not match `peerType` (observer): the list counts")
    );
    assert!(
        texts(&parsed.notes).contains("server.1 is the only server listed: it runs standalone")
    );
    assert_eq!(parsed.servers.len(), 1);
    assert_eq!(
        parsed.config.client_addr,
        Some(SocketAddr::from(([0, 0, 0, 0], 2181)))
    );
}

#[test]
fn an_ensemble_of_one_is_what_standalone_enabled_false_asks_for() {
    let world = World::new();
    assert!(
        world
            .refusal("standaloneEnabled=false")
            .contains("at least one participant")
    );
    member(&world, 1);
    let one = ensemble(&world, "server.1=a:1:2\nstandaloneEnabled=false");
    assert!(one.participants().eq([1]));
    let file = "server.1=a:1:2\nserver.2=b:1:2:observer\nstandaloneEnabled=false";
    assert_eq!(ensemble(&world, file).servers.len(), 2);
}

#[test]
fn what_concerns_an_ensemble_is_noted_where_there_is_none() {
    let world = World::new();
    for key in [
        "initLimit=10",
        "quorumListenOnAllIPs=true",
        "quorate.heartbeatMs=20",
    ] {
        let parsed = world.load(key).unwrap();
        let name = key.split_once('=').unwrap().0;
        assert_eq!(
            texts(&parsed.notes)
                .trim_end()
                .rsplit(": ")
                .take(2)
                .collect::<Vec<_>>(),
            [
                "this server stands alone",
                &format!("`{name}` has no effect")
            ],
        );
    }
}

#[test]
fn the_client_part_of_the_own_line_is_used_and_must_agree() {
    let world = World::new();
    let dir = world.dir.path().display();
    let parsed = world
        .load_bare(&format!("dataDir={dir}\nserver.1=a:1:2;127.0.0.1:2190"))
        .unwrap();
    assert_eq!(
        parsed.config.client_addr,
        Some(SocketAddr::from(([127, 0, 0, 1], 2190)))
    );
    assert!(
        world
            .refusal("server.1=a:1:2;2190")
            .contains("does not match")
    );
    assert!(world.load("server.1=a:1:2;2181").is_ok());
    assert!(
        world
            .refusal("server.1=a:1:2;2181;2281")
            .contains("TLS listener")
    );
    assert!(
        world
            .refusal("server.1=a:1:2|b:1:2")
            .contains("multiAddress.enabled=true")
    );
    assert!(
        world
            .load("multiAddress.enabled=true\nserver.1=a:1:2|b:1:2")
            .is_ok()
    );
}

#[test]
fn addresses_without_a_port_and_unknown_hosts_are_refused() {
    let world = World::new();
    let dir = world.dir.path().display().to_string();
    let bare = |text: &str| world.load_bare(&format!("dataDir={dir}\n{text}"));
    let refusal = bare("clientPortAddress=127.0.0.1").unwrap_err().to_string();
    assert!(refusal.contains("`clientPort` is not set"), "{refusal}");
    let parsed = bare("clientPort=0").unwrap();
    assert_eq!(parsed.config.client_addr, None);
    assert!(texts(&parsed.warnings).contains("no client can connect"));
    let refusal = world.refusal("clientPortAddress=no such host");
    assert!(
        refusal.contains("client address `no such host` is unknown"),
        "{refusal}"
    );
    let config = world.config("clientPortAddress=[::1]");
    assert_eq!(config.client_addr, Some("[::1]:2181".parse().unwrap()));
}

#[test]
fn myid_is_read_and_checked() {
    let world = World::new();
    world.file("myid", "7\n");
    assert_eq!(world.config("").my_id, 7);
    assert!(texts(&world.load("server.1=a:1:2").unwrap().warnings).contains("only server line is"));
    world.file("myid", "seven");
    assert!(
        world
            .refusal("")
            .contains("myid: server id `seven` is not a number")
    );
    world.file("myid", "");
    assert!(world.refusal("").contains("is not a number"));
    world.file("myid", "256");
    assert!(world.refusal("").contains("too large"));
    world.file("myid", "255");
    assert_eq!(world.config("").my_id, 255);
    std::fs::remove_file(world.dir.path().join("myid")).unwrap();
    assert_eq!(world.config("server.9=a:1:2").my_id, 9);
}

#[test]
fn a_dynamic_file_has_the_servers() {
    let world = World::new();
    let dynamic = world.file(
        "zoo.cfg.dynamic",
        "server.4=a:1:2:participant;127.0.0.1:2181\n",
    );
    let named = format!("dynamicConfigFile={}\n", dynamic.display());
    let dir = world.dir.path().display();
    let parsed = world.load_bare(&format!("dataDir={dir}\n{named}")).unwrap();
    assert_eq!(parsed.config.my_id, 4);
    assert_eq!(
        parsed.config.client_addr,
        Some(SocketAddr::from(([127, 0, 0, 1], 2181)))
    );
    assert!(
        world
            .refusal(&format!("{named}server.1=a:1:2"))
            .contains("may not stand beside")
    );
    world.file("zoo.cfg.dynamic", "version=100\n");
    assert!(
        world
            .refusal(&named)
            .contains("`version` does not belong here")
    );
    assert!(
        world
            .refusal("dynamicConfigFile=/no/such/file")
            .contains("cannot be read")
    );
}
