//! The commands of `stasis`: their names, their arguments and their help.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Error, Parser, Subcommand};
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};
use stasis_store::Compression;

use crate::checkout::{Checkout, NoCheckout};
use crate::output::Output;
use crate::{
    archive, card, check, checkpoint, console, convert, ctl, disk, gdb, output, report, top, volume,
};

/// `stasis` itself.
#[derive(Debug, Parser)]
#[command(
    name = "stasis",
    version,
    about = "Works on the files of Stasis, a hypervisor that checkpoints its guests and resumes them later",
    after_help = "`stasis help COMMAND` tells more."
)]
struct Tool {
    #[command(subcommand)]
    command: Own,
}

/// The commands of `stasis`.
#[derive(Debug, Subcommand)]
enum Own {
    #[command(flatten)]
    Shared(Command),
    /// Print what a shell needs to complete the commands, and names of a machine's
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// The commands that `stasis` and `cargo xtask` have.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Work on checkpoints: in files, on a disk image or a card
    #[command(subcommand, after_help = checkpoint::DETAILS)]
    Checkpoint(checkpoint::Action),
    /// Make a page for a browser: of a checkpoint, of what differs between two, or of what `top`
    /// has recorded
    #[command(after_help = checkpoint::html::DETAILS)]
    Report(checkpoint::html::Arguments),
    /// Work on volumes, the disks of guests, on a disk image or a card
    #[command(subcommand, after_help = volume::DETAILS)]
    Volume(volume::Action),
    /// Convert a guest to a machine of QEMU's, or back, or its virtual GIC to what KVM takes
    #[command(subcommand, after_help = convert::DETAILS)]
    Convert(convert::Action),
    /// Make a boot archive: the guests' configuration and their images
    #[command(
        after_help = "The project's examples/ has configurations to start from, with a word on every key."
    )]
    Pack {
        /// The guests' configuration
        #[arg(value_name = "CONFIG.toml")]
        config: PathBuf,
        /// The archive that is made
        #[arg(value_name = "OUT.cpio")]
        out: PathBuf,
    },
    /// Check a configuration, the images that it names, and whether a board has what it asks for;
    /// make nothing
    #[command(after_help = check::DETAILS)]
    Check(check::Arguments),
    /// Make a disk image with an empty partition for checkpoints
    #[command(
        after_help = "The file takes only the space that is used. An old file is not touched."
    )]
    Disk {
        /// The image that is made
        file: PathBuf,
        /// How large it is
        #[arg(long, default_value = "512M", value_parser = report::size_from)]
        size: u64,
        /// How the store compresses checkpoints: by lz4 if the disk is slow
        #[arg(long, default_value = "none", value_name = "HOW", value_parser = disk::compression())]
        compress: Compression,
    },
    /// Make a card image for a Raspberry Pi 4, with Stasis, guests and a store
    #[command(alias = "image", after_help = card::DETAILS)]
    Card(card::Arguments),
    /// Stay at a machine's console: through a socket of QEMU's or a serial device
    #[command(after_help = console::DETAILS)]
    Console(console::Arguments),
    /// Debug a guest that runs, or one in a checkpoint, with gdb or lldb
    #[command(after_help = gdb::DETAILS)]
    Gdb(gdb::Arguments),
    /// Give a machine that runs a command, by its channel for programs
    #[command(after_help = ctl::DETAILS)]
    Ctl(ctl::Arguments),
    /// Stay at a guest's terminal, by the machine's channel for programs
    #[command(after_help = ctl::attach::DETAILS)]
    Attach(ctl::attach::Arguments),
    /// Hold a machine's channel for programs, and serve many tools with it
    #[command(after_help = ctl::connect::DETAILS)]
    Connect(ctl::connect::Arguments),
    /// Show what the cores and the guests of a machine do, live, by its channel
    #[command(after_help = top::DETAILS)]
    Top(top::Arguments),
}

