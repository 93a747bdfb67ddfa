//! [`Wire`]: frames on an open line, as they come and go, without waiting.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags};
use stasis_channel::{Frame, Kind, Reader};

use crate::Error;
use crate::target::Line;

/// A line, and what of it is not whole yet.
#[derive(Debug)]
pub(crate) struct Wire {
    line: Line,
    reader: Reader,
    /// What was not sent yet.
    unsent: VecDeque<u8>,
}

impl Wire {
    /// Returns the frames of a line.
    pub(crate) fn new(line: Line) -> Self {
        Self { line, reader: Reader::new(), unsent: VecDeque::new() }
    }

    /// Sends a frame, or as much of it as the line takes now.
    pub(crate) fn send(&mut self, kind: Kind, id: u16, payload: &[u8]) -> Result<(), Error> {
        let unsent = &mut self.unsent;
        Frame { kind, id, payload }.write(&mut |bytes| unsent.extend(bytes));
        self.flush()
    }

    /// Sends bytes that are no frame, with the next one.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.unsent.extend(bytes);
    }

    /// Returns how many bytes wait for the line to take them.
    pub(crate) fn waiting(&self) -> usize {
        self.unsent.len()
    }

    /// Returns what is waited for of the line: bytes that come, and room for what waits.
    pub(crate) fn polled(&self) -> PollFd<'_> {
        let mut flags = PollFlags::POLLIN;
        flags.set(PollFlags::POLLOUT, self.waiting() > 0);
        PollFd::new(self.as_fd(), flags)
    }

    /// Sends what waits, as much as the line takes now.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        while !self.unsent.is_empty() {
            match self.line.file().write(self.unsent.as_slices().0) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_closed(error.kind()) => return Err(Error::Closed),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Returns all frames that have come: their kinds, ids and payloads. What comes before the line
    /// is lost is returned first.
    pub(crate) fn receive(&mut self) -> Result<Vec<(Kind, u16, Vec<u8>)>, Error> {
        let mut frames = Vec::new();
        match self.flush().and_then(|()| self.read(&mut frames)) {
            Err(error) if frames.is_empty() => Err(error),
            _ => Ok(frames),
        }
    }

    fn read(&mut self, frames: &mut Vec<(Kind, u16, Vec<u8>)>) -> Result<(), Error> {
        let mut bytes = [0; 4096];
        loop {
            let count = match self.line.file().read(&mut bytes) {
                Ok(0) => return Err(Error::Closed),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if is_closed(error.kind()) => return Err(Error::Closed),
                Err(error) => return Err(error.into()),
            };
            for byte in &bytes[..count] {
                if let Some(Ok(Frame { kind, id, payload })) = self.reader.push(*byte) {
                    frames.push((kind, id, payload.to_vec()));
                }
            }
        }
    }
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.file().as_fd()
    }
}
