//! Requests of disks that are done at the exit of the vCPU that makes them, with what was read
//! [ahead](super::ahead).

use super::Slots;
use super::ahead::Buffer;
use super::block::{Outcome, Request, What};
use crate::context::Memory;

impl Slots {
    /// Does the next request of a disk, if it is a small read of what was read ahead, and nobody
    /// does another one of that disk. Returns the number of the slot, whose line may have changed;
    /// None if nothing was done: [`Slots::disk_request`] takes the request.
    pub fn serve_ahead(&mut self, memory: &mut Memory<'_>) -> Option<u8> {
        let id = self.next_notified(self.disks & !self.under_way)?;
        let n = usize::from(id.slot);
        if self.ahead[n].is_empty() {
            return None;
        }
        // What is wrong with a request, whoever takes it finds.
        let request = self.take(id, memory).ok()??;
        let What::Read { offset, len } = request.what else { return None };
        let piece = self.ahead[n].find(offset, len)?;
        if request.data().write(memory, piece) != Ok(piece.len()) {
            return None;
        }
        self.ahead[n].note_hit(offset + len);
        self.disk_done(memory, &request, Outcome::Done);
        if self.has_more(id, memory) == Ok(false) {
            self.settle(id, Ok(false));
        }
        Some(id.slot)
    }

    /// Returns a buffer for what is read [ahead](Request::ahead) of a request that is completed;
    /// None if there is none, or the device was reset meanwhile.
    pub fn begin_ahead(&mut self, request: &Request) -> Option<Buffer> {
        self.is_current(request).then(|| self.ahead[usize::from(request.slot())].take_buffer())?
    }

    /// Keeps what was read [ahead](Request::ahead) of a request. The caller has taken no request of
    /// the disk since.
    pub fn end_ahead(&mut self, request: &Request, buffer: Buffer) {
        if self.is_current(request) {
            self.ahead[usize::from(request.slot())].keep(request.ahead.start, buffer);
        }
    }
}
