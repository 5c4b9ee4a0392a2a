//! Every row of the table does what it says.

use super::super::keys::Effect;
use super::*;

/// Key, value, what must be set besides to make it visible, and how it then shows.
///
/// The files it needs are made by [`every_applied_key_is_visible_in_the_config`].
const APPLIED: &[(&str, &str, &str, &str)] = &[
    ("tickTime", "2000", "", "2000"),
    ("dataDir", "/tmp/elsewhere", "", "/tmp/elsewhere"),
    ("dataLogDir", "/tmp/log", "", "/tmp/log"),
    ("clientPort", "2281", "", "2281"),
    ("clientPortAddress", "127.0.0.3", "", "127.0.0.3"),
    ("clientPortListenBacklog", "7", "", "7"),
    ("maxClientCnxns", "7", "", "7"),
    ("maxCnxns", "7", "", "7"),
    ("minSessionTimeout", "7000", "", "7000"),
    ("maxSessionTimeout", "70000", "", "70000"),
    ("autopurge.snapRetainCount", "7", "", "7"),
    ("autopurge.purgeInterval", "1", "", "3600000ms"),
    ("snapCount", "7", "", "7"),
    ("snapSizeLimitInKb", "7", "", "7"),
    ("fsync.warningthresholdms", "7", "", "7"),
    ("forceSync", "no", "", "no"),
    ("snapshot.trust.empty", "true", "", "true"),
    ("digest.enabled", "false", "", "false"),
    ("datadir.autocreate", "false", "", "false"),
    ("emulate353TTLNodes", "true", "", "true"),
    ("extendedTypesEnabled", "false", "", "false"),
    ("znode.container.checkIntervalMs", "7", "", "7"),
    ("znode.container.maxPerMinute", "7", "", "7"),
    ("znode.container.maxNeverUsedIntervalMs", "7", "", "7"),
    ("enforceQuota", "true", "", "true"),
    ("reconfigEnabled", "true", "", "true"),
    ("4lw.commands.whitelist", "ruok, mntr", "", "ruok,mntr,srvr"),
    ("readonlymode.enabled", "true", "", "true"),
    ("initLimit", "7", MEMBERS, "7"),
    ("syncLimit", "7", MEMBERS, "7"),
    ("quorumListenOnAllIPs", "true", MEMBERS, "true"),
    ("quorate.heartbeatMs", "7", MEMBERS, "7"),
    ("quorate.electionTimeoutMinMs", "170", MEMBERS, "170"),
    ("quorate.electionTimeoutMaxMs", "370", MEMBERS, "370"),
    ("quorate.linearizableReads", "true", MEMBERS, "true"),
    ("leaderServes", "no", MEMBERS, "no"),
    ("quorate.firstBoot", "majority", MEMBERS, "majority"),
    ("jute.maxbuffer", "0x400000", "", "4194304"),
    ("nio.sessionlessCnxnTimeout", "7", "", "7"),
    ("globalOutstandingLimit", "7", "", "7"),
    ("largeRequestThreshold", "7", "", "7"),
    ("largeRequestMaxBytes", "7", "", "7"),
    ("clientTcpKeepAlive", "true", "", "true"),
    ("throttled_op_wait_time", "7", "", "7"),
    ("connection_throttle_tokens", "7", "", "7"),
    (
        "connection_throttle_fill_time",
        "7",
        "connectionMaxTokens=1",
        "7",
    ),
    (
        "connection_throttle_fill_count",
        "7",
        "connectionMaxTokens=1",
        "7",
    ),
    (
        "connection_throttle_freeze_time",
        "7",
        "connectionMaxTokens=1",
        "7",
    ),
    (
        "connection_throttle_drop_increase",
        "0.5",
        "connectionMaxTokens=1",
        "0.5",
    ),
    (
        "connection_throttle_drop_decrease",
        "0.5",
        "connectionMaxTokens=1",
        "0.5",
    ),
    (
        "connection_throttle_decrease_ratio",
        "0.5",
        "connectionMaxTokens=1",
        "0.5",
    ),
    (
        "connection_throttle_weight_enabled",
        "true",
        "connectionMaxTokens=1",
        "true",
    ),
    ("request_throttle_max_requests", "7", "", "7"),
    (
        "request_throttle_stall_time",
        "7",
        "requestThrottleLimit=1",
        "7",
    ),
    (
        "request_throttle_drop_stale",
        "false",
        "requestThrottleLimit=1",
        "false",
    ),
    (
        "authProvider.*",
        "org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
        "",
        "sasl",
    ),
    ("DigestAuthenticationProvider.enabled", "false", "", "false"),
    (
        "DigestAuthenticationProvider.superDigest",
        "super:x",
        "",
        "(set)",
    ),
    (
        "DigestAuthenticationProvider.digestAlg",
        "SHA-512",
        "",
        "SHA-512",
    ),
    ("java.security.auth.login.config", "JAAS", "", "bob"),
    (
        "sasl.serverconfig",
        "Other",
        "java.security.auth.login.config=JAAS",
        "(found)",
    ),
    (
        "SASLAuthenticationProvider.superPassword",
        "pw",
        "java.security.auth.login.config=JAAS",
        "(set)",
    ),
    ("superUser", "admin", "", "admin"),
    ("superUser.*", "admin", "", "admin"),
    ("allowSaslFailedClients", "true", "", "true"),
    (
        "sessionRequireClientSASLAuth",
        "true",
        "java.security.auth.login.config=JAAS",
        "true",
    ),
    (
        "enforce.auth.enabled",
        "true",
        "enforce.auth.schemes=digest",
        "true",
    ),
    (
        "enforce.auth.schemes",
        "digest,ip",
        "enforce.auth.enabled=true",
        "digest,ip",
    ),
    (
        "ensembleAuthName",
        "e1",
        "authProvider.1=org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider",
        "e1",
    ),
    ("skipACL", "yes", "", "yes"),
];

