//! The command line `tokenwell`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
