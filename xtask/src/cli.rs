//! The command line of `cargo xtask`: the developers' tasks, beside the commands of `stasis`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;
use crate::{bench, build, demo, dist, miri, report, run, setup, test};

/// `cargo xtask`.
#[derive(Debug, Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
    about = "Stasis: a hypervisor that checkpoints its guests and resumes them later",
    after_help = "`cargo xtask help COMMAND` tells more. Start with `cargo xtask demo`."
)]
struct Line {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Checkpoint a guest, end QEMU, start a new one, resume the guest
    #[command(after_help = demo::DETAILS)]
    Demo(demo::Arguments),
    /// Boot Stasis with a guest and stay at its console
    #[command(after_help = run::DETAILS)]
    Run(run::Arguments),
    /// Run all tests: on the host, then those that boot QEMU
    #[command(after_help = "On a slow machine STASIS_TIME_FACTOR=3 triples the time limits.")]
    Test {
        /// Only the tests that boot QEMU and have it in their name
        name: Option<String>,
    },
    /// Run tests of the pure crates under Miri, which takes long
    #[command(after_help = "It wants rustup and a nightly toolchain, to which it adds Miri.")]
    Miri {
        /// Only these crates, as their folders in hypervisor/ are called
        crates: Vec<String>,
    },
    /// Build the hypervisor's image, the bare-metal guests, and stasis-kvm
    #[command(
        after_help = "The image is target/stasis/Image, an arm64 Linux Image as boot loaders take it. \
                      stasis-kvm is a static program for Linux on arm64, to be copied there.\n\
                      With --lean, the image alone is built, as target/stasis/lean/Image: for partitions, without a console, a channel, a debugger and a store."
    )]
    Build {
        /// Only the image, without console, channel, debugger and store
        #[arg(long)]
        lean: bool,
    },
    /// Install what is lacking; the other commands do so by themselves
    #[command(after_help = setup::DETAILS)]
    Setup,
    /// Measure what a guest's operations cost, and what the image weighs
    #[command(after_help = bench::DETAILS)]
    Bench(bench::Arguments),
    /// Make a release: what someone without Rust needs, in a folder and an archive
    #[command(after_help = dist::DETAILS)]
    Dist(dist::Arguments),
    /// What `stasis` has: it takes from this checkout what it needs.
    #[command(flatten)]
    Users(stasis_tool::cli::Command),
}

impl Task {
    fn run(self, workspace: &Workspace) -> Result<()> {
        match self {
            Self::Demo(arguments) => demo::main(workspace, arguments),
            Self::Run(arguments) => run::main(workspace, arguments),
            Self::Test { name } => test::main(workspace, name.as_deref()),
            Self::Miri { crates } => miri::main(workspace, &crates),
            Self::Build { lean: true } => {
                build::hypervisor_for(workspace, build::Edition::Lean).map(drop)
            }
            Self::Build { lean: false } => {
                build::hypervisor(workspace)?;
                build::guests(workspace)?;
                build::kvm(workspace).map(drop)
            }
            Self::Setup => setup::all(workspace),
            Self::Bench(arguments) => bench::main(workspace, arguments),
            Self::Dist(arguments) => dist::main(workspace, arguments),
            Self::Users(command) => command.run(workspace),
        }
    }
}

/// Runs `cargo xtask`, and returns the exit code of its process.
pub fn main() -> ExitCode {
    let Line { task } = stasis_tool::cli::parse();
    report::exit(Workspace::find().and_then(|workspace| task.run(&workspace)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_tasks_are_a_good_list_and_the_users_commands_are_among_them() {
        Line::command().debug_assert();
        let names: Vec<_> =
            Line::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
        for name in ["demo", "bench", "checkpoint", "pack"] {
            assert!(names.iter().any(|known| known == name), "no {name} in {names:?}");
        }
    }

    #[test]
    fn a_mistyped_task_or_option_is_answered_with_the_nearest() {
        for (words, near) in [
            (&["xtask", "dmeo"][..], "'demo'"),
            (&["xtask", "run", "--geust", "linux"], "'--guest'"),
            (&["xtask", "demo", "--guest", "lnux"], "'linux'"),
            (&["xtask", "chekpoint"], "'checkpoint'"),
        ] {
            let error = Line::try_parse_from(words).unwrap_err().to_string();
            assert!(error.contains("similar") && error.contains(near), "{error}");
        }
        let error = Line::try_parse_from(["xtask", "xyzzy"]).unwrap_err().to_string();
        assert!(!error.contains("similar"), "{error}");
    }

    #[test]
    fn an_option_of_another_task_is_refused() {
        assert!(Line::try_parse_from(["xtask", "demo", "--smp", "2"]).is_err());
        for words in [
            &["xtask", "bench", "--as", "x"][..],
            &["xtask", "bench", "--plot", "x.svg", "--save", "x"],
            &["xtask", "bench", "--runs", "x", "--profile", "switch"],
            &["xtask", "bench", "--runs", "x", "--save", "x"],
        ] {
            assert!(Line::try_parse_from(words).is_err(), "{words:?}");
        }
    }
}
