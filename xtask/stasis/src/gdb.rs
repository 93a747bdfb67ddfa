//! `stasis gdb`: a debugger on a guest in a checkpoint.
//!
//! [`checkpoint`] is the guest as `stasis_debug` wants it, [`listen`] waits for a debugger, or starts one, and [`serve`] carries bytes between both.

mod checkpoint;
mod listen;
mod serve;

use anyhow::Result;
use clap::Args;

use self::listen::Listen;

/// The text behind the command's help.
pub const DETAILS: &str = "\
CHECKPOINT is a file, or DISK WHICH. Without --listen, gdb-multiarch is started, or what --debugger names; what stands
behind -- goes to it, such as the program with the guest's symbols. Of a Linux that was stored, its functions have names.

With --listen, connect a debugger yourself: `target remote HOST:PORT` or `target remote PATH`. lldb: `gdb-remote PORT`.";

/// What the command takes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// A checkpoint: FILE, or DISK WHICH
    #[arg(num_args = 1..=2, required = true, value_name = "CHECKPOINT")]
    words: Vec<String>,
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

/// Runs the command until the debugger leaves.
///
/// # Errors
///
/// The checkpoint can't be read, nobody can listen there, or there is no debugger.
pub fn main(arguments: Arguments) -> Result<()> {
    let Arguments { words, listen, debugger, arguments } = arguments;
    let mut loaded = crate::checkpoint::only(&words)?;
    checkpoint::with(&mut loaded, |machine, symbols| match listen {
        Some(listen) => listen.serve(machine),
        None => listen::start(&debugger, &arguments, symbols, machine),
    })
}
