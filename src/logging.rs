//! What the parts say while they run: to standard error, filtered by `QUORATE_LOG`.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// What an operator wants to know: role, sessions that expire, snapshots, trouble.
const DEFAULT: &str = "info";
/// The consensus engine tells its steps at `info` and each message that a dead peer does not
/// answer at `warn`, in words of its own. Whoever wants them says `openraft=info`, which takes the
/// place of this.
const ENGINE: &str = "openraft=error";

/// Says what [`DEFAULT`] lets through, unless `QUORATE_LOG` asks for more or less; a filter that
/// cannot be read is told.
pub(crate) fn start() {
    let filter = |text: &str| EnvFilter::try_new(format!("{ENGINE},{text}"));
    let asked = std::env::var("QUORATE_LOG").unwrap_or_else(|_| DEFAULT.to_owned());
    let filter = filter(&asked).or_else(|error| {
        crate::say(&format!(
            "warning: QUORATE_LOG={asked} is not a filter: {error}"
        ));
        filter(DEFAULT)
    });
    let filter = filter.unwrap_or_default();
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // Fails only if a subscriber is set already, which then does the work.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false)
        .try_init();
}
