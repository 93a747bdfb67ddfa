//! `stasis attach GUEST`: a terminal of a guest's, by the channel. Others may be attached to it at
//! the same time, at the console and elsewhere.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::stream::{Carried, Outcome};
use super::{Address, coded, outputs};
use crate::console::keys::Keys;
use crate::{names, report};
use stasis_client::terminal::Settings;

/// The text behind the command's help.
pub const DETAILS: &str = "\
What the guest has sent before is shown first, up to 16 KiB. All keys go to the guest, but for Ctrl-A X, which leaves it,
and Ctrl-A Ctrl-A, which sends one Ctrl-A. Where the input is no terminal, all of it goes to the guest, and its end leaves.";

/// What the command takes.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    address: Address,
    /// Stay at the guest's second terminal, which it has by `terminal = true`, and not at its UART
    #[arg(long)]
    terminal: bool,
    /// Add what the guest sends to a file, too
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The guest
    #[arg(add = ArgValueCompleter::new(names::guests))]
    guest: String,
}

/// Runs the command. Whatever ends it, the terminal has its settings again.
///
/// # Errors
///
/// There is no session, it is lost, or there is no such guest.
pub fn main(arguments: Arguments) -> Result<()> {
    let Arguments { address, terminal, log, guest } = arguments;
    let log = log.map(|path| outputs::open(&path)).transpose()?;
    let mut client = address.connect(false)?;
    let (option, what) = if terminal { (" --terminal", "the terminal of ") } else { ("", "") };
    let id = client.open(&format!("attach {guest}{option}")).map_err(coded)?;
    let is_terminal = io::stdin().is_terminal();
    let settings = match is_terminal {
        true => {
            report::step(format_args!("attached to {what}\"{guest}\"; Ctrl-A X leaves it"));
            let raw = Settings::raw(io::stdin());
            Some(raw.context("cannot give the terminal its settings")?)
        }
        false => None,
    };
    let keys = is_terminal.then(Keys::default);
    let outcome = Carried::new(id, keys).logged(log).run(&mut client);
    drop(settings);
    if is_terminal {
        // What comes next is not to stand behind what the guest has sent. Nothing depends on it.
        let _ = io::stderr().write_all(b"\n");
    }
    match outcome? {
        Outcome::Ended | Outcome::Left => Ok(()),
    }
}
