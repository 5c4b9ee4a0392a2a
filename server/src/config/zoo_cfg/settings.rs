//! Where settings come from, and which of several counts.
//!
//! Files, flags and arguments in; one list of settings out, the last of each key, each with its
//! place. What keys mean is the table's business.

use std::path::Path;

use crate::config::Config;

use super::draft::Draft;
use super::flags;
use super::keys::{self, Effect, Key, ReadBy};
use super::properties::{self, Entry};
use super::report::{Place, Remark};
use super::suggest::nearest;
use super::values::BadValue;

/// One key with its value, wherever it was set.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// As it was spelled.
    pub(super) spelled: String,
    pub(super) value: String,
    pub(super) place: Place,
    pub(super) source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    File,
    Flag,
}

/// Everything that is to be told, collected while reading on.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) notes: Vec<Remark>,
    pub(super) warnings: Vec<Remark>,
    pub(super) problems: Vec<Remark>,
}

/// A configuration file larger than this is not one.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a file that must not be huge.
pub(super) fn read_file(path: &Path, findings: &mut Findings) -> Option<Vec<u8>> {
    let place = Place::whole(path.display().to_string());
    let outcome = std::fs::metadata(path).and_then(|meta| {
        if meta.len() > FILE_BYTES_MAX {
            Err(std::io::Error::other(format!(
                "{} bytes are too many for a configuration file",
                meta.len()
            )))
        } else {
            std::fs::read(path)
        }
    });
    match outcome {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let message = format!("cannot be read: {error}");
            findings.problems.push(Remark::new(&place, message));
            None
        }
    }
}

/// The entries of a properties file as settings.
pub(super) fn from_file(origin: &str, bytes: &[u8], findings: &mut Findings) -> Vec<Setting> {
    let entries = match properties::parse(bytes) {
        Ok(entries) => entries,
        Err(bad) => {
            let place = Place {
                origin: origin.into(),
                spot: Some(bad.spot),
            };
            let remark = Remark::new(&place, "malformed \\uxxxx encoding")
                .help("a backslash begins an escape: write \\\\ for one");
            findings.problems.push(remark);
            return Vec::new();
        }
    };
    entries
        .into_iter()
        .map(|Entry { key, value, spot }| Setting {
            spelled: key,
            value,
            place: Place {
                origin: origin.into(),
                spot: Some(spot),
            },
            source: Source::File,
        })
        .collect()
}

/// `-D` flags of one variable as settings; what only a JVM understands is noted in one line.
pub(super) fn from_variable(name: &str, text: &str, findings: &mut Findings) -> Vec<Setting> {
    let place = Place::whole(name);
    let parsed = flags::parse(text);
    let mut others = parsed.others;
    let mut settings = Vec::new();
    for (key, value) in parsed.properties {
        let bare = keys::find(&key).is_some_and(|known| known.read_by() == ReadBy::Bare);
        if !key.starts_with("zookeeper.") && !bare {
            others.push(format!("-D{key}"));
            continue;
        }
        settings.push(Setting {
            spelled: key,
            value,
            place: place.clone(),
            source: Source::Flag,
        });
    }
    if !others.is_empty() {
        let message = format!("`{}` has no effect: there is no JVM", others.join(" "));
        findings.notes.push(Remark::new(&place, message));
    }
    settings
}

/// Keeps the last setting of each key, in the order of the kept ones.
pub(super) fn last_wins(settings: Vec<Setting>, findings: &mut Findings) -> Vec<Setting> {
    let identity = |setting: &Setting| -> String {
        match keys::find(&setting.spelled) {
            Some(key) if !key.name().ends_with('*') => key.name().to_owned(),
            _ => setting
                .spelled
                .strip_prefix("zookeeper.")
                .unwrap_or(&setting.spelled)
                .to_owned(),
        }
    };
    let mut kept: Vec<(String, Setting)> = Vec::with_capacity(settings.len());
    for setting in settings {
        let name = identity(&setting);
        if let Some(at) = kept.iter().position(|(other, _)| *other == name) {
            let (_, earlier) = kept.remove(at);
            if earlier.source == setting.source {
                let message = format!(
                    "`{}` is set again later; the last one counts",
                    earlier.spelled
                );
                findings.notes.push(Remark::new(&earlier.place, message));
            }
        }
        kept.push((name, setting));
    }
    kept.into_iter().map(|(_, setting)| setting).collect()
}

