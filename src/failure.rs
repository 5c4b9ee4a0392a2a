//! How the command fails: what happened, where and what was seen, one thing that helps.

use std::fmt;
use std::process::ExitCode;

use crate::codes::Code;

/// The end of a command that did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    code: &'static Code,
    message: String,
    details: Vec<String>,
    help: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: &'static Code, message: impl Into<String>) -> Failure {
        Failure {
            code,
            message: message.into(),
            details: Vec::new(),
            help: None,
        }
    }

    /// Where it happened and what was seen.
    pub(crate) fn detail(mut self, text: impl Into<String>) -> Failure {
        self.details.push(text.into());
        self
    }

    pub(crate) fn help(mut self, text: impl Into<String>) -> Failure {
        self.help = Some(text.into());
        self
    }

    /// An error with everything that caused it, one line each.
    pub(crate) fn from_error(code: &'static Code, error: &dyn std::error::Error) -> Failure {
        let mut failure = Failure::new(code, error.to_string());
        let mut cause = error.source();
        while let Some(error) = cause {
            failure = failure.detail(error.to_string());
            cause = error.source();
        }
        failure
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code.exit)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[Q{:04}]: {}", self.code.number, self.message)?;
        for line in self.details.iter().flat_map(|detail| detail.lines()) {
            write!(f, "\n  {line}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes;

    #[test]
    fn a_failure_has_three_parts() {
        let failure = Failure::new(&codes::UNREACHABLE, "cannot reach any server")
            .detail("a:1  connection refused\nb:1  timed out")
            .help("quorate server");
        assert_eq!(
            failure.to_string(),
            "error[Q0006]: cannot reach any server\n  a:1  connection refused\n  b:1  timed out\n  \
             help: quorate server"
        );
    }
}
