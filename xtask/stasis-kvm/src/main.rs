//! `stasis-kvm`.

use std::process::ExitCode;

fn main() -> ExitCode {
    stasis_kvm::cli::main()
}