/// Lets one setting do what the table says, and collects what is to be told about it.
pub(super) fn apply(setting: &Setting, draft: &mut Draft, findings: &mut Findings) {
    let Setting {
        spelled,
        value,
        place,
        source,
    } = setting;
    // Told by `unknown`, when the whole configuration is known.
    let Some(key) = keys::find(spelled) else {
        return;
    };
    if *source == Source::Flag && key.read_by() == ReadBy::File {
        let message = format!("`{spelled}` has no effect: this key is read from the file only");
        findings.warnings.push(Remark::new(place, message));
        return;
    }
    if let Some(spelling) = odd_spelling(key, spelled, *source) {
        findings.notes.push(Remark::new(place, spelling));
    }
    let outcome = match key.effect() {
        Effect::Applied { apply, .. } => apply(draft, value),
        Effect::Noted { check } => {
            let outcome = check(draft, value);
            if outcome.is_ok() && !is_said_elsewhere(key) {
                let message = format!("`{spelled}` has no effect: {}", key.about());
                findings.notes.push(Remark::new(place, message));
            }
            outcome
        }
        Effect::Refused { when, help } => match when(value) {
            Ok(true) => {
                let message = format!("`{spelled}={value}` cannot be honoured: {}", key.about());
                let remark = Remark::new(place, message).help(help);
                findings.problems.push(remark);
                return;
            }
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        },
    };
    for text in draft.warnings.drain(..) {
        findings
            .warnings
            .push(Remark::new(place, format!("`{spelled}`: {text}")));
    }
    if let Err(BadValue(reason)) = outcome {
        let remark = Remark::new(place, format!("`{spelled}`: {reason}"));
        findings.problems.push(remark.pointing(""));
    }
}

/// Keys that [`super::finish`] speaks about, with more to say than the table.
fn is_said_elsewhere(key: &Key) -> bool {
    [
        "peerType",
        "standaloneEnabled",
        "dynamicConfigFile",
        "multiAddress.enabled",
    ]
    .contains(&key.name())
}

/// ZooKeeper would not find some keys where users write them; here they count, and that is said.
fn odd_spelling(key: &Key, spelled: &str, source: Source) -> Option<String> {
    if source == Source::Flag {
        return None;
    }
    let name = key.name();
    if key.read_by() == ReadBy::Bare {
        return Some(format!(
            "`{spelled}` is read here; Apache ZooKeeper reads it only as the flag -D{name}"
        ));
    }
    spelled.starts_with("zookeeper.").then(|| {
        format!("`{spelled}` is read as `{name}`; Apache ZooKeeper would not find it so spelled")
    })
}

/// A note for a key that has no effect on a server that stands alone.
pub(super) fn alone(setting: &Setting) -> Option<Remark> {
    let key = keys::find(&setting.spelled).filter(|key| key.ensemble_only())?;
    let flag_of_file = setting.source == Source::Flag && key.read_by() == ReadBy::File;
    let message = format!(
        "`{}` has no effect: this server stands alone",
        setting.spelled
    );
    (!flag_of_file).then(|| Remark::new(&setting.place, message))
}

/// A warning for a key that nobody knows, with the one that may be meant and what it is instead.
pub(super) fn unknown(setting: &Setting, config: &Config) -> Option<Remark> {
    if keys::find(&setting.spelled).is_some() {
        return None;
    }
    let typed = setting
        .spelled
        .strip_prefix("zookeeper.")
        .unwrap_or(&setting.spelled);
    let message = format!(
        "unknown key `{}` has no effect (Apache ZooKeeper ignores it too)",
        setting.spelled
    );
    let remark = Remark::new(&setting.place, message);
    let known = keys::all()
        .map(Key::name)
        .filter(|name| !name.ends_with('*'));
    let Some(near) = nearest(typed, known) else {
        return Some(remark);
    };
    let running = keys::find(near)
        .and_then(|key| key.show(config))
        .filter(|value| !value.is_empty())
        .map_or_else(String::new, |value| format!(" running with {near}={value}"));
    Some(remark.pointing(format!("did you mean `{near}`?{running}")))
}