impl Command {
    /// Carries out the command.
    pub fn run(self, checkout: &dyn Checkout) -> Result<()> {
        match self {
            Self::Checkpoint(action) => action.run(),
            Self::Report(arguments) => checkpoint::html::main(&arguments),
            Self::Volume(action) => action.run(),
            Self::Convert(action) => action.run(),
            Self::Pack { config, out } => {
                let archive = archive::from_file(checkout, &config)?;
                let mut output = Output::create(&out)?;
                output.put_content(&archive)?;
                output.finish_and_tell()?;
                let size = report::size(archive.len());
                report::step(format_args!("{}: {size}", out.display()));
                Ok(())
            }
            Self::Check(arguments) => check::main(checkout, &arguments),
            Self::Disk { file, size, compress } => {
                output::must_be_new(&file)?;
                disk::create_with(&file, size, compress)?;
                let size = report::size(size);
                report::step(format_args!("{}: {size} with an empty store", file.display()));
                Ok(())
            }
            Self::Card(arguments) => card::main(checkout, arguments),
            Self::Console(arguments) => console::main(arguments),
            Self::Gdb(arguments) => gdb::main(arguments),
            Self::Ctl(arguments) => ctl::main(arguments),
            Self::Attach(arguments) => ctl::attach::main(arguments),
            Self::Connect(arguments) => ctl::connect::main(arguments),
            Self::Top(arguments) => top::main(arguments),
        }
    }
}

/// Returns the command line that was typed. If it is wrong, ends the process with an error and a
/// hint at what was probably meant. If it is nothing but the program's name, prints the help and
/// ends the process with status 0.
pub fn parse<L: Parser>() -> L {
    if std::env::args_os().len() <= 1 {
        // A reader who does not read to the end is no error.
        let _ = L::command().print_help();
        std::process::exit(0);
    }
    L::try_parse().unwrap_or_else(|error| likeliest(error).exit())
}

/// Keeps only the likeliest of the suggested commands, which is the last one.
fn likeliest(mut error: Error) -> Error {
    if let Some(ContextValue::Strings(names)) = error.get(ContextKind::SuggestedSubcommand)
        && let Some(name) = names.last().cloned()
    {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::String(name));
    }
    error
}

/// Returns the command line of `stasis` as data, of which its manual is made.
pub fn command() -> clap::Command {
    Tool::command()
}

/// The variable by which a shell's script asks `stasis` itself what it offers.
const COMPLETE: &str = "COMPLETE";

/// Adds to `script` what a shell needs to complete the commands of `stasis`, and the names that a
/// machine knows: for those, `stasis` is asked.
///
/// # Errors
///
/// Nothing is known of this shell.
pub fn completions(shell: Shell, script: &mut Vec<u8>) -> Result<()> {
    let shells = Shells::builtins();
    let of_shell =
        shells.completer(&shell.to_string()).context("nothing is known of this shell")?;
    of_shell.write_registration(COMPLETE, "stasis", "stasis", "stasis", script)?;
    if shell == Shell::Bash {
        script.extend_from_slice(include_bytes!("completion.bash"));
    }
    Ok(())
}

/// Runs `stasis`, and returns the exit code of its process.
pub fn main() -> ExitCode {
    CompleteEnv::with_factory(command).var(COMPLETE).complete();
    report::exit(match parse::<Tool>().command {
        Own::Shared(command) => command.run(&NoCheckout),
        Own::Completions { shell } => {
            let mut script = Vec::new();
            completions(shell, &mut script)
                .and_then(|()| report::print(|out| out.write_all(&script)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_a_good_list() {
        Tool::command().debug_assert();
    }

    #[test]
    fn a_mistyped_word_is_answered_with_the_nearest() {
        for (words, near) in [
            (&["stasis", "chekpoint"][..], "a similar subcommand exists: 'checkpoint'"),
            (&["stasis", "checkpoint", "lst", "disk"], "a similar subcommand exists: 'list'"),
            (&["stasis", "disk", "it", "--szie", "1G"], "a similar argument exists: '--size'"),
        ] {
            let error = likeliest(Tool::try_parse_from(words).unwrap_err()).to_string();
            assert!(error.contains(near), "{error}");
        }
    }
}
