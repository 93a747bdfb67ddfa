//! `stasis console`: a terminal on a machine's console, through a socket of QEMU's or a serial
//! device.
//!
//! [`Line`] is the line, [`Settings`] are a terminal's settings for a while, [`keys`] finds what is
//! meant for this command among what is typed, and [`session`] carries bytes to and fro.

pub mod keys;
mod session;

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use self::session::{End, Session};
use crate::report;
use stasis_client::target::{self, DEFAULT_BAUD, Line, Target};
pub use stasis_client::terminal;
use stasis_client::terminal::Settings;

/// The text behind the command's help.
pub const DETAILS: &str = "\
QEMU listens with -display none -serial unix:PATH,server=on,wait=off, or tcp:HOST:PORT in the place of unix:PATH. A
DEVICE, such as /dev/ttyUSB0, has 8 bits, no parity, one stop bit and no flow control.

All keys go to the machine, but for those behind Ctrl-A, as in QEMU:
  Ctrl-A X       ends this command; the machine goes on
  Ctrl-A B       sends a break through a serial device
  Ctrl-A Ctrl-A  sends one Ctrl-A
  Ctrl-A H       shows these keys
Ctrl-] is Stasis's own: it leads from a guest back to Stasis. Where the input is no terminal, all of it goes to the
machine, and its end ends nothing.";

/// What the command takes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Where the machine's console is
    #[arg(value_name = "unix:PATH|tcp:HOST:PORT|DEVICE")]
    target: Target,
    /// Bits per second of a serial device [default: 115200]
    #[arg(long, value_name = "N", value_parser = target::baud_from)]
    baud: Option<u32>,
}

/// Runs the command. Whatever ends it, the terminal has its settings again.
///
/// # Errors
///
/// The line can't be opened, is lost, or a signal ends the command.
pub fn main(arguments: Arguments) -> Result<()> {
    let Arguments { target, baud } = arguments;
    ensure!(baud.is_none() || target.is_device(), "--baud is for a serial device alone");
    let line = Line::open(&target, baud.unwrap_or(DEFAULT_BAUD))?;
    let signals = session::signals().context("cannot wait for signals")?;
    let end = if io::stdin().is_terminal() {
        report::step(format_args!("connected to {target}; Ctrl-A X leaves it"));
        let terminal =
            Settings::raw(io::stdin()).context("cannot give the terminal its settings")?;
        let end = Session::new(&line, &signals, Some(&terminal)).and_then(Session::run);
        drop(terminal);
        // What comes next is not to stand behind what the machine has printed. Nothing depends on
        // it.
        let _ = io::stderr().write_all(b"\n");
        end
    } else {
        Session::new(&line, &signals, None).and_then(Session::run)
    };
    match end.context("cannot wait for the machine")? {
        End::Left | End::Unheard => Ok(()),
        End::Signal(signal) => bail!("ended by {signal}"),
        End::Closed => bail!("the connection to {target} was closed by the machine"),
        End::Lost(error) => Err(error).context(format!("the connection to {target} is lost")),
    }
}
