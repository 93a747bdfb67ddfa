//! `stasis ctl`: a command for a machine that runs, by its channel for programs
//! (`docs/channel.md`).
//!
//! All that the console takes is sent as it is ([`ask`]). What needs more than an answer has its
//! own module: [`wait`], [`events`], [`outputs`], [`transfer`], [`stream`].

mod ask;
pub mod attach;
mod bar;
pub mod connect;
pub(crate) mod environment;
mod events;
pub(crate) mod options;
mod outputs;
pub(crate) mod stream;
mod transfer;
mod wait;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use stasis_client::target::{DEFAULT_BAUD, baud_from};
use stasis_client::{Client, Error, Options, Target};

use crate::names;
use crate::report::{Coded, mistyped};

/// The text behind the command's help.
pub const DETAILS: &str = "\
COMMAND is one of the console's, such as guests, top, checkpoint linux, or one of these:
  wait guest=NAME state=STATE    wait until a guest is off, running, ...; or event=checkpoint [guest=NAME]
  events                         show what happens, a line with an object of JSON for each event
  output FOLDER [GUEST...]       add what guests send to FOLDER/GUEST.log, until it is ended; of all if none is named
  get CHECKPOINT FILE            write a checkpoint of the machine's store to a file
  put FILE NAME                  write the checkpoint in a file into the machine's store
  stream NAME                    connect the standard input and output to a stream, such as \"gdb linux\"
`stasis ctl help` lists the console's. `cargo xtask run` says where its machine's channel is.
It ends with 0 if it is done; 1: refused, or failed; 2: mistyped; 3: nobody answers, or another tool has the channel;
4: the machine or the connection was lost in the midst; 5: the machine speaks another version; 6: given up; 7: waited too long.";

/// Where a machine's channel is.
#[derive(Args, Clone, Debug)]
pub struct Address {
    /// Where the machine's channel is; else the environment's STASIS_TO says it, or a `stasis
    /// connect` that runs
    #[arg(long, value_name = "unix:PATH|tcp:HOST:PORT|DEVICE")]
    pub to: Option<Target>,
    /// Bits per second of a serial device [default: 115200]
    #[arg(long, value_name = "N", value_parser = baud_from)]
    baud: Option<u32>,
    /// Seconds in which the machine must answer, and go on to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    patience: u64,
}

impl Address {
    /// Returns how long the machine may be silent.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.patience.max(1))
    }

    /// Returns where the machine's channel is, as `--to` says, or the environment, or a `stasis
    /// connect` that runs.
    ///
    /// # Errors
    ///
    /// Nobody says it, or it is mistyped.
    pub fn target(&self) -> Result<Target> {
        self.given()?.or_else(Target::usual).ok_or_else(|| {
            mistyped(format!(
                "where is the machine? --to unix:PATH says it, or the environment's {}, or `stasis connect unix:PATH`, which serves all tools",
                environment::TO
            ))
        })
    }

    /// Returns where the machine's channel is, as `--to` says, or the environment; `None` if
    /// neither does.
    ///
    /// # Errors
    ///
    /// The environment's is mistyped.
    pub fn given(&self) -> Result<Option<Target>> {
        match &self.to {
            Some(target) => Ok(Some(target.clone())),
            None => environment::target(),
        }
    }

    /// Connects to the channel. `events` says whether events are sent.
    ///
    /// # Errors
    ///
    /// There is no session. The error has the exit code of it.
    pub fn connect(&self, events: bool) -> Result<Client> {
        self.connect_for(events, None)
    }

    /// Connects to the channel, for a session that takes no longer than `limit`.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::connect`].
    pub fn connect_for(&self, events: bool, limit: Option<Duration>) -> Result<Client> {
        self.session(Options { events, limit, catches_signals: true, ..Options::default() })
    }

    /// Begins a session with these options, and this address's rate and patience.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::connect`].
    pub fn session(&self, options: Options) -> Result<Client> {
        let target = self.target()?;
        ensure!(self.baud.is_none() || target.is_device(), "--baud is for a serial device alone");
        let (baud, patience) = (self.baud.unwrap_or(DEFAULT_BAUD), self.patience());
        Client::connect(&target, Options { baud, patience, ..options }).map_err(coded)
    }
}

