//! Streams: bytes in both directions between a client and something on the machine, which is an
//! [`Endpoint`]. [`open`] finds it.

use super::attach::Attach;
use super::endpoint::{Endpoint, Step};
use super::gather::Put;
use super::transfer::Get;
use crate::console::find::find;
use crate::debug;
use alloc::boxed::Box;
use stasis_channel::message::Status;
use stasis_channel::pipe::Pipe;
use stasis_channel::stream::{NoStream, StreamName};
use stasis_console::command::CommandError;
use stasis_run::turns::Task;

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// No stream is called so.
    #[error(transparent)]
    NoStream(#[from] NoStream),
    /// There is no such guest.
    #[error(transparent)]
    NoGuest(#[from] CommandError),
}

impl NotOpened {
    /// Returns how the stream ends for the client.
    pub fn status(&self) -> Status {
        match self {
            Self::NoStream(_) => Status::Mistyped,
            Self::NoGuest(_) => Status::Failed,
        }
    }
}

/// Opens a stream.
///
/// # Errors
///
/// [`NotOpened`]: there is no such guest. A checkpoint is looked up later.
pub fn open(name: StreamName<'_>) -> Result<Box<dyn Endpoint>, NotOpened> {
    Ok(match name {
        StreamName::Attach { guest, is_terminal: false } => Box::new(Attach::to_uart(find(guest)?)),
        StreamName::Attach { guest, is_terminal: true } => {
            Box::new(Attach::to_terminal(find(guest)?))
        }
        StreamName::Gdb { guest } => debug::open(find(guest)?),
        StreamName::Get { checkpoint } => Box::new(Get::new(checkpoint)),
        StreamName::Put { name, length } => Box::new(Put::new(name, length)),
        StreamName::Echo => Box::new(Echo),
    })
}

/// Sends back what comes: for tests of a line.
struct Echo;

impl Endpoint for Echo {
    fn step(&mut self, _: &mut Task, pipe: &mut Pipe) -> Step {
        while pipe.room() > 0
            && let Some(byte) = pipe.read()
        {
            pipe.write(&[byte]);
        }
        match pipe.is_at_end() {
            true => Step::Ended(Ok(())),
            false => Step::Waits,
        }
    }
}
