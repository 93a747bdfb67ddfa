//! The program `stasis`.

use std::process::ExitCode;

fn main() -> ExitCode {
    stasis_tool::cli::main()
}