/// Returns an error of the session with the exit code that belongs to it.
pub fn coded(error: Error) -> anyhow::Error {
    let why = match &error {
        Error::TooLong => "it took longer than --timeout says, and was given up".to_owned(),
        error => error.to_string(),
    };
    Coded { code: error.exit_code(), why }.into()
}

/// What the command takes.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    address: Address,
    /// Answer with objects of JSON, one in each line
    #[arg(long)]
    json: bool,
    /// Seconds after which the command is given up
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// The command, and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, add = ArgValueCompleter::new(names::command))]
    command: Vec<String>,
}

impl Arguments {
    /// Takes the options out of the command, behind which they may stand, too: no command of the
    /// console's has one of them.
    ///
    /// # Errors
    ///
    /// An option has no value, or not a right one; or nothing is left.
    fn take_options(&mut self) -> Result<()> {
        let Self { address, timeout, command, .. } = self;
        for name in options::WITH_VALUE {
            let Some((place, value)) = options::find(name, command) else { continue };
            let wrong = || mistyped(format!("{name} has no value, or not a right one"));
            let value = value.ok_or_else(wrong)?;
            match name {
                "--to" => address.to = Some(value.parse().map_err(mistyped)?),
                "--baud" => address.baud = Some(baud_from(value).map_err(mistyped)?),
                "--timeout" => *timeout = Some(value.parse().map_err(|_| wrong())?),
                _ => address.patience = value.parse().map_err(|_| wrong())?,
            }
            command.drain(place);
        }
        let is_there = !command.is_empty();
        is_there.then_some(()).ok_or_else(|| mistyped("a command is missing".to_owned()))
    }
}

/// Returns what is wrong with a command of which the machine knows nothing: it is this tool's own,
/// with other arguments, or is another one's here.
fn wrong_words(word: &str) -> String {
    match word {
        "events" => "it is `stasis ctl events`",
        "output" => "it is `stasis ctl output FOLDER [GUEST...]`",
        "get" => "it is `stasis ctl get CHECKPOINT FILE`",
        "put" => "it is `stasis ctl put FILE NAME`",
        "attach" => "`stasis attach GUEST` is a guest's terminal",
        _ => "Ctrl-C gives up a command, where it was typed",
    }
    .to_owned()
}

/// Returns when a time is over that begins now; `None` for one that has no end, or none that can be
/// told.
pub(crate) fn end_of(time: Option<Duration>) -> Option<Instant> {
    time.and_then(|time| Instant::now().checked_add(time))
}

/// Runs the command.
///
/// # Errors
///
/// There is no session, it is lost, or the machine has refused the command.
pub fn main(mut arguments: Arguments) -> Result<()> {
    arguments.take_options()?;
    let Arguments { address, json, timeout, command } = arguments;
    let timeout = timeout.map(Duration::from_secs);
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    match words[..] {
        ["wait", ref conditions @ ..] => wait::main(&address, conditions, timeout),
        ["events"] => events::main(&address, timeout),
        ["output", folder, ref guests @ ..] => {
            outputs::main(&address, Path::new(folder), guests, timeout)
        }
        ["get", which, file] => {
            transfer::get(address.connect_for(false, timeout)?, which, Path::new(file))
        }
        ["put", file, name] => transfer::put(&address, timeout, Path::new(file), name),
        ["stream", ref name @ ..] => {
            stream::main(address.connect_for(false, timeout)?, &name.join(" "))
        }
        [word @ ("events" | "output" | "get" | "put" | "attach" | "cancel"), ..] => {
            Err(mistyped(wrong_words(word)))
        }
        _ => ask::main(&address, &words.join(" "), json, timeout),
    }
}
