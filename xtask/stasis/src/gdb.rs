//! `stasis gdb`: a debugger on a guest of a machine that runs, or in a checkpoint.
//!
//! [`listen`] waits for a debugger, or starts one. Of a machine, its packets go through the
//! [channel](crate::ctl) as they are, and EL2 answers them. A guest in a [`checkpoint`] is answered
//! for here, by [`serve`].

mod checkpoint;
mod listen;
mod serve;

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use nix::sys::signal::Signal;
use stasis_client::Options;

use self::listen::{Debugger, Listen};
use crate::ctl::stream::Carried;
use crate::ctl::{Address, coded};
use crate::report::Coded;

/// The text behind the command's help.
pub const DETAILS: &str = "\
With --to, or where STASIS_TO or a `stasis connect` says where the machine is and there is no such file, the guest of a machine that runs is debugged,
and goes on when the debugger leaves. Else it is in a CHECKPOINT, which is a file, or DISK WHICH, and nothing can be changed.

Without --listen, gdb-multiarch is started, or what --debugger names; what stands behind -- goes to it, such as the program with the guest's symbols.
Of a Linux in a checkpoint, functions have names without one. With --listen, connect a debugger yourself: `target remote HOST:PORT` or `target remote
PATH`. lldb: `gdb-remote PORT`.";

/// What the command takes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The name or the number of a guest of a machine; or a checkpoint: FILE, or DISK WHICH
    #[arg(num_args = 1..=2, required = true, value_name = "GUEST|CHECKPOINT")]
    words: Vec<String>,
    #[command(flatten)]
    machine: Address,
    #[command(flatten)]
    debugger: Choice,
}

/// Which debugger is used, and how it comes.
#[derive(Args, Debug)]
struct Choice {
    /// Where a debugger connects, in the place of one that is started
    #[arg(long, value_name = "tcp:HOST:PORT|unix:PATH|stdio")]
    listen: Option<Listen>,
    /// The debugger that is started
    #[arg(long, value_name = "PROGRAM", default_value = "gdb-multiarch")]
    debugger: String,
    /// What the debugger is given besides
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

impl Choice {
    /// Returns the debugger, which has connected. `symbols` is given to one that is started without
    /// a file.
    fn connect(&self, symbols: Option<&Path>) -> Result<Debugger> {
        match &self.listen {
            Some(listen) => listen.accept(),
            None => listen::start(&self.debugger, &self.arguments, symbols),
        }
    }
}

/// Runs the command until the debugger leaves.
///
/// # Errors
///
/// The checkpoint can't be read, the machine or the guest is not there, nobody can listen there, or
/// there is no debugger.
pub fn main(arguments: Arguments) -> Result<()> {
    let Arguments { words, machine, debugger } = arguments;
    match &words[..] {
        [guest] if machine.to.is_some() || is_guest(guest, &machine) => {
            return on_machine(guest, &machine, &debugger);
        }
        _ if machine.to.is_some() => bail!("with --to, one guest is named: {}", words.join(" ")),
        _ => {}
    }
    let mut loaded = crate::checkpoint::only(&words)?;
    checkpoint::with(&mut loaded, |stored, symbols| {
        let mut connected = debugger.connect(symbols)?;
        let served = serve::serve(stored, &mut connected.input, &mut connected.output);
        let ended = connected.wait();
        served.and(ended)
    })
}

/// Returns whether a word that no file has as its name is a guest's of a machine that the
/// environment, or a `stasis connect` that runs, says.
fn is_guest(word: &str, machine: &Address) -> bool {
    !Path::new(word).exists() && machine.target().is_ok()
}

/// The exit code of what was given up.
const GIVEN_UP: u8 = 6;

/// Lets a debugger talk with a machine until one of them ends it.
fn on_machine(guest: &str, machine: &Address, debugger: &Choice) -> Result<()> {
    // Ask the machine first: a debugger that starts, and has nobody to talk with, says less.
    // Signals stay as they are until the debugger has started, which inherits them.
    let mut client = machine.session(Options::default())?;
    let Debugger { input, output, child } = debugger.connect(None)?;
    // Ctrl-C is a debugger's that has this terminal.
    let ending = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT];
    client.catch(&ending[..if child.is_some() { 2 } else { 3 }]).map_err(coded)?;
    let id = client.open(&format!("gdb {guest}")).map_err(coded)?;
    let carried = Carried::new(id, None).run_between(&mut client, input, output).map(drop);
    // The machine is told now, whatever a debugger does that has nobody to talk with.
    drop(client);
    let Some(child) = child else { return carried };
    let ended = match &carried {
        Err(error) if Coded::of(error) == Some(GIVEN_UP) => listen::end(child),
        _ => listen::wait(child),
    };
    carried.and(ended)
}
