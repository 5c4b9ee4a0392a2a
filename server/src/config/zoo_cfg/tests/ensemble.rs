//! Server lines, `myid`, the dynamic file and the client address.

use super::*;

const MEMBERS: &str = "server.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888\n";

#[test]
fn several_participants_are_refused() {
    let world = World::new();
    let refusal = world.refusal(MEMBERS);
    assert!(
        refusal.contains("zoo.cfg:4: asks for an ensemble of several servers"),
        "{refusal}"
    );
    assert!(refusal.contains("help: leave one server line"), "{refusal}");
    // An observer among participants follows a leader that we cannot reach yet.
    let refusal = world.refusal(&format!(
        "{MEMBERS}server.4=d:2888:3888:observer\npeerType=observer"
    ));
    assert!(refusal.contains("ensemble of several servers"), "{refusal}");
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
fn an_ensemble_of_one_is_refused() {
    let world = World::new();
    assert!(
        world
            .refusal("server.1=a:1:2\nstandaloneEnabled=false")
            .contains("ensemble of one")
    );
    assert!(
        world
            .refusal("standaloneEnabled=false")
            .contains("at least one participant")
    );
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
    assert!(world.refusal("").contains("no room for TTL"));
    assert_eq!(world.config("extendedTypesEnabled=false").my_id, 255);
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
