//! The first write to each block of a guest's RAM, and to each page while a checkpoint is made.
//!
//! A block that was never written since its guest got it is zeros. Stage 2 maps the block read-only until its first write, so a checkpoint knows such
//! blocks without reading them. A checkpoint makes all blocks read-only ([`frozen`](super::frozen)): the first write to a page then keeps what the page was, if
//! the checkpoint takes it, and makes that page writable. So stage 2 tells which pages have changed since the last checkpoint: what is decided about a write is in
//! [`GuestRam::first_write`](stasis_memory::GuestRam::first_write).

use super::host::RunningOn;
use super::{Domain, Resident};
use crate::el2::GuestRam;
use crate::tables::GuestTables;
use stasis_arch::world::Loaded;
use stasis_guest::exit::Fault;
use stasis_guest::shared::address;
use stasis_hw::paging::{Attributes, Forget, MapError, Translation, Writable};
use stasis_memory::ReadRam;
use stasis_memory::pages::Part;
use stasis_memory::ram::Reach;
use stasis_state::written::BLOCK_SIZE;
use stasis_state::{PAGE_SIZE, PageBits};

/// Maps RAM at guest-physical address `base`, each block of [`BLOCK_SIZE`] bytes by itself, but for blocks of which something is missing. Those
/// have a table, so that each can arrive as a whole.
pub(super) fn map(
    stage2: &mut Translation,
    tables: &mut GuestTables,
    base: u64,
    ram: &GuestRam,
) -> Result<(), MapError> {
    let range = ram.range();
    stage2.prepare(tables, base, range.len())?;
    let is_there = |offset: &u64| ram.is_block_there(*offset as usize);
    for offset in (0..range.len()).step_by(BLOCK_SIZE).filter(is_there) {
        let attributes = match ram.is_block_changed(offset as usize) {
            true => Attributes::guest_ram(),
            false => Attributes::guest_ram_unwritten(),
        };
        let physical = range.start + offset;
        stage2.map(tables, base + offset, physical, BLOCK_SIZE as u64, attributes)?;
    }
    Ok(())
}

impl Resident {
    /// Allows writes to the blocks that count as changed, each as a whole, while the guest does not run.
    pub(super) fn allow_writes(&mut self) {
        let base = self.guest.ram_base();
        let Some(stage2) = &mut self.stage2 else { return };
        for (offset, _) in self.ram.changed_blocks().filter(|(_, part)| *part == Part::All) {
            stage2.allow_writes(base + offset as u64);
        }
    }

    /// Returns the guest-physical address of each block of which the guest may write something, and what.
    pub(super) fn writable_blocks(
        base: u64,
        ram: &GuestRam,
    ) -> impl Iterator<Item = (u64, Writable)> {
        ram.changed_blocks().map(move |(offset, part)| {
            let writable = match part {
                Part::All if offset + BLOCK_SIZE <= ram.len() => Writable::Block,
                // The rest of the block is not of the memory.
                Part::All => Writable::Pages(PageBits::of(0..(ram.len() - offset) / PAGE_SIZE).0),
                Part::Pages(pages) => Writable::Pages(pages.0),
            };
            (base + offset as u64, writable)
        })
    }
}

/// What became of a write that stage 2 forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// The vCPU makes the write again.
    Again,
    /// The vCPU makes the write again when something was released.
    Later,
}

impl Domain {
    /// Returns whether the loaded vCPU has left for a write to memory that stage 2 forbids. Then the write is allowed, and the vCPU makes it again; or the
    /// vCPU sleeps, and makes it again when there is a frame for what the page was.
    pub(super) fn is_first_write(
        &self,
        resident: &mut Resident,
        fault: &Fault,
        host: &mut RunningOn,
    ) -> bool {
        if !fault.is_forbidden_write() {
            return false;
        }
        match self.allow_write(resident, fault, &mut host.loaded) {
            Some(Answer::Again) => true,
            Some(Answer::Later) => {
                host.nap();
                true
            }
            None => false,
        }
    }

    /// Allows the write that has faulted, in the guest's RAM or in what it shares; `None` if it is to neither.
    #[cold]
    fn allow_write(
        &self,
        resident: &mut Resident,
        fault: &Fault,
        loaded: &mut Loaded,
    ) -> Option<Answer> {
        let Resident { guest, ram, stage2: Some(stage2), .. } = resident else { return None };
        let physical = match fault.ipa {
            Some(ipa) => stage2.translate(ipa),
            None => loaded.physical_address(fault.virtual_address),
        };
        // Without an address, another vCPU has changed the guest's tables since: the guest's own fault comes next.
        let Some(physical) = physical else { return Some(Answer::Again) };
        if ram.range().contains(physical) {
            return Some(Forbidden { stage2, base: guest.ram_base(), physical }.allow(ram, loaded));
        }
        let (n, shared) =
            (0..).zip(self.shared()).find(|(_, one)| one.range().contains(physical))?;
        let forbidden = Forbidden { stage2, base: address(n), physical };
        Some(forbidden.allow(&mut shared.memory(), loaded))
    }
}

/// A write that stage 2 forbids.
struct Forbidden<'s> {
    stage2: &'s mut Translation,
    /// Guest-physical address of the memory that is written.
    base: u64,
    /// Physical address of the write.
    physical: u64,
}

impl Forbidden<'_> {
    /// Allows the write, which is to `ram`.
    fn allow(self, ram: &mut GuestRam, loaded: &mut Loaded) -> Answer {
        let Self { stage2, base, physical } = self;
        let offset = (physical - ram.range().start) as usize;
        let address = base + offset as u64;
        let Ok(mut reach) = ram.first_write(offset) else { return Answer::Later };
        let mut forget = |what| match what {
            Forget::Address(ipa) => loaded.forget_block_everywhere(ipa),
            Forget::All => loaded.forget_all_everywhere(),
        };
        if reach == Reach::Page {
            // SAFETY: the guest is loaded, so `forget` drops all cores' copies of its translation for the address, and completes that.
            let split = unsafe { stage2.split(address, &mut forget) };
            if split.is_err() {
                // A checkpoint has reserved a table for each block, and a resume has if there was room.
                if !ram.mark_block_changed(offset) {
                    return Answer::Later;
                }
                reach = Reach::Block;
            }
        }
        if reach == Reach::Block {
            let end = offset - offset % BLOCK_SIZE + BLOCK_SIZE;
            match end <= ram.len() && ram.is_block_there(offset) {
                // SAFETY: the guest is loaded, so `forget` drops all cores' copies of its translation, and completes that.
                true => unsafe { stage2.join(address, forget) },
                // The pages that are missing, or not of the memory, must stay unmapped.
                false => stage2.allow_writes(address),
            }
        }
        loaded.forget_block(address);
        Answer::Again
    }
}
