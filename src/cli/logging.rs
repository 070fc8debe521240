//! What the library tells while it works, printed with `-v`.

use std::io;
use tracing::Level;

/// Prints what is at least as important as `verbose` asks for, to where errors go.
pub(super) fn start(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => Level::INFO,
        2 => Level::DEBUG,
        _ => Level::TRACE,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never)
        .without_time()
        // What cannot be printed is not worth a panic.
        .log_internal_errors(false)
        .with_target(false);
    // Whoever calls the program as a library may have a subscriber already.
    let _ = subscriber.try_init();
}
