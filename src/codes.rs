//! Every error that the command can end with: its number, exit code, cause and remedy.
//!
//! `docs/errors.md` is tested to be this table. Numbers are never used twice.

use crate::failure::Failure;

/// One kind of error.
#[derive(Debug)]
pub(crate) struct Code {
    /// Printed as `Q` and four digits.
    pub(crate) number: u16,
    /// The exit code of the process.
    pub(crate) exit: u8,
    /// What happened, for the documentation.
    pub(crate) title: &'static str,
    /// Why it happens and what helps, for the documentation.
    pub(crate) remedy: &'static str,
}

pub(crate) const NOT_LISTED: Code = Code {
    number: 5,
    exit: 5,
    title: "the server does not answer this word",
    remedy: "Only words in `4lw.commands.whitelist` are answered. Add the word there and restart \
             the server.",
};

pub(crate) const UNREACHABLE: Code = Code {
    number: 6,
    exit: 6,
    title: "cannot reach any server",
    remedy: "Nothing accepts connections at the address. Start the server, or name another with \
             `-s HOST:PORT` or the variable `QUORATE_SERVER`.",
};

pub(crate) const TIMED_OUT: Code = Code {
    number: 7,
    exit: 7,
    title: "timed out while connected",
    remedy: "The server accepted the connection and did not answer in time. It is overloaded, or \
             something else listens there. `--timeout` waits longer.",
};

pub(crate) const NOT_SERVING: Code = Code {
    number: 9,
    exit: 9,
    title: "the server is not serving",
    remedy: "The server is up and does not serve requests: it is starting, or stopped by a failed \
             disk. Its log says which.",
};

pub(crate) const NO_ANSWER: Code = Code {
    number: 10,
    exit: 1,
    title: "the server closed the connection without an answer",
    remedy: "It does not know the word, or it has reached a limit of connections.",
};

pub(crate) const CONFIG: Code = Code {
    number: 101,
    exit: 2,
    title: "the configuration is refused",
    remedy: "Each problem is listed with its line. `quorate config check FILE` repeats the check \
             without starting a server.",
};

pub(crate) const DATA_DIR: Code = Code {
    number: 103,
    exit: 3,
    title: "the data directory cannot be used",
    remedy: "It is missing and `datadir.autocreate` is off, or this user may not read and write \
             it, or another server uses it.",
};

pub(crate) const BIND: Code = Code {
    number: 104,
    exit: 1,
    title: "cannot listen on the client address",
    remedy: "Another process uses the port, or the address is not one of this host's. `--listen` \
             or `clientPort` choose another.",
};

pub(crate) const DISK: Code = Code {
    number: 110,
    exit: 10,
    title: "the log or a snapshot cannot be read or written",
    remedy: "The disk is full or failing, or a file is damaged; the message names the file. \
             Nothing that was acknowledged is thrown away by stopping here.",
};

pub(crate) const EXPORT: Code = Code {
    number: 120,
    exit: 1,
    title: "the export failed",
    remedy: "The message names the cause. The data that was to be exported is untouched.",
};

pub(crate) const UNEXPECTED: Code = Code {
    number: 1,
    exit: 1,
    title: "something unexpected failed",
    remedy: "The message names what the operating system refused.",
};

/// Every code, by number.
const ALL: [&Code; 11] = [
    &UNEXPECTED,
    &NOT_LISTED,
    &UNREACHABLE,
    &TIMED_OUT,
    &NOT_SERVING,
    &NO_ANSWER,
    &CONFIG,
    &DATA_DIR,
    &BIND,
    &DISK,
    &EXPORT,
];

/// `quorate explain`: a code's page, by its number with or without `Q`.
pub(crate) fn explain(number: &str) -> Result<String, Failure> {
    let digits = number.trim_start_matches(['q', 'Q']);
    let known = digits
        .parse::<u16>()
        .ok()
        .and_then(|n| ALL.iter().find(|c| c.number == n));
    known.map(|code| code.page()).ok_or_else(|| {
        Failure::new(&CONFIG, format!("there is no error {number}"))
            .help("docs/errors.md lists them; they look like Q0103")
    })
}

impl Code {
    /// What `quorate explain` says, and the documentation.
    fn page(&self) -> String {
        let Code {
            number,
            exit,
            title,
            remedy,
        } = self;
        format!("Q{number:04}: {title}\n\nExit code {exit}.\n\n{remedy}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page as the table gives it; `QUORATE_BLESS=1 cargo test` writes it.
    #[test]
    fn the_page_of_errors_is_this_table() {
        let mut page = String::from(
            "# Errors\n\nEvery error of the `quorate` command begins with `error[Q…]`. The exit \
             code is for scripts.\n\nThis page is the table in `src/codes.rs`; a test holds the two \
             together.\n",
        );
        for code in ALL {
            page += &format!("\n## {}", code.page());
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
        if std::env::var_os("QUORATE_BLESS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), page);
    }

    #[test]
    fn numbers_rise_and_no_code_means_success() {
        assert!(ALL.is_sorted_by(|a, b| a.number < b.number));
        assert!(ALL.iter().all(|code| code.exit != 0));
    }
}
