//! What the parts say while they run: to standard error, filtered by `QUORATE_LOG`.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Warnings and errors, unless `QUORATE_LOG` asks for more; a filter that cannot be read is told.
pub(crate) fn start() {
    let filter = match std::env::var("QUORATE_LOG") {
        Err(_) => EnvFilter::new("warn"),
        Ok(text) => EnvFilter::try_new(&text).unwrap_or_else(|error| {
            crate::say(&format!(
                "warning: QUORATE_LOG={text} is not a filter: {error}"
            ));
            EnvFilter::new("warn")
        }),
    };
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // Fails only if a subscriber is set already, which then does the work.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false)
        .try_init();
}
