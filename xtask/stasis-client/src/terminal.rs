//! [`Settings`]: a terminal, or a serial device, has other settings until this is dropped (termios(3)).

use std::io;
use std::os::fd::AsFd;

use nix::sys::termios::{self, SetArg, Termios};

/// Settings that a terminal has for a while. When this is dropped, the terminal has those from
/// before.
#[derive(Debug)]
pub struct Settings<T: AsFd> {
    terminal: T,
    before: Termios,
    meanwhile: Termios,
}

impl<T: AsFd> Settings<T> {
    /// Makes a terminal pass each byte as it is, in both directions, at once.
    pub fn raw(terminal: T) -> io::Result<Self> {
        Self::changed(terminal, termios::cfmakeraw)
    }

    /// Changes a terminal's settings. Fails if it is no terminal.
    pub fn changed(terminal: T, change: impl FnOnce(&mut Termios)) -> io::Result<Self> {
        let before = termios::tcgetattr(&terminal)?;
        let mut meanwhile = before.clone();
        change(&mut meanwhile);
        let settings = Self { terminal, before, meanwhile };
        settings.apply()?;
        Ok(settings)
    }

    /// Gives the terminal its changed settings again: a shell may have given it others while this
    /// process was stopped.
    pub fn apply(&self) -> io::Result<()> {
        // Do not wait for what is still to be sent: nobody may take it.
        Ok(termios::tcsetattr(&self.terminal, SetArg::TCSANOW, &self.meanwhile)?)
    }

    /// Returns the terminal.
    pub fn terminal(&self) -> &T {
        &self.terminal
    }
}

impl<T: AsFd> Drop for Settings<T> {
    fn drop(&mut self) {
        // A terminal that is gone, such as an adapter that was pulled out, has no settings.
        let _ = termios::tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}
