//! `quorate config`: what a zoo.cfg would do. Also tells what the server has to say about one.

use std::fmt::Write as _;
use std::path::Path;

use quorate_server::config::zoo_cfg::{self, ConfigError, Environment, Parsed};

use crate::cli::ConfigCommand;
use crate::codes;
use crate::failure::Failure;

pub(crate) fn run(command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check { file, strict } => {
            let parsed = load(file)?;
            tell(&parsed);
            refuse_warnings(&parsed, *strict)?;
            let (notes, warnings) = (parsed.notes.len(), parsed.warnings.len());
            crate::say(&format!(
                "{}: would start; {notes} notes, {warnings} warnings",
                file.display()
            ));
            Ok(())
        }
        ConfigCommand::Explain { file } => {
            let parsed = load(file)?;
            tell(&parsed);
            crate::data(&explain(&parsed))
        }
    }
}

/// Reads a file, with this process's environment.
pub(crate) fn load(file: &Path) -> Result<Parsed, Failure> {
    zoo_cfg::load(file, &Environment::of_process()).map_err(|error| refusal(&error))
}

/// ZooKeeper's old form of arguments.
pub(crate) fn from_arguments(arguments: &[String]) -> Result<Parsed, Failure> {
    zoo_cfg::from_arguments(arguments, &Environment::of_process()).map_err(|error| refusal(&error))
}

/// Notes and warnings, as they are before a server starts.
pub(crate) fn tell(parsed: &Parsed) {
    for warning in &parsed.warnings {
        crate::say(&format!("warning: {warning}"));
    }
    for note in &parsed.notes {
        crate::say(&format!("note: {note}"));
    }
}

/// With `--strict-config` a warning is a refusal.
pub(crate) fn refuse_warnings(parsed: &Parsed, strict: bool) -> Result<(), Failure> {
    if strict && !parsed.warnings.is_empty() {
        let message = format!("{} warnings, and warnings count", parsed.warnings.len());
        return Err(Failure::new(&codes::CONFIG, message));
    }
    Ok(())
}

fn refusal(error: &ConfigError) -> Failure {
    for warning in error.warnings() {
        crate::say(&format!("warning: {warning}"));
    }
    let message = match error.problems().len() {
        1 => "the configuration is refused".to_owned(),
        count => format!("the configuration is refused for {count} reasons"),
    };
    error
        .problems()
        .iter()
        .fold(Failure::new(&codes::CONFIG, message), |failure, problem| {
            failure.detail(problem.to_string())
        })
}

fn explain(parsed: &Parsed) -> String {
    let rows: Vec<[String; 4]> = zoo_cfg::all_keys()
        .filter_map(|key| {
            let value = key.show(&parsed.config)?;
            let origin = parsed.origin(key.name()).unwrap_or("default");
            Some([
                key.name().into(),
                value,
                key.default().into(),
                origin.into(),
            ])
        })
        .collect();
    let head = ["KEY", "VALUE", "ZOOKEEPER'S DEFAULT", "SET BY"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let mut widths = [0; 4];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a `String` cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
