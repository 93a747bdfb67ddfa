//! A guest's RAM that is cleared as it is touched.
//!
//! What is [stale](stasis_memory::GuestRam::stale) has no entry in stage 2. A vCPU that finds none
//! clears one unit at each exit, so that interrupts come through, and makes its access again; with
//! the last unit of a block, the block is mapped. The console's task clears the rest
//! ([`Domain::clear_more`]), and maps what it has cleared.

use super::{Domain, Resident};
use stasis_hw::paging::Translation;
use stasis_memory::ReadRam;
use stasis_state::written::BLOCK_SIZE;

impl Resident {
    /// Clears a unit of the block with the byte at `offset`, if one is stale. Maps the block if it
    /// is clear then, unless it is mapped already. An offset that is not in the RAM does nothing.
    pub(super) fn clear_some(&mut self, offset: usize) {
        if offset < self.ram.len() && self.ram.clear_unit(offset) {
            self.map_clear(offset - offset % BLOCK_SIZE);
        }
    }

    /// Clears a unit, if any is stale. Maps each block that is clear then, also if nobody has
    /// touched it: pages of RAM that has nothing stale may move, and those that do must be mapped.
    /// Returns whether there may be more.
    pub(super) fn clear_next(&mut self) -> bool {
        let Some(block) = self.ram.clear_next() else { return false };
        if !self.ram.is_block_stale(block) {
            self.map_clear(block);
        }
        true
    }

    /// Maps the block at offset `block`, which is clear, unless it is mapped.
    fn map_clear(&mut self, block: usize) {
        let input = self.guest.ram_base() + block as u64;
        let is_mapped = |stage2: &Translation| stage2.translate(input).is_some();
        if self.stage2.as_ref().is_some_and(is_mapped) {
            return;
        }
        let end = self.ram.len().min(block + BLOCK_SIZE);
        let mapped = self.map_arrived(&(block..end));
        debug_assert!(mapped.is_ok(), "a block as a whole takes no table");
    }
}

impl Domain {
    /// Clears one unit of the guest's RAM, if any is stale. Returns whether there may be more. The
    /// caller has no guest parked.
    pub fn clear_more(&self) -> bool {
        self.resident.lock().clear_next()
    }
}
