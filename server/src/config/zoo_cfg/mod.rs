//! Reads an unmodified `zoo.cfg`.
//!
//! Every key of Apache ZooKeeper 3.9 is known ([`all_keys`]): applied, noted as without effect here,
//! or refused with the reason. All that is wrong is told at once. A file that asks for what does
//! not exist here is never half obeyed.
//!
//! Reads the named file and those that it names (`dynamicConfigFile`, `myid`, JAAS); writes
//! nothing. Order, as in ZooKeeper: flags of `SERVER_JVMFLAGS` and `JVMFLAGS`, then the file,
//! whose settings win; of a key set twice the last counts.

mod draft;
mod finish;
mod flags;
mod jaas;
mod keys;
mod members;
mod properties;
mod report;
mod server_line;
mod settings;
mod suggest;
mod values;

#[cfg(test)]
mod tests;

use std::path::Path;

use super::Config;

use draft::Draft;
use report::Place;
use settings::{Findings, Setting, Source};

pub use keys::{Key, all as all_keys};
pub use report::{ConfigError, Remark};
pub use server_line::{ClientAddress, PeerAddress, Role, ServerLine};

/// The variables of the environment in which deployments keep Java flags.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Environment {
    /// `SERVER_JVMFLAGS`.
    pub server_jvmflags: Option<String>,
    /// `JVMFLAGS`.
    pub jvmflags: Option<String>,
}

impl Environment {
    /// That of this process.
    #[must_use]
    pub fn of_process() -> Environment {
        Environment {
            server_jvmflags: std::env::var("SERVER_JVMFLAGS").ok(),
            jvmflags: std::env::var("JVMFLAGS").ok(),
        }
    }
}

/// A configuration that can be run, and what is to be told about it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Parsed {
    /// What to run.
    pub config: Config,
    /// What was understood and has no effect, or another than in ZooKeeper.
    pub notes: Vec<Remark>,
    /// What is probably not meant.
    pub warnings: Vec<Remark>,
    /// The server lines, in the order of their numbers.
    pub servers: Vec<ServerLine>,
    origins: Vec<(String, String)>,
}

impl Parsed {
    /// Where an applied key was set; `None` for a default.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&str> {
        self.origins
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, origin)| origin.as_str())
    }
}

/// Reads the file at `path`, and the flags in `environment`.
///
/// # Errors
/// [`ConfigError`] lists every problem, each with its place.
pub fn load(path: &Path, environment: &Environment) -> Result<Parsed, ConfigError> {
    let mut findings = Findings::default();
    let origin = path.display().to_string();
    let mut all = variables(environment, &mut findings);
    match settings::read_file(path, &mut findings) {
        Some(bytes) => all.extend(settings::from_file(&origin, &bytes, &mut findings)),
        // What the file might have said is not worth a guess.
        None => {
            return Err(ConfigError {
                problems: findings.problems,
                warnings: findings.warnings,
            });
        }
    }
    build(all, &Place::whole(origin), findings)
}

/// ZooKeeper's old standalone form: `clientPort dataDir [tickTime] [maxClientCnxns]`.
///
/// # Errors
/// As [`load`].
pub fn from_arguments(
    arguments: &[String],
    environment: &Environment,
) -> Result<Parsed, ConfigError> {
    const NAMES: [&str; 4] = ["clientPort", "dataDir", "tickTime", "maxClientCnxns"];
    let mut findings = Findings::default();
    let place = Place::whole("arguments");
    if !(2..=NAMES.len()).contains(&arguments.len()) {
        let message = "expected: clientPort dataDir [tickTime] [maxClientCnxns]";
        findings.problems.push(Remark::new(&place, message));
    }
    let mut all = variables(environment, &mut findings);
    all.extend(NAMES.iter().zip(arguments).map(|(name, value)| Setting {
        spelled: (*name).to_owned(),
        value: value.clone(),
        place: place.clone(),
        source: Source::File,
    }));
    build(all, &place, findings)
}

fn variables(environment: &Environment, findings: &mut Findings) -> Vec<Setting> {
    let mut all = Vec::new();
    for (name, text) in [
        ("SERVER_JVMFLAGS", &environment.server_jvmflags),
        ("JVMFLAGS", &environment.jvmflags),
    ] {
        if let Some(text) = text {
            all.extend(settings::from_variable(name, text, findings));
        }
    }
    all
}

