//! The command line of `stasis-kvm`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use stasis_tool::report;

use crate::arguments::Run;

/// `stasis-kvm` itself.
#[derive(Debug, Parser)]
#[command(
    name = "stasis-kvm",
    version,
    about = "Runs checkpoints of Stasis on the KVM of a Linux on arm64, and makes checkpoints there"
)]
struct Tool {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a guest from a checkpoint's file, with its console here
    #[command(after_help = DETAILS)]
    Run(Run),
}

/// The text behind the command's help.
const DETAILS: &str = "\
It needs /dev/kvm, and a GICv2 in the machine. All keys go to the guest, but for those behind Ctrl-A:
  Ctrl-A S       makes a checkpoint; the guest goes on
  Ctrl-A Q       makes a checkpoint, and ends
  Ctrl-A X       ends, without a checkpoint
  Ctrl-A B       sends a break
  Ctrl-A Ctrl-A  sends one Ctrl-A
SIGUSR1 makes a checkpoint, too. Stasis's docs/conversion.md tells what changes for the guest.";

/// Runs `stasis-kvm`, and returns the exit code of its process.
pub fn main() -> ExitCode {
    let Command::Run(arguments) = Tool::parse().command;
    report::exit(run(&arguments))
}

#[cfg(target_arch = "aarch64")]
fn run(arguments: &Run) -> Result<()> {
    crate::session::run(arguments)
}

#[cfg(not(target_arch = "aarch64"))]
fn run(_: &Run) -> Result<()> {
    anyhow::bail!("this runs on Linux on arm64; `cargo xtask build` makes the program for it")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Tool::command().debug_assert();
    }

    #[test]
    fn what_is_mistyped_is_answered_with_what_it_may_be() {
        let said = |words: &[&str]| {
            let words = ["stasis-kvm"].iter().chain(words);
            Tool::try_parse_from(words).unwrap_err().to_string()
        };
        let error = said(&["run", "linux.stasis", "--outt", "there.stasis"]);
        assert!(error.contains("unexpected argument '--outt'"), "{error}");
        assert!(error.contains("'--out'"), "{error}");
        let error = said(&["rum", "linux.stasis"]);
        assert!(error.contains("unrecognized subcommand 'rum'"), "{error}");
        assert!(error.contains("'run'"), "{error}");
        let error = said(&["run"]);
        assert!(error.contains("<CHECKPOINT>"), "{error}");
    }
}
