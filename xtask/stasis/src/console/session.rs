//! [`Session`]: carries bytes between a person and a machine until one of them, or a signal, ends it.
//!
//! Nothing in here waits but for `poll`, which waits for all at once: a machine that takes nothing
//! keeps nobody from leaving, and one that prints without end waits for the terminal.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Stdin, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::keys::Keys;
use stasis_client::target::Line;
use stasis_client::terminal::Settings;

/// Bytes that are read or written at once. A pipe that can take anything takes as many (PIPE_BUF,
/// pipe(7)).
const PIECE: usize = 4096;
/// Bytes for the machine from which on no more are read of what is no terminal. A person is always
/// listened to.
const ENOUGH: usize = 1 << 16;

const HELP: &str = "\r\n[Ctrl-A X: leave; Ctrl-A B: send a break; Ctrl-A Ctrl-A: send Ctrl-A]\r\n";
const NO_BREAK: &str = "\r\n[no break: a socket has none]\r\n";

/// What a person wants of this command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To leave.
    Leave,
    /// To send a break.
    Break,
    /// To see the keys.
    Help,
}

impl Wish {
    /// Returns what a key behind Ctrl-A means. One that means nothing is likely one that a person
    /// looks for.
    pub(super) fn of(key: u8) -> Self {
        match key {
            b'x' => Self::Leave,
            b'b' => Self::Break,
            _ => Self::Help,
        }
    }

    /// Returns whether no key counts any more.
    pub(super) fn is_last(&self) -> bool {
        *self == Self::Leave
    }
}

/// Why a session has ended.
#[derive(Debug)]
pub(super) enum End {
    /// The person has left.
    Left,
    /// Nobody reads what is printed.
    Unheard,
    /// A signal told this process to end.
    Signal(Signal),
    /// The machine has closed the connection.
    Closed,
    /// The connection is lost.
    Lost(io::Error),
}

/// Blocks the signals that end this process, or continue it, and returns where they arrive instead.
pub(super) fn signals() -> io::Result<SignalFd> {
    let set: SigSet =
        [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGCONT]
            .into_iter()
            .collect();
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// A person or a program, and a machine.
pub(super) struct Session<'s> {
    line: &'s Line,
    signals: &'s SignalFd,
    /// The person's terminal; `None` for a program.
    terminal: Option<&'s Settings<Stdin>>,
    keys: Keys,
    input: File,
    /// There may be more input.
    has_input: bool,
    output: File,
    for_machine: Vec<u8>,
    for_person: Vec<u8>,
}

/// What can be done without waiting.
#[derive(Default)]
struct Ready {
    signal: bool,
    input: bool,
    print: bool,
    is_unheard: bool,
    receive: bool,
    send: bool,
}