fn build(all: Vec<Setting>, whole: &Place, mut findings: Findings) -> Result<Parsed, ConfigError> {
    let (mut members, plain): (Vec<_>, Vec<_>) = all.into_iter().partition(is_member);
    let plain = settings::last_wins(plain, &mut findings);
    let mut draft = Draft::new();
    for setting in &plain {
        settings::apply(setting, &mut draft, &mut findings);
    }
    if let Some(file) = draft.dynamic_file.clone() {
        for setting in members.drain(..) {
            let message = format!(
                "`{}` may not stand beside `dynamicConfigFile`: the dynamic file has the servers",
                setting.spelled
            );
            findings.problems.push(Remark::new(&setting.place, message));
        }
        members = dynamic(Path::new(&file), &mut draft, &mut findings);
    }
    let mut servers = Vec::new();
    for Setting {
        spelled,
        value,
        place,
        ..
    } in members
    {
        let id = spelled.strip_prefix("server.").unwrap_or(&spelled);
        match ServerLine::parse(id, &value) {
            Ok(line) => servers.push((line, place)),
            Err(reason) => {
                let remark = Remark::new(&place, format!("`{spelled}` {reason}"));
                findings.problems.push(remark.pointing(""));
            }
        }
    }
    servers.sort_by_key(|(line, _)| line.id);
    let servers = one_line_each(servers, &mut findings);
    let config = finish::finish(draft, &servers, whole, &mut findings);
    if config.ensemble.is_none() {
        findings
            .notes
            .extend(plain.iter().filter_map(settings::alone));
    }
    findings.warnings.extend(
        plain
            .iter()
            .filter_map(|setting| settings::unknown(setting, &config)),
    );
    if !findings.problems.is_empty() {
        return Err(ConfigError {
            problems: findings.problems,
            warnings: findings.warnings,
        });
    }
    let origins = plain
        .iter()
        .filter_map(|setting| {
            Some((
                keys::find(&setting.spelled)?.name().to_owned(),
                setting.place.to_string(),
            ))
        })
        .collect();
    Ok(Parsed {
        config,
        notes: findings.notes,
        warnings: findings.warnings,
        servers: servers.into_iter().map(|(line, _)| line).collect(),
        origins,
    })
}

/// Two servers with one number are no ensemble, and a copied line that was not edited is the most
/// common way to get there. The same line twice is harmless.
fn one_line_each(
    servers: Vec<(ServerLine, Place)>,
    findings: &mut Findings,
) -> Vec<(ServerLine, Place)> {
    let mut kept: Vec<(ServerLine, Place)> = Vec::with_capacity(servers.len());
    for (line, place) in servers {
        match kept.last() {
            Some((other, _)) if *other == line => {
                let message = format!("server.{} is listed twice", line.id);
                findings.notes.push(Remark::new(&place, message));
            }
            Some((other, first)) if other.id == line.id => {
                let message = format!(
                    "server.{} is listed twice, and before ({first}) with other addresses: each \
                     number is one server's",
                    line.id
                );
                findings.problems.push(Remark::new(&place, message));
            }
            _ => kept.push((line, place)),
        }
    }
    kept
}

fn is_member(setting: &Setting) -> bool {
    setting.source == Source::File && setting.spelled.starts_with("server.")
}

/// The dynamic file holds server lines, groups and weights, and nothing else.
fn dynamic(path: &Path, draft: &mut Draft, findings: &mut Findings) -> Vec<Setting> {
    let Some(bytes) = settings::read_file(path, findings) else {
        return Vec::new();
    };
    let all = settings::from_file(&path.display().to_string(), &bytes, findings);
    let (members, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(is_member);
    for setting in settings::last_wins(rest, findings) {
        if setting.spelled.starts_with("group.") || setting.spelled.starts_with("weight.") {
            settings::apply(&setting, draft, findings);
            continue;
        }
        let message = format!(
            "`{}` does not belong here: a dynamic file has server lines only",
            setting.spelled
        );
        let remark = Remark::new(&setting.place, message);
        findings.problems.push(remark.pointing(""));
    }
    members
}
