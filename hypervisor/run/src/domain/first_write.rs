//! The first write to each block of a guest's RAM.
//!
//! A block that was never written since its guest got it is zeros. Stage 2 maps the block read-only until its first write, so a checkpoint knows such
//! blocks without reading them.

use super::Resident;
use crate::el2::GuestRam;
use crate::tables::HeapTables;
use stasis_arch::world::Loaded;
use stasis_guest::exit::Fault;
use stasis_hw::paging::{Attributes, MapError, Translation};
use stasis_memory::ReadRam;
use stasis_state::written::BLOCK_SIZE;

/// Maps RAM at guest-physical address `base`, each block of [`BLOCK_SIZE`] bytes by itself.
pub(super) fn map(
    stage2: &mut Translation,
    tables: &mut HeapTables,
    base: u64,
    ram: &GuestRam,
) -> Result<(), MapError> {
    let range = ram.range();
    for offset in (0..range.len()).step_by(BLOCK_SIZE) {
        let attributes = match ram.may_have_content(offset as usize) {
            true => Attributes::guest_ram(),
            false => Attributes::guest_ram_unwritten(),
        };
        let physical = range.start + offset;
        stage2.map(tables, base + offset, physical, BLOCK_SIZE as u64, attributes)?;
    }
    Ok(())
}

impl Resident {
    /// Allows writes to the blocks that EL2 has written while the guest did not run.
    pub(super) fn allow_writes(&mut self) {
        let base = self.guest.ram_base();
        let Some(stage2) = &mut self.stage2 else { return };
        for offset in self.ram.written_blocks() {
            stage2.allow_writes(base + offset as u64);
        }
    }

    /// Returns whether the loaded vCPU has left for its guest's first write to a block. Then writes to the block are allowed, and the vCPU makes the
    /// write again.
    pub(super) fn is_first_write(&mut self, fault: &Fault, loaded: &mut Loaded) -> bool {
        fault.is_forbidden_write() && self.allow_write(fault, loaded)
    }

    fn allow_write(&mut self, fault: &Fault, loaded: &mut Loaded) -> bool {
        let base = self.guest.ram_base();
        let Some(stage2) = &mut self.stage2 else { return false };
        let physical = match fault.ipa {
            Some(ipa) => stage2.translate(ipa),
            None => loaded.physical_address(fault.virtual_address),
        };
        let Some(physical) = physical else {
            // Another vCPU has changed the guest's tables since: the guest's own fault comes next.
            return true;
        };
        let range = self.ram.range();
        if !range.contains(physical) {
            return false;
        }
        let offset = physical - range.start;
        self.ram.mark_written(offset as usize..offset as usize + 1);
        stage2.allow_writes(base + offset);
        loaded.forget_block(base + offset);
        true
    }
}
