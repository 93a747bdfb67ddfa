//! The stream `put NAME BYTES`, which brings a checkpoint: [`Put`] gathers it in memory that nobody
//! would miss, so that nobody waits for the client. [`super::transfer::receive`] writes it into the
//! store when all of it is there.

use super::endpoint::{Endpoint, Step};
use super::transfer::{self, TransferError};
use crate::spare;
use crate::work::Work;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use stasis_arch::timer;
use stasis_channel::patience::Patience;
use stasis_channel::pipe::Pipe;
use stasis_memory::{ReadRam, WriteRam};
use stasis_run::domain::Ram;

/// The stream `put`.
pub struct Put {
    name: String,
    length: u64,
    gathered: Gathered,
}

/// What was gathered of a checkpoint.
enum Gathered {
    /// Nothing: the stream was not looked at.
    Unbegun,
    /// The bytes that have come. The client is waited for since the counter read `since`.
    Coming { ram: Ram, count: u64, patience: Patience, since: u64 },
    /// All bytes, of which so many were read.
    All { ram: Ram, read: u64 },
    /// Nothing, for want of memory: what comes is taken from the pipe as it is written.
    Nowhere,
}

impl Put {
    /// Returns the stream of a checkpoint of this name and length.
    pub fn new(name: &str, length: u64) -> Self {
        Self { name: name.to_string(), length, gathered: Gathered::Unbegun }
    }

    /// Checks that the store can have the checkpoint, and takes memory for it.
    fn begin(&mut self, work: &mut Work) -> Result<(), TransferError> {
        // Otherwise the client would hear it only when all has come.
        transfer::check_room(work, &self.name, self.length)?;
        self.gathered = match spare::take(self.length) {
            None => Gathered::Nowhere,
            Some(ram) => {
                let (patience, since) = (transfer::patience(), timer::counter());
                Gathered::Coming { ram, count: 0, patience, since }
            }
        };
        Ok(())
    }

    /// Gathers what has come. Returns whether that is all.
    fn gather(&mut self, pipe: &mut Pipe) -> Result<bool, TransferError> {
        let Gathered::Coming { ram, count, patience, since } = &mut self.gathered else {
            return Ok(true);
        };
        let now = timer::counter();
        patience.waited(now - core::mem::replace(since, now));
        let most = (self.length - *count).min(pipe.waiting() as u64);
        let mut bytes = vec![0; most as usize];
        let came = pipe.read_some(&mut bytes);
        ram.write(*count as usize, &bytes[..came]).expect("the memory has room for all");
        *count += came as u64;
        patience.came(came as u64);
        let left = self.length - *count;
        match () {
            () if left == 0 => {
                let ram = core::mem::replace(ram, Ram::none());
                self.gathered = Gathered::All { ram, read: 0 };
                Ok(true)
            }
            () if pipe.is_at_end() => Err(TransferError::Short(left)),
            () if came == 0 && patience.is_over() => Err(TransferError::Silent),
            () => Ok(false),
        }
    }
}

impl Endpoint for Put {
    fn work(&mut self, work: &mut Work, pipe: &mut Pipe) -> Step {
        let begun = match self.gathered {
            Gathered::Unbegun => self.begin(work),
            _ => Ok(()),
        };
        match begun.and_then(|()| self.gather(pipe)) {
            Ok(true) => Step::Ready,
            Ok(false) => Step::Soon,
            Err(error) => Step::Ended(Err(Arc::new(error))),
        }
    }

    fn gathered(&mut self, into: &mut [u8]) -> Option<(usize, bool)> {
        let Gathered::All { ram, read } = &mut self.gathered else { return None };
        let count = into.len().min((self.length - *read) as usize);
        ram.read(*read as usize, &mut into[..count]).expect("all of it is there");
        *read += count as u64;
        Some((count, *read == self.length))
    }
}