impl<'s> Session<'s> {
    /// Returns the session between a line and this process's input and output. Input that is no
    /// terminal goes to the machine as it is. Fails if there are no more file descriptors.
    pub(super) fn new(
        line: &'s Line,
        signals: &'s SignalFd,
        terminal: Option<&'s Settings<Stdin>>,
    ) -> io::Result<Self> {
        // The standard library's have buffers, which poll does not know of.
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        let output = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self {
            line,
            signals,
            terminal,
            keys: Keys::default(),
            input: input.into(),
            has_input: true,
            output: output.into(),
            for_machine: Vec::new(),
            for_person: Vec::new(),
        })
    }

    /// Carries bytes until something ends the session. Fails if it can't be waited for.
    pub(super) fn run(mut self) -> io::Result<End> {
        loop {
            let ready = self.wait()?;
            if let Some(end) = self.step(&ready) {
                return Ok(end);
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        const GONE: PollFlags = PollFlags::POLLHUP.union(PollFlags::POLLERR);
        let (read, write) = (PollFlags::POLLIN | GONE, PollFlags::POLLOUT | GONE);
        let mut line = PollFlags::empty();
        line.set(PollFlags::POLLIN, self.for_person.is_empty());
        line.set(PollFlags::POLLOUT, !self.for_machine.is_empty());
        let takes = self.terminal.is_some() || self.for_machine.len() < ENOUGH;
        let print =
            if self.for_person.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };

        let mut waiting = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.output.as_fd(), print),
        ];
        // A line that is gone is ready at once, whatever it is asked for.
        let line_at = (!line.is_empty()).then(|| {
            waiting.push(PollFd::new(self.line.file().as_fd(), line));
            waiting.len() - 1
        });
        let input_at = (self.has_input && takes).then(|| {
            waiting.push(PollFd::new(self.input.as_fd(), PollFlags::POLLIN));
            waiting.len() - 1
        });
        match poll(&mut waiting, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => return Ok(Ready::default()),
            polled => polled?,
        };
        let has = |at: Option<usize>, flags: PollFlags| {
            let found = at.and_then(|at| waiting[at].revents());
            found.is_some_and(|found| found.intersects(flags))
        };
        Ok(Ready {
            signal: has(Some(0), read),
            is_unheard: has(Some(1), GONE),
            print: has(Some(1), PollFlags::POLLOUT),
            receive: line.contains(PollFlags::POLLIN) && has(line_at, read),
            send: line.contains(PollFlags::POLLOUT) && has(line_at, write),
            input: has(input_at, read),
        })
    }

    /// Does what can be done without waiting. Returns why the session has ended, if it has.
    fn step(&mut self, ready: &Ready) -> Option<End> {
        if ready.signal
            && let Some(end) = self.take_signal()
        {
            return Some(end);
        }
        if ready.is_unheard {
            return Some(End::Unheard);
        }
        let result = [
            (ready.print, Self::print as fn(&mut Self) -> Option<End>),
            (ready.receive, Self::receive),
            (ready.input, Self::take_input),
            (ready.send, Self::send),
        ];
        result.into_iter().filter(|(ready, _)| *ready).find_map(|(_, step)| step(self))
    }

    fn take_signal(&mut self) -> Option<End> {
        let info = self.signals.read_signal().ok()??;
        match Signal::try_from(info.ssi_signo as i32).ok()? {
            Signal::SIGCONT => {
                // A terminal that is gone sends SIGHUP, which ends the session.
                let _ = self.terminal.map(Settings::apply);
                None
            }
            signal => Some(End::Signal(signal)),
        }
    }

    fn print(&mut self) -> Option<End> {
        let piece = &self.for_person[..self.for_person.len().min(PIECE)];
        match self.output.write(piece) {
            Ok(count) => drop(self.for_person.drain(..count)),
            Err(error) if is_later(&error) => {}
            Err(_) => return Some(End::Unheard),
        }
        None
    }

    fn receive(&mut self) -> Option<End> {
        let mut piece = [0; PIECE];
        match self.line.file().read(&mut piece) {
            Ok(0) => return Some(End::Closed),
            Ok(count) => self.for_person.extend_from_slice(&piece[..count]),
            Err(error) if is_later(&error) => {}
            Err(error) => return Some(End::Lost(error)),
        }
        None
    }

    fn send(&mut self) -> Option<End> {
        match self.line.file().write(&self.for_machine) {
            Ok(count) => drop(self.for_machine.drain(..count)),
            Err(error) if is_later(&error) => {}
            Err(error) => return Some(End::Lost(error)),
        }
        None
    }

    fn take_input(&mut self) -> Option<End> {
        let mut piece = [0; PIECE];
        let count = match self.input.read(&mut piece) {
            Err(error) if is_later(&error) => return None,
            // A terminal that is gone.
            Err(_) => 0,
            Ok(count) => count,
        };
        self.has_input = count > 0;
        let typed = &piece[..count];
        if self.terminal.is_none() {
            self.for_machine.extend_from_slice(typed);
            return None;
        }
        if count == 0 {
            return Some(End::Left);
        }
        let wishes = self.keys.take(typed, &mut self.for_machine, Wish::of, Wish::is_last);
        wishes.into_iter().find_map(|wish| self.fulfil(wish))
    }

    fn fulfil(&mut self, wish: Wish) -> Option<End> {
        match wish {
            Wish::Leave => return Some(End::Left),
            Wish::Help => self.for_person.extend_from_slice(HELP.as_bytes()),
            Wish::Break => match self.line.send_break() {
                Ok(true) => {}
                Ok(false) => self.for_person.extend_from_slice(NO_BREAK.as_bytes()),
                Err(error) => return Some(End::Lost(error)),
            },
        }
        None
    }
}

/// Returns whether an error says that there is nothing to do now.
fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
