//! What the documents promise is what the code does.

use std::fmt::Write as _;

use quorate_server::config::zoo_cfg::{self, Key, all_keys};

const HEAD: &str = "# Configuration

`quorate server` needs no configuration: it listens on 127.0.0.1:2181 and keeps its data in
`./quorate-data`. `quorate server --config zoo.cfg` reads an unmodified `zoo.cfg`, with `myid`, the
dynamic file, the JAAS file and the `-D` flags in `SERVER_JVMFLAGS` and `JVMFLAGS`.

`quorate config check zoo.cfg` tells what would be applied and what not, without starting a server;
`quorate config explain zoo.cfg` prints every value in force and where it was set.

Every key of Apache ZooKeeper 3.9's server is one of these:

- **applied**: it does what it does in ZooKeeper.
- **noted**: it has no effect here, for the reason given; a note at start says so.
- **refused**: some value of it asks for what does not exist here, and the server does not start
  (exit code 2) rather than obey half of the file. Its harmless values are accepted.

A key that nobody knows is a warning with the nearest known key: ZooKeeper accepts such files, too.
Keys may be written with or without the prefix `zookeeper.`. `jute.maxbuffer`,
`readonlymode.enabled` and `znode.container.*`, which ZooKeeper reads only as Java flags, may stand
in the file. A trailing `*` stands for any ending. Differences in defaults: `extendedTypesEnabled`
is on, because it is safe for clients. Without `clientPortAddress` the server listens on all IPv4
interfaces.

A file with several `server.N` lines is an ensemble, described in
[operate/ensemble.md](operate/ensemble.md); one with a single participant runs standalone, as in
ZooKeeper. Keys that begin with `quorate.` are ours, with our default: ZooKeeper ignores them.

This page is the table in the code; a test holds the two together.

| key | ZooKeeper's default | here | |
| --- | --- | --- | --- |
";

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn row(key: &Key) -> String {
    let default = match key.default() {
        "" => String::new(),
        default => format!("`{default}`"),
    };
    format!(
        "| `{}` | {default} | {} | {} |\n",
        key.name(),
        key.effect_word(),
        cell(key.about())
    )
}

/// `QUORATE_BLESS=1 cargo test` writes the page.
#[test]
fn the_page_of_configuration_is_the_table_in_the_code() {
    let mut page = String::from(HEAD);
    for key in all_keys() {
        write!(page, "{}", row(key)).unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    if std::env::var_os("QUORATE_BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), page);
}

/// The files of `docs/operate/ensemble.md`, and the keys of its tables.
#[test]
fn the_ensembles_of_the_guide_are_read_without_a_warning() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operate/ensemble.md");
    let page = std::fs::read_to_string(page).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("myid"), "1").unwrap();
    let files: Vec<_> = page
        .split("```properties\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(files.len(), 2);
    for file in files {
        let path = dir.path().join("zoo.cfg");
        let text = file.replace("/var/lib/quorate", &dir.path().display().to_string());
        std::fs::write(&path, text).unwrap();
        let parsed = zoo_cfg::load(&path, &zoo_cfg::Environment::default()).unwrap();
        assert_eq!(parsed.warnings, []);
        assert_eq!(parsed.config.ensemble.unwrap().servers.len(), 4);
    }
    let times = page.split("## Times").nth(1).unwrap();
    let times = times.split("\n## ").next().unwrap();
    let rows: Vec<_> = times
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let key = all_keys().find(|key| key.name() == row);
        assert_eq!(key.unwrap().effect_word(), "applied", "{row}");
    }
}

/// The first screen of the README: what it is, then two commands.
#[test]
fn the_readme_begins_with_the_two_commands() {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let server = readme.find("cargo run --release -- server").unwrap();
    let test = readme.find("cargo test --workspace").unwrap();
    let second_heading = readme.match_indices("\n## ").next().unwrap().0;
    assert!(server < test && test < second_heading);
    for client in ["zkCli", "kazoo", "Curator", "zoo.cfg"] {
        assert!(readme.contains(client), "{client}");
    }
}

/// Links between documents lead somewhere.
#[test]
fn links_between_documents_lead_to_files() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let list = if path.is_dir() {
                &mut folders
            } else {
                &mut pages
            };
            list.push(path);
        }
    }
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || link.contains("://") {
                continue;
            }
            assert!(
                page.parent().unwrap().join(file).exists(),
                "{}: {link}",
                page.display()
            );
        }
    }
}
