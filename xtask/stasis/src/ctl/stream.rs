//! `stasis ctl stream`: a stream of the machine's as this process's standard input and output, for `gdb`'s `target remote |` and for scripts.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use stasis_client::{Client, Error, Message, Status};

use super::{Address, coded};

/// Carries bytes to and fro until the machine ends the stream.
pub(super) fn main(address: &Address, name: &str) -> Result<()> {
    let mut client = address.connect(false)?;
    let id = client.open(name).map_err(coded)?;
    let mut input = std::fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut carried = Carried { pending: Vec::new(), has_input: true, is_ended: false };
    loop {
        carried.wait(&client, &input, id)?;
        carried.send(&mut client, &mut input, id)?;
        while let Some(message) = client.next(Some(Instant::now())).map_err(coded)? {
            match message {
                Message::Data { id: of, bytes } if of == id => {
                    let mut out = io::stdout();
                    if out.write_all(&bytes).and_then(|()| out.flush()).is_err() {
                        return Ok(());
                    }
                }
                Message::Done { id: of, status: Status::Done, .. } if of == id => return Ok(()),
                Message::Done { id: of, status, why } if of == id => {
                    return Err(coded(Error::Refused { status, why }));
                }
                _ => {}
            }
        }
    }
}

/// What is on its way to the machine.
struct Carried {
    pending: Vec<u8>,
    has_input: bool,
    is_ended: bool,
}

impl Carried {
    /// Waits for either side, at most a second, after which the machine is asked whether it is there.
    fn wait(&self, client: &Client, input: &std::fs::File, id: u16) -> Result<()> {
        let mut waiting = vec![PollFd::new(client.as_fd(), PollFlags::POLLIN)];
        if self.has_input && self.pending.is_empty() && client.room(id) > 0 {
            waiting.push(PollFd::new(input.as_fd(), PollFlags::POLLIN));
        }
        let second = PollTimeout::try_from(Duration::from_secs(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut waiting, second) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno).context("cannot wait for input"),
        }
    }

    /// Sends what has come, as far as the machine has room.
    fn send(&mut self, client: &mut Client, input: &mut std::fs::File, id: u16) -> Result<()> {
        let ready = {
            let mut waiting = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
            self.has_input && matches!(poll(&mut waiting, PollTimeout::ZERO), Ok(1))
        };
        if ready && self.pending.is_empty() && client.room(id) > 0 {
            let mut bytes = [0; 4096];
            let count = input.read(&mut bytes).context("cannot read the input")?;
            self.has_input = count > 0;
            self.pending.extend_from_slice(&bytes[..count]);
        }
        let sent = client.write(id, &self.pending).map_err(coded)?;
        self.pending.drain(..sent);
        if !self.has_input && self.pending.is_empty() && !self.is_ended {
            self.is_ended = true;
            client.end(id).map_err(coded)?;
        }
        Ok(())
    }
}
