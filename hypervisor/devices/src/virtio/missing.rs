//! Requests that need memory which is still to be loaded, as their guest was resumed on demand.
//!
//! Before a step of a device, and only while something is missing, all that the first request of
//! the next queue needs is looked at: its rings, its descriptors and its buffers
//! ([`Slots::await_missing`]). What is not there is asked for, and the queue stands still until
//! something has arrived ([`Slots::go_on`]); other queues go on. So nothing is read from a disk
//! twice because the end of a request was not there.
//!
//! A step may find something missing all the same: the queue before it stands still, so it takes
//! one that was not looked at; or the driver has changed its request. Then that queue stands still,
//! too ([`Broken::NotThere`]), and the request is done again from its beginning.
//!
//! One queue is looked at, and not all: a chain may have as many descriptors as its queue, and
//! nothing ends the walk over them.

use super::net;
use super::queue::Queue;
use super::view::Broken;
use super::{QueueId, Slots, Work};
use crate::context::Memory;

impl Slots {
    /// Looks at the next request of a disk, or of another device, as `work` says, and asks for what
    /// is missing of what it needs. Returns whether anything is: its queue stands still from now
    /// on.
    pub fn await_missing(&mut self, work: Work, memory: &Memory<'_>) -> bool {
        let among = match work {
            Work::Disks => self.disks & !self.under_way,
            Work::Others => !self.disks,
        };
        let next = self.next_notified(among);
        let lacking = next.filter(|id| self.lacks_memory(*id, memory));
        if let Some(id) = lacking {
            self.stand_still(id);
        }
        lacking.is_some()
    }

    /// Makes a queue stand still until something has arrived.
    pub(super) fn stand_still(&mut self, id: QueueId) {
        self.notified &= !id.bit();
        self.waiting |= id.bit();
    }

    /// Notes that something has arrived: all queues that stand still are looked at again.
    pub fn go_on(&mut self) {
        self.notified |= core::mem::take(&mut self.waiting);
    }

    /// Returns whether a frame for the card in `slot` must wait until something has arrived, which
    /// was asked for: what its receive queue, or the buffer that is next there, needs is missing.
    pub fn frame_must_wait(&self, slot: u8, memory: &Memory<'_>) -> bool {
        self.lacks_memory(QueueId { slot, queue: net::RECEIVE }, memory)
    }

    /// Asks for what is missing of what the first request of a queue needs. Returns whether
    /// anything is. What is wrong with a request, its step finds.
    fn lacks_memory(&self, id: QueueId, memory: &Memory<'_>) -> bool {
        let Some(queue) = self.queue(id) else { return false };
        match lacks_rings(&queue, memory) {
            true => true,
            false => matches!(lacks_buffers(&queue, memory), Ok(true) | Err(Broken::NotThere)),
        }
    }
}

/// Asks for what is missing of a queue's three parts. Returns whether anything is.
fn lacks_rings(queue: &Queue, memory: &Memory<'_>) -> bool {
    queue.parts().into_iter().fold(false, |lacks, part| memory.lacks(part) | lacks)
}

/// Asks for what is missing of the buffers of a queue's first request. Returns whether anything is.
fn lacks_buffers(queue: &Queue, memory: &Memory<'_>) -> Result<bool, Broken> {
    let Some(chain) = queue.first(memory)? else { return Ok(false) };
    // Buffers that have more bytes than RAM are in one place: to look at each of them whole would
    // take too long.
    let mut left = memory.ram.len() as u64;
    let mut lacks = false;
    chain.pieces(memory, |piece| {
        let len = u64::from(piece.len).min(left);
        left -= len;
        lacks |= memory.lacks((piece.address, len));
    })?;
    Ok(lacks)
}