const MEMBERS: &str = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2";

#[test]
fn every_applied_key_is_visible_in_the_config() {
    let world = World::new();
    let section = |name| {
        format!(
            "{name} {{ org.apache.zookeeper.server.auth.DigestLoginModule required user_bob=\"pw\"; }};\n"
        )
    };
    let jaas = world.file("jaas.conf", &(section("Server") + &section("Other")));
    let jaas = jaas.display().to_string();
    world.file("myid", "1");
    for key in all_keys() {
        if !matches!(key.effect(), Effect::Applied { .. }) {
            continue;
        }
        let (name, value, besides, shown) = *APPLIED
            .iter()
            .find(|(name, ..)| *name == key.name())
            .unwrap_or_else(|| panic!("{} has no sample", key.name()));
        let spelled = name.replace('*', "1");
        let besides = besides.replace("JAAS", &jaas);
        let value = value.replace("JAAS", &jaas);
        // Some companions mean nothing alone.
        let before = world.load(&besides).or_else(|_| world.load("")).unwrap();
        let before = key.show(&before.config).unwrap();
        for spelled in [spelled.clone(), format!("zookeeper.{spelled}")] {
            let parsed = world
                .load(&format!("{besides}\n{spelled}={value}\n"))
                .unwrap();
            let after = key.show(&parsed.config).unwrap();
            assert_eq!(after, shown, "{spelled}={value}");
            if name != "sasl.serverconfig" {
                assert_ne!(before, after, "{spelled}={value} changes nothing");
            }
            assert!(parsed.origin(name).is_some(), "{spelled} has an origin");
        }
    }
    assert_eq!(
        APPLIED.len(),
        all_keys()
            .filter(|key| key.effect_word() == "applied")
            .count()
    );
}

#[test]
fn every_noted_key_is_noted_with_its_reason() {
    let world = World::new();
    for key in all_keys().filter(|key| key.effect_word() == "noted") {
        let value = match key.name() {
            "metricsProvider.className" => {
                "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider"
            }
            // Told only where they matter, by the tests below.
            "peerType" | "standaloneEnabled" | "dynamicConfigFile" | "multiAddress.enabled" => {
                continue;
            }
            // In a file it would be a server line.
            "server.principal" => continue,
            "syncEnabled" | "localSessionsEnabled" | "localSessionsUpgradingEnabled" => "true",
            _ => "10",
        };
        let spelled = key.name().replace('*', "x");
        let parsed = world.load(&format!("{spelled}={value}")).unwrap();
        let notes = texts(&parsed.notes);
        assert!(
            notes.contains(&format!(
                "zoo.cfg:3: `{spelled}` has no effect: {}",
                key.about()
            )),
            "{spelled}: {notes}"
        );
        assert_eq!(texts(&parsed.warnings), "", "{spelled}");
    }
}

#[test]
fn every_refused_key_is_refused_with_key_line_and_what_to_do() {
    let world = World::new();
    for key in all_keys() {
        let Effect::Refused { when, help } = key.effect() else {
            continue;
        };
        let value = ["true", "false", "sometimes", "2281"]
            .into_iter()
            .find(|value| when(value) == Ok(true))
            .unwrap_or_else(|| panic!("nothing makes {} refuse", key.name()));
        let refusal = world.refusal(&format!("{}={value}", key.name()));
        let expected = format!(
            "zoo.cfg:3: `{}={value}` cannot be honoured: {}\n  help: {help}",
            key.name(),
            key.about()
        );
        assert!(refusal.contains(&expected), "{refusal}");
    }
}

#[test]
fn refused_keys_with_a_harmless_value_are_accepted() {
    let world = World::new();
    let text = "client.portUnification=false\nsslQuorum=false\nportUnification=FALSE\n\
                quorum.auth.enableSasl=false\naudit.enable=false\ndb.autocreate=true\n\
                electionAlg=3\noraclePath=\n";
    let parsed = world.load(text).unwrap();
    assert_eq!(texts(&parsed.warnings), "");
}
