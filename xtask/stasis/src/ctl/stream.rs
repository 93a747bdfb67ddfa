//! [`Carried`]: a stream of the machine's as this process's standard input and output. `stasis ctl stream` is that, for `gdb`'s `target remote |` and for scripts.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use stasis_client::{Client, Error, Message, Status};

use super::coded;
use crate::console::keys::Keys;

/// Carries bytes to and fro until the machine ends the stream.
pub(super) fn main(mut client: Client, name: &str) -> Result<()> {
    let id = client.open(name).map_err(coded)?;
    Carried::new(id, None).run(&mut client).map(drop)
}

/// How a stream has come to its end.
pub enum Outcome {
    /// The machine has ended it.
    Ended,
    /// The person has left it, or nobody reads what comes.
    Left,
}

/// A stream, and what is on its way to the machine.
pub struct Carried {
    id: u16,
    /// The keys of a person, who can leave; `None` where the input is no terminal.
    keys: Option<Keys>,
    pending: Vec<u8>,
    has_input: bool,
    is_ended: bool,
    has_left: bool,
    /// The file that gets what comes, too.
    log: Option<File>,
}

impl Carried {
    /// Returns a stream that was opened, at its beginning.
    pub fn new(id: u16, keys: Option<Keys>) -> Self {
        let (has_input, is_ended, has_left) = (true, false, false);
        Self { id, keys, pending: Vec::new(), has_input, is_ended, has_left, log: None }
    }

    /// Adds what comes to a file, too, if there is one.
    pub fn logged(self, log: Option<File>) -> Self {
        Self { log, ..self }
    }

    /// Carries bytes between the stream and this process's input and output, until one side ends
    /// the stream.
    ///
    /// # Errors
    ///
    /// The session is lost, or the machine has ended the stream with an error.
    pub fn run(self, client: &mut Client) -> Result<Outcome> {
        // The standard library's have buffers, of which poll does not know.
        let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        self.run_between(client, input, output)
    }

    /// Carries bytes between the stream and two files, as [`Self::run`] does.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::run`].
    pub fn run_between(
        mut self,
        client: &mut Client,
        mut input: File,
        mut output: File,
    ) -> Result<Outcome> {
        loop {
            let has_come = self.wait(client, &input)?;
            if has_come {
                self.take_input(&mut input)?;
            }
            if self.has_left {
                return Ok(Outcome::Left);
            }
            self.send(client)?;
            while let Some(message) = client.next(Some(Instant::now())).map_err(coded)? {
                if let Some(outcome) = self.take(message, &mut output)? {
                    return Ok(outcome);
                }
            }
            if client.has_vanished(self.id) {
                // The stream's end would have come before the pong.
                return Err(coded(Error::Damaged));
            }
        }
    }

    /// Waits for either side, at most a second, after which the machine is asked whether it is
    /// there. Returns whether there is input, and it is wanted.
    fn wait(&self, client: &Client, input: &File) -> Result<bool> {
        const SECOND: u16 = 1000;
        // A person is always listened to.
        let wants = self.has_input && (self.keys.is_some() || self.pending.is_empty());
        let fds = wants.then(|| input.as_fd()).into_iter().chain(client.fds());
        let mut waiting: Vec<PollFd> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut waiting, PollTimeout::from(SECOND)) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(false),
            Err(errno) => return Err(errno).context("cannot wait for input"),
        }
        Ok(wants && waiting[0].any() == Some(true))
    }

    fn take_input(&mut self, input: &mut File) -> Result<()> {
        let mut bytes = [0; 4096];
        let count = input.read(&mut bytes).context("cannot read the input")?;
        self.has_input = count > 0;
        match &mut self.keys {
            None => self.pending.extend_from_slice(&bytes[..count]),
            Some(keys) => {
                let leaves =
                    keys.take(&bytes[..count], &mut self.pending, |key| key == b'x', |x| *x);
                self.has_left = count == 0 || leaves.contains(&true);
            }
        }
        Ok(())
    }

    /// Sends what has come, as far as the machine has room.
    fn send(&mut self, client: &mut Client) -> Result<()> {
        let sent = client.write(self.id, &self.pending).map_err(coded)?;
        self.pending.drain(..sent);
        if !self.has_input && self.pending.is_empty() && !self.is_ended {
            self.is_ended = true;
            client.end(self.id).map_err(coded)?;
        }
        Ok(())
    }

    /// Takes a message of the machine's. Returns how the stream has ended, if it has.
    fn take(&mut self, message: Message, output: &mut File) -> Result<Option<Outcome>> {
        match message {
            Message::Data { id, bytes } if id == self.id => {
                if let Some(log) = &mut self.log {
                    log.write_all(&bytes).context("cannot write what the guest sends")?;
                }
                let is_read = output.write_all(&bytes).is_ok();
                Ok((!is_read).then_some(Outcome::Left))
            }
            Message::Done { id, status, why } if id == self.id => match status {
                Status::Done => Ok(Some(Outcome::Ended)),
                _ => Err(coded(Error::Refused { status, why })),
            },
            _ => Ok(None),
        }
    }
}
