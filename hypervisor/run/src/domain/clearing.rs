//! A guest's RAM that is cleared as it is touched.
//!
//! What is [stale](stasis_memory::GuestRam::stale) has no entry in stage 2. A vCPU that finds none clears one unit at each exit, so that interrupts come through, and makes its access again; with
//! the last unit of a block, the block is mapped. The console's task clears the rest ([`Domain::clear_more`]): a block that it has cleared is mapped when a vCPU wants it.

use super::{Domain, Resident};
use stasis_hw::paging::Translation;
use stasis_memory::ReadRam;
use stasis_state::written::BLOCK_SIZE;

impl Resident {
    /// Clears a unit of the block with the byte at `offset`, if one is stale. Maps the block if it is clear then, unless it is mapped already. An offset that is not in the RAM does nothing.
    pub(super) fn clear_some(&mut self, offset: usize) {
        let block = offset - offset % BLOCK_SIZE;
        let end = self.ram.len().min(block.saturating_add(BLOCK_SIZE));
        if block >= end || !self.ram.clear_unit(offset) {
            return;
        }
        let input = self.guest.ram_base() + block as u64;
        let is_mapped = |stage2: &Translation| stage2.translate(input).is_some();
        if self.stage2.as_ref().is_some_and(is_mapped) {
            // Another vCPU was faster.
            return;
        }
        let mapped = self.map_arrived(&(block..end));
        debug_assert!(mapped.is_ok(), "a block as a whole takes no table");
    }
}

impl Domain {
    /// Clears one unit of the guest's RAM, if any is stale. Returns whether there may be more. The caller has no guest parked.
    pub fn clear_more(&self) -> bool {
        self.resident.lock().ram.clear_next()
    }
}
