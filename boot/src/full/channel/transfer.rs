//! Checkpoints on their way: the stream `get CHECKPOINT` reads one from the store, the stream `put
//! NAME BYTES`, which [`super::gather`] gathers, writes one into it.

use super::endpoint::{Endpoint, Step};
use super::events;
use crate::answer::Answer;
use crate::storage::disk::Disk;
use crate::storage::error::{DiskError, NoStore};
use crate::stream::error::StreamError;
use crate::stream::routines::routines;
use crate::stream::{open, pause};
use crate::typed::{self, GivenUp};
use crate::work::Work;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use core::fmt::Write;
use stasis_arch::timer;
use stasis_channel::patience::Patience;
use stasis_channel::pipe::{Pipe, WINDOW};
use stasis_run::clock;
use stasis_state::Source;
use stasis_store::{Error, Store};

/// Why a checkpoint was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// There is no store.
    #[error(transparent)]
    NoStore(#[from] NoStore),
    /// The store has failed, has no room, or no such checkpoint.
    #[error(transparent)]
    Store(#[from] Error<DiskError>),
    /// The checkpoint was not read to its end.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The client has given it up, or is gone.
    #[error(transparent)]
    GivenUp(#[from] GivenUp),
    /// The client has ended the stream too early.
    #[error("the stream has ended {0} bytes too early; nothing has changed")]
    Short(u64),
    /// The client sends nothing more, or hardly anything.
    #[error("less than {LEAST} bytes have come in {SILENCE_SECONDS} s; nothing has changed")]
    Silent,
    /// What has come is no checkpoint.
    #[error("what was sent is no checkpoint: {0}")]
    NoCheckpoint(String),
}

/// Seconds in which a client must send [`LEAST`] bytes: it keeps memory, or, where there was none
/// for what it sends, everybody who gives commands.
const SILENCE_SECONDS: u64 = 30;
/// Bytes that a client must send in [`SILENCE_SECONDS`]: a line of 1200 bits a second has as many.
const LEAST: u64 = 2048;

/// The stream `get`.
pub struct Get {
    /// The checkpoint as the client has named it.
    which: String,
    /// Number of the checkpoint, once it was looked up: a name may mean another one later.
    number: Option<u64>,
    offset: u64,
}

impl Get {
    /// Returns the stream of a checkpoint, which is looked up when it is read first.
    pub fn new(which: &str) -> Self {
        Self { which: which.to_string(), number: None, offset: 0 }
    }

    /// Writes the next bytes. Returns whether more are left.
    fn go_on(&mut self, store: &mut Store<Disk>, pipe: &mut Pipe) -> Result<bool, TransferError> {
        let number = match self.number {
            Some(number) => number,
            None => store.find(&*self.which)?.number,
        };
        self.number = Some(number);
        let mut source = open(store, number)?;
        let left = source.len() - self.offset;
        let mut bytes = vec![0; left.min(pipe.room() as u64) as usize];
        source.read_at(self.offset, &mut bytes)?;
        pipe.write(&bytes);
        self.offset += bytes.len() as u64;
        Ok(bytes.len() as u64 != left)
    }
}

impl Endpoint for Get {
    fn work(&mut self, work: &mut Work, pipe: &mut Pipe) -> Step {
        // To open the checkpoint anew is worth it for many bytes only.
        if pipe.room() < WINDOW / 2 {
            return Step::Waits;
        }
        match work.with_store(|store| self.go_on(store, pipe)) {
            Ok(true) => Step::Waits,
            Ok(false) => Step::Ended(Ok(())),
            Err(error) => Step::Ended(Err(Arc::new(error))),
        }
    }
}

/// Reads what the client of a stream has sent, as much as there is room for. Returns how many bytes
/// that are, and whether no more will come; `None` if there is no such stream any more.
pub type Received<'r> = &'r mut dyn FnMut(&mut [u8]) -> Option<(usize, bool)>;

/// Returns the patience with a client that sends a checkpoint.
pub fn patience() -> Patience {
    Patience::new(LEAST, SILENCE_SECONDS * timer::frequency())
}

/// Checks that the store can have a checkpoint of this name and length.
///
/// # Errors
///
/// Why not.
pub fn check_room(work: &mut Work, name: &str, length: u64) -> Result<(), TransferError> {
    work.with_store(|store| Ok(store.begin(name, length, clock::date()).map(drop)?))
}

/// Writes what is `received` into the store, as a checkpoint of this name and length. Says its
/// number.
///
/// # Errors
///
/// Why there is no new checkpoint.
pub fn receive(
    work: &mut Work,
    (name, length): (&str, u64),
    received: Received,
    out: &mut Answer,
) -> Result<(), TransferError> {
    work.with_store(|store| {
        let number = write(store, name, length, received)?;
        let read = match open(store, number) {
            Ok(mut source) => {
                let name = stasis_state::read_name(&mut source, routines());
                name.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match read {
            Ok(guest) => {
                events::checkpoint(&guest, number, name, None);
                // Writing an answer does not fail.
                let _ = writeln!(out, "checkpoint {number} \"{name}\": {length} bytes");
                Ok(())
            }
            Err(error) => {
                store.delete(number)?;
                Err(TransferError::NoCheckpoint(error))
            }
        }
    })
}

/// Writes what comes into the store. Returns the number of the checkpoint.
fn write(
    store: &mut Store<Disk>,
    name: &str,
    length: u64,
    received: Received,
) -> Result<u64, TransferError> {
    let mut patience = patience();
    let mut writer = store.begin(name, length, clock::date())?;
    let mut bytes = vec![0; WINDOW];
    let mut left = length;
    while left > 0 {
        pause(&mut writer);
        // A hello that has just come may have made the id another client's.
        typed::check_given_up()?;
        let most = left.min(WINDOW as u64) as usize;
        match received(&mut bytes[..most]).ok_or(GivenUp)? {
            (0, true) => return Err(TransferError::Short(left)),
            (0, false) if patience.is_over() => return Err(TransferError::Silent),
            (0, false) => {
                let begin = timer::counter();
                writer.device_mut().task().rest_until(begin + timer::frequency() / 100);
                patience.waited(timer::counter() - begin);
            }
            (count, _) => {
                patience.came(count as u64);
                writer.write(&bytes[..count])?;
                left -= count as u64;
            }
        }
    }
    Ok(writer.commit()?.number)
}
