//! The program `brigade`.

use std::process::ExitCode;

fn main() -> ExitCode {
    brigade::cli::run(std::env::args_os())
}
