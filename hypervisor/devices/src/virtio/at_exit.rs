//! Requests of disks that are done at the exit of the vCPU that makes them: reads of what was read
//! [ahead](super::ahead), and [late](super::late) writes.

use alloc::sync::Arc;

use super::Slots;
use super::ahead::Buffer;
use super::block::{Outcome, Request, What};
use super::chain::Bytes;
use super::late::Late;
use crate::context::Memory;

impl Slots {
    /// Does the next request of a disk, if it is a small read of what was read ahead, or a small
    /// write for which late writes have a place, and nobody does another one of that disk. Returns
    /// the number of the slot, whose line may have changed; None if nothing was done:
    /// [`Slots::disk_request`] takes the request.
    pub fn serve_small(&mut self, memory: &mut Memory<'_>) -> Option<u8> {
        let id = self.next_notified(self.disks & !self.under_way)?;
        let n = usize::from(id.slot);
        if self.ahead[n].is_empty() && !self.writes[n].may_be_late() {
            return None;
        }
        // What is wrong with a request, whoever takes it finds.
        let asked = self.take(id, memory).ok()??;
        let is_done = match asked.what {
            What::Read { offset, len } => self.read_small(n, memory, asked.data, (offset, len)),
            What::Write { offset, len } => self.write_late(n, memory, asked.data, (offset, len)),
            _ => false,
        };
        if !is_done {
            return None;
        }
        let is_completed = self.complete_asked(id, memory, &asked, Outcome::Done);
        // For what it has published since, the driver notifies.
        if is_completed && asked.chain.is_last {
            self.notified &= !id.bit();
        }
        Some(id.slot)
    }

    /// Gives the guest what it reads from disk `n`, by offset and length, if that was read ahead.
    /// Returns whether it was.
    fn read_small(
        &mut self,
        n: usize,
        memory: &mut Memory<'_>,
        mut data: Bytes,
        (offset, len): (u64, u64),
    ) -> bool {
        let Some(piece) = self.ahead[n].find(offset, len) else { return false };
        if data.write(memory, piece) != Ok(piece.len()) {
            return false;
        }
        self.ahead[n].note_hit(offset + len);
        true
    }

    /// Keeps what the guest writes to disk `n`, by offset and length, if late writes have a place
    /// for it. Returns whether they had.
    fn write_late(
        &mut self,
        n: usize,
        memory: &Memory<'_>,
        mut data: Bytes,
        (offset, len): (u64, u64),
    ) -> bool {
        let fill = |into: &mut [u8]| data.read(memory, into) == Ok(into.len());
        let is_kept = !self.writes_through(n) && self.writes[n].keep(offset, len, fill);
        if is_kept {
            self.ahead[n].forget();
        }
        is_kept
    }

    /// Returns a buffer for what is read [ahead](Request::ahead) of a request that is completed;
    /// None if there is none, or the device was reset meanwhile.
    pub fn begin_ahead(&mut self, request: &Request) -> Option<Buffer> {
        self.is_current(request).then(|| self.ahead[usize::from(request.slot())].take_buffer())?
    }

    /// Keeps what was read [ahead](Request::ahead) of a request, unless something was written since
    /// it began. The caller has taken no request of the disk since.
    pub fn end_ahead(&mut self, request: &Request, buffer: Buffer) {
        if self.is_current(request) {
            self.ahead[usize::from(request.slot())].keep(request.ahead.start, buffer);
        }
    }

    /// Returns the place of late writes that [begin](Request::begins_late) with a request, for
    /// whoever has the volume; None if there is none, or the device was reset meanwhile.
    pub fn begin_late(&mut self, request: &Request) -> Option<Arc<Late>> {
        self.is_current(request).then(|| self.writes[usize::from(request.slot())].place())?
    }

    /// Does a request with which late writes have begun, and completes it. Returns whether that was
    /// done; if not, it is done as if they had not.
    pub fn disk_late(&mut self, memory: &mut Memory<'_>, request: &Request) -> bool {
        let What::Write { offset, len } = request.what() else { return false };
        let n = usize::from(request.slot());
        let is_kept =
            self.is_current(request) && self.write_late(n, memory, request.data(), (offset, len));
        if is_kept {
            self.disk_done(memory, request, Outcome::Done);
        }
        is_kept
    }

    /// Makes no late writes until whoever serves the disks lets them begin again: at the instant of
    /// a checkpoint, all that was completed is the volume's.
    pub fn end_late(&self) {
        self.writes.iter().for_each(super::late::Writes::end);
    }
}
