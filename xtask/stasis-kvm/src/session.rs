//! `stasis-kvm run`: the main thread, which waits for keys, signals, the time of a device, and the
//! guest's end.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Stdin, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use stasis_devices::pl011::Character;
use stasis_tool::console::keys::Keys;
use stasis_tool::console::terminal::Settings;
use stasis_tool::output::Output;
use stasis_tool::report;

use crate::arguments::Run;
use crate::control::Ended;
use crate::disk::Disk;
use crate::image::Image;
use crate::machine::{self, Machine};
use crate::wish::{HELP, NoKey, Wish};

/// Bytes of input that are read at once.
const PIECE: usize = 1024;
/// The longest time that nobody looks at the devices, in milliseconds.
const MOST_WAIT: u64 = 60_000;

/// Runs the guest until it ends, or somebody ends it.
///
/// # Errors
///
/// The guest can't run here, or can't go on.
pub fn run(arguments: &Run) -> Result<()> {
    let signals = signals().context("cannot wait for signals")?;
    let mut image = Image::open(&arguments.checkpoint)?;
    let console = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let name = image.checkpoint.state.guest.name_text();
    let default = || format!("{name}-kvm.stasis").into();
    let out: PathBuf = arguments.out.clone().unwrap_or_else(default);
    let kvm = machine::open_kvm()?;
    // A guest that has run for a week must not hear only then that its checkpoint has no place.
    Output::create(&out).map(drop)?;
    let disks = Disk::all(&image.checkpoint.state.devices.virtio, &arguments.checkpoint, &out)?;
    let mut machine = Machine::new(&kvm, &mut image, disks, Box::new(console))?;
    // Before a person is told that the guest runs: what is typed from then on is not echoed here.
    let terminal = match io::stdin().is_terminal() {
        true => Some(Settings::raw(io::stdin()).context("cannot give the terminal its settings")?),
        false => None,
    };
    report::step(format_args!("\"{}\" runs; Ctrl-A H shows the keys", machine.name()));
    if terminal.is_some() {
        // A terminal with these settings does not return to the first column by itself. Where
        // nobody sees it, the guest runs all the same.
        let _ = io::stderr().write_all(b"\r");
    }
    machine.start()?;
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let keys = Keys::default();
    let mut session = Session { machine, signals, terminal, keys, input, has_input: true, out };
    let end = session.run();
    // The terminal has its settings again before anything else is said.
    drop(session.terminal.take());
    end
}

/// Blocks the signals that mean something here, in all threads that come, and returns where they
/// arrive instead.
fn signals() -> io::Result<SignalFd> {
    let set: SigSet =
        [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1]
            .into_iter()
            .collect();
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

struct Session {
    machine: Machine,
    signals: SignalFd,
    terminal: Option<Settings<Stdin>>,
    keys: Keys,
    input: File,
    has_input: bool,
    out: PathBuf,
}

impl Session {
    fn run(&mut self) -> Result<()> {
        loop {
            if let Some(ended) = self.machine.shared.control.ended() {
                return self.ended(ended);
            }
            let (mut moment, frequency) = (self.machine.shared.moment(), self.machine.frequency());
            let (verdict, due) = {
                let mut board = self.machine.shared.board();
                (board.tick(&mut moment), board.due(&moment, frequency))
            };
            if let Some(why) = verdict {
                return self.ended(Ended::Failed(why));
            }
            let ticks = due.saturating_sub(moment.guest_time);
            let wait = (ticks.saturating_mul(1000) / frequency).saturating_add(1).min(MOST_WAIT);
            let ready = self.wait(wait as u16)?;
            if ready.signal && self.take_signal()? || ready.input && self.take_input()? {
                return Ok(());
            }
        }
    }

    fn wait(&self, milliseconds: u16) -> Result<Ready> {
        let control = &self.machine.shared.control;
        let mut waiting = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(control.news.as_fd(), PollFlags::POLLIN),
        ];
        if self.has_input && self.machine.shared.board().has_room() {
            waiting.push(PollFd::new(self.input.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut waiting, PollTimeout::from(milliseconds)) {
            Err(nix::errno::Errno::EINTR) => return Ok(Ready::default()),
            polled => polled?,
        };
        let has = |at: usize| {
            let found = waiting.get(at).and_then(|fd| fd.revents());
            found.is_some_and(|found| !found.is_empty())
        };
        let ready = Ready { signal: has(0), input: has(2) };
        if has(1) {
            // What the news are is looked at in any case.
            let _ = control.news.read();
        }
        Ok(ready)
    }

    /// Does what a signal asks for. Returns whether that is the end.
    fn take_signal(&mut self) -> Result<bool> {
        let Some(info) = self.signals.read_signal()? else { return Ok(false) };
        match Signal::try_from(info.ssi_signo as i32)? {
            Signal::SIGUSR1 => self.fulfil(Wish::Checkpoint),
            signal => bail!("ended by {signal}"),
        }
    }

    /// Reads what was typed. Returns whether the end was asked for.
    fn take_input(&mut self) -> Result<bool> {
        let mut piece = [0; PIECE];
        // A terminal that is gone sends SIGHUP.
        let count = self.input.read(&mut piece).unwrap_or(0);
        self.has_input = count > 0;
        let mut typed = Vec::new();
        let mut wishes = Vec::new();
        match self.terminal {
            Some(_) => {
                wishes = self.keys.take(&piece[..count], &mut typed, Wish::of, Wish::is_last);
            }
            None => typed.extend_from_slice(&piece[..count]),
        }
        self.machine.shared.board().type_in(typed.into_iter().map(Character::from));
        for wish in wishes {
            if self.fulfil(wish)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn fulfil(&mut self, wish: Wish) -> Result<bool> {
        match wish {
            Wish::Checkpoint | Wish::CheckpointAndEnd => {
                let goes_on = wish == Wish::Checkpoint;
                let result = self.machine.checkpoint(&self.out, goes_on);
                let is_done = result.is_ok();
                match result {
                    Ok(bytes) => self.say(format_args!(
                        "checkpoint: {}, {}",
                        self.out.display(),
                        report::size(bytes)
                    )),
                    Err(error) => {
                        self.say(format_args!("no checkpoint: {error:#}; the guest goes on"));
                    }
                }
                return Ok(is_done && !goes_on);
            }
            Wish::End => return Ok(true),
            Wish::Break => self.machine.shared.board().type_in([Character::BREAK]),
            Wish::Help => self.say(HELP),
            Wish::Nothing(key) => self.say(NoKey(key)),
        }
        Ok(false)
    }

    fn ended(&mut self, ended: Ended) -> Result<()> {
        match ended {
            Ended::Off => self.say("the guest has switched its machine off"),
            Ended::Reset => self.say("the guest has reset its machine, which ends here"),
            Ended::Failed(why) => bail!(why),
        }
        Ok(())
    }

    /// Says something in a line of its own, whatever the guest has just printed.
    fn say(&self, what: impl std::fmt::Display) {
        let line = format!("\r\n[{what}]\r\n");
        // Where nobody hears it, the guest goes on.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// What can be done without waiting.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    signal: bool,
    input: bool,
}
