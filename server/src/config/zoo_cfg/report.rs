//! What is said about a configuration file: notes, warnings, and why it is refused.
//!
//! Only text and places; the command that prints them adds `note:`, `warning:` or `error:`.

use std::fmt;

use super::properties::Spot;

/// Something to tell about one setting.
///
/// Its `Display` is one line, and for a line of a file two more that show the place:
///
/// ```text
/// zoo.cfg:3: unknown key `tikTime` has no effect (Apache ZooKeeper ignores it too)
///    3 | tikTime=2000
///      | ^^^^^^^ did you mean `tickTime`?
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    place: Place,
    message: String,
    pointer: Option<String>,
    help: Option<String>,
}

impl Remark {
    pub(super) fn new(place: &Place, message: impl Into<String>) -> Remark {
        Remark {
            place: place.clone(),
            message: message.into(),
            pointer: None,
            help: None,
        }
    }

    /// Draws the line, with `text` after the caret.
    pub(super) fn pointing(mut self, text: impl Into<String>) -> Remark {
        self.pointer = Some(text.into());
        self
    }

    pub(super) fn help(mut self, text: impl Into<String>) -> Remark {
        self.help = Some(text.into());
        self
    }

    /// The file, or the variable, that the setting stands in.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.place.origin
    }

    /// The line of the file, from 1; `None` for a setting that comes from elsewhere.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.place.spot.as_ref().map(|spot| spot.line)
    }

    /// What is to be told, without place and help.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        if let (Some(text), Some(spot)) = (&self.pointer, &self.place.spot) {
            let carets = "^".repeat(spot.width);
            let blank = if text.is_empty() { "" } else { " " };
            // Tabs would move the caret.
            let line = spot.text.replace(['\t', '\x0c'], " ");
            let indent = " ".repeat(spot.column);
            write!(
                f,
                "\n{:>4} | {line}\n     | {indent}{carets}{blank}{text}",
                spot.line
            )?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) origin: String,
    pub(super) spot: Option<Spot>,
}

impl Place {
    /// A whole file, or a variable.
    pub(super) fn whole(origin: impl Into<String>) -> Place {
        Place {
            origin: origin.into(),
            spot: None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.spot {
            Some(spot) => write!(f, "{}:{}", self.origin, spot.line),
            None => f.write_str(&self.origin),
        }
    }
}

/// The configuration is refused: everything that is wrong with it, at once.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    pub(super) problems: Vec<Remark>,
    pub(super) warnings: Vec<Remark>,
}

impl ConfigError {
    /// Each reason for the refusal; at least one.
    #[must_use]
    pub fn problems(&self) -> &[Remark] {
        &self.problems
    }

    /// What would have been a warning; often the cause of the refusal, as a typo is.
    #[must_use]
    pub fn warnings(&self) -> &[Remark] {
        &self.warnings
    }
}
