//! What single keys, flags and whole files come to.

mod ensemble;
mod table;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::config::{DigestAlgorithm, FourLetterWords, SaslUser};

/// A directory with a `zoo.cfg`, and with whatever else a test puts there.
struct World {
    dir: TempDir,
    environment: Environment,
}

impl World {
    fn new() -> World {
        World {
            dir: TempDir::new().unwrap(),
            environment: Environment::default(),
        }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `text` after the two lines that every file needs.
    fn load(&self, text: &str) -> Result<Parsed, ConfigError> {
        self.load_bare(&format!(
            "dataDir={}\nclientPort=2181\n{text}",
            self.dir.path().display()
        ))
    }

    fn load_bare(&self, text: &str) -> Result<Parsed, ConfigError> {
        load(&self.file("zoo.cfg", text), &self.environment)
    }

    fn config(&self, text: &str) -> Config {
        self.load(text).unwrap().config
    }

    fn refusal(&self, text: &str) -> String {
        self.load(text).unwrap_err().to_string()
    }
}

fn texts(remarks: &[Remark]) -> String {
    remarks.iter().map(|remark| format!("{remark}\n")).collect()
}

#[test]
fn the_sample_file_of_zookeeper_runs_on_all_interfaces() {
    let world = World::new();
    let parsed = world
        .load("tickTime=2000\ninitLimit=10\nsyncLimit=5\n")
        .unwrap();
    let config = parsed.config;
    assert_eq!(
        config.client_addr,
        Some(SocketAddr::from(([0, 0, 0, 0], 2181)))
    );
    assert_eq!(config.tick_time, Duration::from_secs(2));
    assert_eq!(config.min_session_timeout, Duration::from_secs(4));
    assert_eq!(config.max_session_timeout, Duration::from_secs(40));
    assert_eq!(config.my_id, 1);
    assert_eq!(parsed.notes.len(), 2, "initLimit and syncLimit");
}

#[test]
fn a_typo_is_a_warning_with_the_line_a_caret_and_what_is_in_force() {
    let world = World::new();
    let parsed = world.load("# a comment\n  tikTime=2000\n").unwrap();
    let text = texts(&parsed.warnings);
    let expected = "zoo.cfg:4: unknown key `tikTime` has no effect (Apache ZooKeeper ignores it \
                    too)\n   4 |   tikTime=2000\n     |   ^^^^^^^ did you mean `tickTime`? \
                    running with tickTime=3000\n";
    assert!(text.ends_with(expected), "{text}");
    let parsed = world.load("my.own.key=1").unwrap();
    assert_eq!(parsed.warnings.len(), 1);
    assert!(!texts(&parsed.warnings).contains("did you mean"));
}

#[test]
fn switches_of_the_file_are_strict_and_properties_are_as_lenient_as_zookeepers() {
    let world = World::new();
    let refusal = world.refusal("reconfigEnabled=yes");
    assert!(
        refusal.contains(
            "zoo.cfg:3: `reconfigEnabled`: invalid option `yes`: choose `true` or `false`"
        ),
        "{refusal}"
    );
    assert!(
        world
            .refusal("standaloneEnabled=1")
            .contains("choose `true` or `false`")
    );
    let parsed = world.load("enforceQuota=yes").unwrap();
    assert!(!parsed.config.enforce_quota);
    assert!(texts(&parsed.warnings).contains("neither true nor false"));
}

#[test]
fn all_problems_are_told_at_once() {
    let world = World::new();
    let error = world
        .load_bare("tickTime=x\nclientPort=-3\nsecureClientPort=2281\ntikTime=5")
        .unwrap_err();
    let lines: Vec<_> = error.problems().iter().map(Remark::line).collect();
    assert_eq!(lines, [Some(1), Some(2), Some(3), None], "{error}");
    assert!(error.to_string().contains("`dataDir` is not set"));
    assert_eq!(error.warnings().len(), 2, "no clientPort, and the typo");
}

#[test]
fn session_limits_must_not_cross() {
    let world = World::new();
    let refusal = world.refusal("minSessionTimeout=9000\nmaxSessionTimeout=8000");
    assert!(
        refusal.contains("`minSessionTimeout` (9000 ms) is larger"),
        "{refusal}"
    );
    // Only one is given, and the other's default crosses it.
    assert!(
        world
            .refusal("tickTime=100\nminSessionTimeout=9000")
            .contains("is larger")
    );
    let config = world.config("tickTime=100\nminSessionTimeout=-1\nmaxSessionTimeout=-1");
    assert_eq!(config.min_session_timeout, Duration::from_millis(200));
    assert_eq!(config.max_session_timeout, Duration::from_millis(2000));
}

#[test]
fn the_last_of_a_repeated_key_counts_in_any_spelling() {
    let world = World::new();
    let parsed = world
        .load("snapCount=5\nzookeeper.snapCount=6\ntickTime=1\ntickTime=2")
        .unwrap();
    assert_eq!(parsed.config.snap_count, 6);
    assert_eq!(parsed.config.tick_time, Duration::from_millis(2));
    assert!(texts(&parsed.notes).contains("zoo.cfg:3: `snapCount` is set again later"));
}

#[test]
fn keys_that_zookeeper_would_not_find_are_read_and_that_is_said() {
    let world = World::new();
    let parsed = world
        .load("jute.maxbuffer=5000\nzookeeper.snapCount=9")
        .unwrap();
    assert_eq!(parsed.config.jute_max_buffer, 5000);
    let notes = texts(&parsed.notes);
    assert!(
        notes.contains("only as the flag -Djute.maxbuffer"),
        "{notes}"
    );
    assert!(
        notes.contains("`zookeeper.snapCount` is read as `snapCount`"),
        "{notes}"
    );
}

#[test]
fn java_flags_apply_and_the_file_wins() {
    let mut world = World::new();
    world.environment = Environment {
        server_jvmflags: Some(
            "-Xmx1g -Dzookeeper.snapCount=5 -Djute.maxbuffer=4096 -Dzookeeper.tickTime=7".into(),
        ),
        jvmflags: Some("-Dzookeeper.maxCnxns=8 -Djute.maxbuffer=8192 -Dfile.encoding=x".into()),
    };
    let parsed = world.load("maxCnxns=9").unwrap();
    assert_eq!(parsed.config.snap_count, 5);
    assert_eq!(parsed.config.jute_max_buffer, 8192, "JVMFLAGS come last");
    assert_eq!(parsed.config.max_cnxns, 9);
    assert_eq!(
        parsed.config.tick_time,
        Duration::from_secs(3),
        "as in ZooKeeper"
    );
    let notes = texts(&parsed.notes);
    assert!(
        notes.contains("SERVER_JVMFLAGS: `-Xmx1g` has no effect: there is no JVM"),
        "{notes}"
    );
    assert!(notes.contains("-Dfile.encoding"), "{notes}");
    assert!(texts(&parsed.warnings).contains("read from the file only"));
    assert_eq!(parsed.origin("snapCount"), Some("SERVER_JVMFLAGS"));
}

#[test]
fn a_refused_flag_is_refused() {
    let mut world = World::new();
    world.environment.jvmflags = Some("-Dzookeeper.client.portUnification=true".into());
    assert!(
        world
            .refusal("")
            .contains("JVMFLAGS: `zookeeper.client.portUnification=true`")
    );
}

#[test]
fn users_come_from_the_jaas_file_and_super_from_its_own_key() {
    let world = World::new();
    let module = "org.apache.zookeeper.server.auth.DigestLoginModule required";
    let jaas = world.file(
        "jaas.conf",
        &format!("Server {{ {module} user_super=\"one\" user_bob=\"two\"; }};"),
    );
    let key = format!("java.security.auth.login.config={}\n", jaas.display());
    let config = world.config(&format!(
        "{key}SASLAuthenticationProvider.superPassword=three"
    ));
    assert_eq!(
        config.sasl_users,
        [SaslUser::new("bob", "two"), SaslUser::new("super", "three")]
    );
    world.file(
        "jaas.conf",
        "Server { com.sun.security.auth.module.Krb5LoginModule required; };",
    );
    assert!(
        world
            .refusal(&key)
            .contains("only org.apache.zookeeper.server.auth.DigestLoginModule")
    );
    assert!(
        world
            .refusal("java.security.auth.login.config=/none")
            .contains("cannot be read")
    );
    let parsed = world
        .load("SASLAuthenticationProvider.superPassword=x")
        .unwrap();
    assert!(texts(&parsed.warnings).contains("SASL is not configured"));
}

#[test]
fn what_clients_must_prove_must_be_provable() {
    let world = World::new();
    assert!(
        world
            .refusal("enforce.auth.enabled=true")
            .contains("names no scheme")
    );
    let refusal = world.refusal("enforce.auth.enabled=true\nenforce.auth.schemes=x509");
    assert!(refusal.contains("authenticate by `x509`"), "{refusal}");
    assert!(
        world
            .refusal("sessionRequireClientSASLAuth=true")
            .contains("name the users in a JAAS")
    );
    let config = world.config("enforce.auth.schemes=digest");
    assert_eq!(
        config.enforce_auth_schemes,
        Vec::<String>::new(),
        "enabled counts"
    );
}

#[test]
fn providers_that_do_not_exist_here_are_refused() {
    let world = World::new();
    let refusal = world.refusal("authProvider.1=com.example.Mine");
    assert!(
        refusal.contains("names `com.example.Mine`: only"),
        "{refusal}"
    );
    let x509 = "authProvider.x509=org.apache.zookeeper.server.auth.X509AuthenticationProvider";
    assert!(world.refusal(x509).contains("needs TLS"));
    assert!(
        world
            .refusal("metricsProvider.className=a.B")
            .contains("no known metrics provider")
    );
    assert!(
        world
            .refusal("superUser=a\nsuperUser.2=b")
            .contains("only one such id")
    );
}

#[test]
fn dangerous_settings_are_warned_about() {
    let world = World::new();
    assert!(texts(&world.load("forceSync=no").unwrap().warnings).contains("a power failure loses"));
    assert!(
        world.config("forceSync=NO").force_sync,
        "only a literal `no` counts"
    );
    assert!(texts(&world.load("skipACL=yes").unwrap().warnings).contains("may do anything"));
    assert!(!world.config("skipACL=true").skip_acl);
}

#[test]
fn the_whitelist_keeps_srvr_and_knows_its_words() {
    let world = World::new();
    assert_eq!(
        world.config("4lw.commands.whitelist=*").four_letter_words,
        FourLetterWords::All
    );
    assert_eq!(
        world
            .config("4lw.commands.whitelist=ruok,*")
            .four_letter_words,
        FourLetterWords::All
    );
    let parsed = world
        .load("4lw.commands.whitelist= rouk ,srvr,wchs,")
        .unwrap();
    assert!(
        texts(&parsed.warnings).contains("`rouk` is not a four-letter word; did you mean `ruok`?")
    );
    assert!(!texts(&parsed.warnings).contains("wchs"));
}

#[test]
fn the_old_standalone_form_is_understood() {
    let dir = TempDir::new().unwrap();
    let words = |text: &str| -> Vec<String> {
        text.replace("DIR", &dir.path().display().to_string())
            .split(' ')
            .map(str::to_owned)
            .collect()
    };
    let environment = Environment::default();
    let config = from_arguments(&words("2190 DIR 500 9"), &environment)
        .unwrap()
        .config;
    assert_eq!(
        config.client_addr,
        Some(SocketAddr::from(([0, 0, 0, 0], 2190)))
    );
    assert_eq!(config.data_dir, dir.path());
    assert_eq!(config.tick_time, Duration::from_millis(500));
    assert_eq!(config.max_client_cnxns, 9);
    assert!(from_arguments(&words("2190"), &environment).is_err());
    assert!(from_arguments(&words("x DIR"), &environment).is_err());
    assert!(from_arguments(&words("1 DIR 2 3 4"), &environment).is_err());
}

#[test]
fn unreadable_and_malformed_files_are_refused() {
    let world = World::new();
    let error = load(&world.dir.path().join("none.cfg"), &world.environment).unwrap_err();
    assert!(
        error.to_string().contains("none.cfg: cannot be read"),
        "{error}"
    );
    assert!(
        world
            .refusal("a=\\u00zz")
            .contains("zoo.cfg:3: malformed \\uxxxx encoding")
    );
    let huge = "#".repeat(2 * 1024 * 1024);
    assert!(world.refusal(&huge).contains("too many"));
}

#[test]
fn digest_algorithms_are_known_by_javas_names() {
    let world = World::new();
    let algorithm = |name: &str| {
        world
            .config(&format!("DigestAuthenticationProvider.digestAlg={name}"))
            .digest_algorithm
    };
    assert_eq!(algorithm("SHA-1"), DigestAlgorithm::Sha1);
    assert_eq!(algorithm("sha-256"), DigestAlgorithm::Sha256);
    assert!(
        world
            .refusal("DigestAuthenticationProvider.digestAlg=MD5")
            .contains("not supported")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Any value of any key gives a configuration or a reason, and never a panic.
    #[test]
    fn no_value_makes_it_panic(
        at in 0usize..1000,
        value in "(true|false|-?[0-9]{0,20}|0x[0-9a-f]{0,9}|[a-z:;,|*.=\\[\\]{} ]{0,20})",
    ) {
        let world = World::new();
        let keys: Vec<_> = all_keys().chain(None).collect();
        let name = keys[at % keys.len()].name().replace('*', "1");
        let _ = world.load_bare(&format!("dataDir=/nonexistent\n{name}={value}\nserver.1={value}"));
    }
}

#[test]
fn limits_below_0_mean_off_as_in_zookeeper() {
    let config = World::new().config("maxClientCnxns=-1\nmaxCnxns=-1\nrequestThrottleLimit=-1");
    assert_eq!((config.max_client_cnxns, config.max_cnxns), (0, 0));
    assert_eq!(config.request_throttle, None);
}
