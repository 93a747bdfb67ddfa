//! The first write to each block of a guest's RAM, and to each page while a checkpoint is made.
//!
//! A block that was never written since its guest got it is zeros. Stage 2 maps the block read-only until its first write, so a checkpoint knows such
//! blocks without reading them. A checkpoint makes all blocks read-only ([`frozen`](super::frozen)): the first write to a page then keeps what the page was,
//! and makes that page writable. Once the checkpoint has read a block, or is over, the next write to the block makes it writable as a whole.

use super::Resident;
use super::host::RunningOn;
use crate::el2::GuestRam;
use crate::tables::GuestTables;
use stasis_guest::exit::Fault;
use stasis_hw::paging::{Attributes, Forget, MapError, Translation};
use stasis_state::written::BLOCK_SIZE;

/// Maps RAM at guest-physical address `base`, each block of [`BLOCK_SIZE`] bytes by itself, but for blocks of which something is missing.
pub(super) fn map(
    stage2: &mut Translation,
    tables: &mut GuestTables,
    base: u64,
    ram: &GuestRam,
) -> Result<(), MapError> {
    let range = ram.range();
    let is_there = |offset: &u64| ram.is_block_there(*offset as usize);
    for offset in (0..range.len()).step_by(BLOCK_SIZE).filter(is_there) {
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

    /// Returns whether the loaded vCPU has left for a write to RAM that stage 2 forbids. Then the write is allowed, and the vCPU makes it again; or the
    /// vCPU sleeps, and makes it again when there is a frame for what the page was.
    pub(super) fn is_first_write(&mut self, fault: &Fault, host: &mut RunningOn) -> bool {
        fault.is_forbidden_write() && self.allow_write(fault, host)
    }

    fn allow_write(&mut self, fault: &Fault, host: &mut RunningOn) -> bool {
        let Self { guest, ram, stage2: Some(stage2), .. } = self else { return false };
        let physical = match fault.ipa {
            Some(ipa) => stage2.translate(ipa),
            None => host.loaded.physical_address(fault.virtual_address),
        };
        let Some(physical) = physical else {
            // Another vCPU has changed the guest's tables since: the guest's own fault comes next.
            return true;
        };
        let range = ram.range();
        if !range.contains(physical) {
            return false;
        }
        let offset = (physical - range.start) as usize;
        let address = guest.ram_base() + offset as u64;
        let loaded = &mut host.loaded;
        let forget = |what| match what {
            Forget::Address(ipa) => loaded.forget_block_everywhere(ipa),
            Forget::All => loaded.forget_all_everywhere(),
        };
        match ram.snapshot().filter(|snapshot| !snapshot.is_done_with(offset)) {
            None => {
                ram.mark_written(offset..offset + 1);
                match ram.is_block_there(offset) {
                    // SAFETY: the guest is loaded, so `forget` drops all cores' copies of its translation, and completes that.
                    true => unsafe { stage2.join(address, forget) },
                    // The pages that are missing must stay unmapped.
                    false => stage2.allow_writes(address),
                }
            }
            Some(snapshot) => {
                if snapshot.keep(offset).is_err() {
                    host.nap();
                    return true;
                }
                // SAFETY: the guest is loaded, so `forget` drops all cores' copies of its translation for the address, and completes that.
                let split = unsafe { stage2.split(address, forget) };
                debug_assert!(split.is_ok(), "a table for each block was reserved");
                if split.is_err() {
                    host.nap();
                    return true;
                }
            }
        }
        host.loaded.forget_block(address);
        true
    }
}
