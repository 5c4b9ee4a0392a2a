//! What can be typed. No behaviour: each command has its own module.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// ZooKeeper-compatible coordination: server and tools
#[derive(Debug, Parser)]
#[command(
    name = "quorate",
    version,
    max_term_width = 80,
    disable_help_subcommand = true,
    after_help = "Examples:\n  quorate server                          a server on 127.0.0.1:2181\n  \
                  quorate server --config zoo.cfg         with an unmodified zoo.cfg\n  \
                  quorate demo                            three servers at work, to look at\n  \
                  quorate 4lw srvr                        ask it how it is\n  \
                  quorate config check zoo.cfg            what would be applied, and what not"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server
    Server(ServerArgs),
    /// Show three servers at work in this terminal, while their leaders are killed
    Demo(DemoArgs),
    /// Ask a server one of ZooKeeper's four-letter words
    #[command(name = "4lw")]
    FourLetterWord(WordArgs),
    /// Measure any server that speaks ZooKeeper's protocol
    Bench(crate::bench::BenchArgs),
    /// Write a dataDir that Apache ZooKeeper starts from
    ExportDatadir(ExportArgs),
    /// Look at a zoo.cfg without starting a server
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Say what an error code means and what helps
    Explain(ExplainArgs),
    /// Make the digest of user:password for an ACL or a superDigest
    Digest(DigestArgs),
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  quorate server\n  \
                        quorate server --config /etc/zookeeper/zoo.cfg\n  \
                        quorate server --data-dir /var/lib/quorate --listen 0.0.0.0:2181\n  \
                        quorate server 2181 /var/lib/zookeeper     (ZooKeeper's old form)\n\n\
                        QUORATE_LOG sets what is logged: info as it is, or warn, debug, openraft=info")]
pub(crate) struct ServerArgs {
    /// An unmodified zoo.cfg
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where to keep data [default: quorate-data, or the file's dataDir]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where clients connect [default: 127.0.0.1:2181, or the file's clientPort]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// Refuse to start on warnings about the file
    #[arg(long)]
    pub(crate) strict_config: bool,
    /// A zoo.cfg; or ZooKeeper's old form, PORT DATADIR, then if need be TICKTIME MAXCLIENTCNXNS
    #[arg(value_name = "ARGS", num_args = 0..=4, conflicts_with = "config")]
    pub(crate) positional: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  quorate demo\n  \
                        quorate demo --seconds 30 --kill-every 3 | tee demo.txt\n\n\
                        Three servers with data in a temporary directory, and clients that use a lock,\n\
                        an election, a queue, a configuration and a group. At the end it counts whether\n\
                        something that was acknowledged is lost.")]
pub(crate) struct DemoArgs {
    /// End by itself after this time [default: at Ctrl-C]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Option<Duration>,
    /// How often the leader is killed
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) kill_every: Duration,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  quorate 4lw ruok\n  quorate 4lw mntr -s zk1:2181\n\n\
                        A server answers the words in its 4lw.commands.whitelist, and srvr always."
)]
pub(crate) struct WordArgs {
    /// conf cons crst dirs dump envi gtmk hash isro mntr ruok srst srvr stat wchc wchp wchs
    #[arg(value_parser = four_letters)]
    pub(crate) word: String,
    /// Servers to try, in order [default: $QUORATE_SERVER, or 127.0.0.1:2181]
    #[arg(short, long, value_name = "HOST:PORT", value_delimiter = ',')]
    pub(crate) server: Vec<String>,
    /// Seconds to wait for connection and answer
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
                        quorate export-datadir --data-dir quorate-data --to /var/lib/zookeeper\n\n\
                        Stop the server first. The target must be empty; the source is untouched.")]
pub(crate) struct ExportArgs {
    /// The data of the server
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The zoo.cfg that the server ran with
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The dataDir to write
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Tell what a zoo.cfg would do, and whether it would start
    #[command(after_help = "Example:\n  quorate config check /etc/zookeeper/zoo.cfg")]
    Check {
        /// The file
        file: PathBuf,
        /// Count warnings as errors
        #[arg(long)]
        strict: bool,
    },
    /// Print every setting in force, its default and where it was set
    #[command(after_help = "Example:\n  quorate config explain /etc/zookeeper/zoo.cfg")]
    Explain {
        /// The file
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  quorate digest super:secret\n  \
                        quorate digest - < file        keeps the password out of the process list")]
pub(crate) struct DigestArgs {
    /// `user:password`, or `-` to read it from standard input
    pub(crate) user_password: String,
    /// The hash
    #[arg(long, value_enum, default_value_t = Algorithm::Sha1)]
    pub(crate) algorithm: Algorithm,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quorate explain Q0103")]
pub(crate) struct ExplainArgs {
    /// The code, for example Q0103
    pub(crate) code: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

fn four_letters(text: &str) -> Result<String, String> {
    if text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_lowercase()) {
        Ok(text.to_owned())
    } else {
        Err("a word has four lower-case letters".into())
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|time| !time.is_zero() && *time <= Duration::from_secs(86_400))
        .ok_or_else(|| "expected seconds, such as 5 or 0.5".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    /// `cargo test` runs without a terminal, so this is what a pipe gets.
    #[test]
    fn every_help_fits_80_columns_and_has_an_example() {
        fn check(command: &mut clap::Command) {
            if command.has_subcommands() {
                for sub in command.get_subcommands_mut() {
                    check(sub);
                }
                return;
            }
            let help = command.render_long_help().to_string();
            let wide: Vec<_> = help
                .lines()
                .filter(|line| line.chars().count() > 80)
                .collect();
            assert!(wide.is_empty(), "{wide:?}");
            if command.get_name() != "version" {
                assert!(help.contains("Example"), "{help}");
            }
        }
        let mut command = Cli::command().term_width(80);
        command.build();
        check(&mut command);
    }
}
