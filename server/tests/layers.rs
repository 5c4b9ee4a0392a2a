//! The order of the `mod` lines in `lib.rs` is the architecture, and some modules are pure. This
//! reads the sources and says where they disagree. Tests inside modules are exempt.

#![expect(
    clippy::unwrap_used,
    reason = "a source that cannot be read should fail the test"
)]

use std::path::{Path, PathBuf};

/// Deterministic on every server: no I/O, no clock, no randomness, no runtime.
const PURE: [&str; 3] = ["tree", "watches", "sessions/expiry"];

/// What gives a pure module away.
const IMPURE: [&str; 12] = [
    "tokio",
    "std::fs",
    "std::net",
    "std::io",
    "std::time::Instant",
    "SystemTime",
    "std::thread",
    "rand::",
    "crate::clock",
    "crate::config",
    "crate::metrics",
    "crate::disk",
];

/// Plain data that every module but the pure ones may use, wherever it stands.
const OPEN: [&str; 3] = ["config", "clock", "metrics"];

struct Source {
    /// Relative to `src`, with `/`.
    path: String,
    /// Numbered lines, without comments and without the tests at the end.
    code: Vec<(usize, String)>,
}

impl Source {
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn is_pure(&self) -> bool {
        PURE.iter().any(|pure| {
            self.path
                .strip_prefix(pure)
                .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        })
    }
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if name == "tests" || name.ends_with("_tests") {
            continue;
        }
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules in the order of `lib.rs`.
fn modules(lib: &str) -> Vec<String> {
    lib.lines()
        .filter_map(|line| {
            let line = line.strip_prefix("pub ").unwrap_or(line);
            Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
        })
        .collect()
}

fn strip(text: &str) -> Vec<(usize, String)> {
    let mut kept = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        if line == "#[cfg(test)]"
            && let Some((_, next)) = lines.peek()
            && next.trim_start().starts_with("mod ")
        {
            if next.ends_with('{') {
                // `mod tests { … }` is the end of the file.
                break;
            }
            lines.next();
            continue;
        }
        let code = line.split("//").next().unwrap_or_default();
        kept.push((at + 1, code.to_owned()));
    }
    kept
}

/// The words after each `crate::`; `{` for a list of them.
fn uses(code: &str) -> Vec<&str> {
    code.split("crate::")
        .skip(1)
        .map(|rest| {
            if rest.starts_with('{') {
                return "{";
            }
            let end = rest
                .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                .unwrap_or(rest.len());
            rest.get(..end).unwrap_or_default()
        })
        .collect()
}

/// Every disagreement, as `file:line: what`.
fn complaints(order: &[String], sources: &[Source]) -> Vec<String> {
    let place = |name: &str| order.iter().position(|module| module == name);
    let mut found = Vec::new();
    for source in sources {
        let Some(own) = place(source.module()) else {
            continue;
        };
        for (line, code) in &source.code {
            let at = format!("{}:{line}", source.path);
            for used in uses(code) {
                if used == "{" {
                    found.push(format!("{at}: one `use` per module of the crate"));
                }
                let above = place(used).is_some_and(|there| there < own);
                if above && !OPEN.contains(&used) {
                    found.push(format!("{at}: `{used}` is above `{}`", source.module()));
                }
            }
            if source.is_pure() {
                for word in IMPURE {
                    if code.contains(word) {
                        found.push(format!("{at}: a pure module mentions `{word}`"));
                    }
                }
            }
        }
    }
    found
}

#[test]
fn modules_use_only_what_stands_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let order = modules(&std::fs::read_to_string(root.join("lib.rs")).unwrap());
    assert!(order.len() > 10, "the order was not understood: {order:?}");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let sources: Vec<_> = files
        .iter()
        .map(|file| Source {
            path: file
                .strip_prefix(&root)
                .unwrap()
                .to_string_lossy()
                .replace('\\', "/"),
            code: strip(&std::fs::read_to_string(file).unwrap()),
        })
        .collect();
    let found = complaints(&order, &sources);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The check itself: what it must see, and what it must let pass.
#[test]
fn the_check_sees_what_it_should() {
    let order = modules("mod upper;\n\nmod tree;\npub mod lower;\nmod clock;\n");
    assert_eq!(order, ["upper", "tree", "lower", "clock"]);
    let check = |path: &str, text: &str| {
        let source = Source {
            path: path.into(),
            code: strip(text),
        };
        complaints(&order, &[source])
    };
    let nothing = Vec::<String>::new();
    assert_eq!(check("upper/mod.rs", "use crate::lower::X;"), nothing);
    assert_eq!(check("lower.rs", "fn f(x: crate::upper::X) {}").len(), 1);
    assert_eq!(check("lower.rs", "use crate::{upper, tree};").len(), 1);
    assert_eq!(check("lower.rs", "use crate::clock::Clock;"), nothing);
    assert_eq!(check("tree/node.rs", "use crate::clock::Clock;").len(), 1);
    assert_eq!(
        check("tree/node.rs", "\n\nuse std::fs::File;"),
        ["tree/node.rs:3: a pure module mentions `std::fs`"]
    );
    assert_eq!(check("tree.rs", "// tokio is far away"), nothing);
    let tested = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::upper::X;\n}\n";
    assert_eq!(check("tree.rs", tested), nothing);
    assert_eq!(
        check("lower.rs", "#[cfg(test)]\nmod tests;\nuse crate::upper::X;").len(),
        1
    );
    assert_eq!(
        check("lower.rs", "use quorate::upper::X; pub(crate) fn f() {}"),
        nothing
    );
}
