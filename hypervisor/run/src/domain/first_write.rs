//! The first write to each block of a guest's RAM, and to each page while a checkpoint is made.
//!
//! A block that was never written since its guest got it is zeros. Stage 2 maps the block read-only
//! until its first write, so a checkpoint knows such blocks without reading them. A checkpoint
//! makes all blocks read-only ([`frozen`](super::frozen)): the first write to a page then keeps
//! what the page was, if the checkpoint takes it, and makes that page writable. So stage 2 tells
//! which pages have changed since the last checkpoint: what is decided about a write is in
//! [`GuestRam::first_write`](stasis_memory::GuestRam::first_write).

use super::first_look::{AtExit, Glimpse};
use super::host::RunningOn;
use super::{Domain, Resident};
use crate::el2::GuestRam;
use crate::shared::Connected;
use crate::tables::GuestTables;
use stasis_arch::world::{Loaded, Looked, Translations};
use stasis_guest::exit::{Fault, Syndrome, is_forbidden_store};
use stasis_guest::shared::address;
use stasis_guest::stats::Reason;
use stasis_hw::paging::{Attributes, Forget, MapError, Translation, Writable};
use stasis_memory::ReadRam;
use stasis_memory::pages::Part;
use stasis_memory::ram::{Reach, Wait};
use stasis_memory::range::Range;
use stasis_state::written::BLOCK_SIZE;
use stasis_state::{PAGE_SIZE, PageBits};

/// Maps RAM at guest-physical address `base`, each block of [`BLOCK_SIZE`] bytes by itself, but for
/// blocks of which something is missing. Those have a table, so that each can arrive as a whole.
/// Blocks of which pages have moved are mapped in pages.
pub(super) fn map(
    stage2: &mut Translation,
    tables: &mut GuestTables,
    base: u64,
    ram: &mut GuestRam,
) -> Result<(), MapError> {
    let len = ram.len();
    stage2.prepare(tables, base, len as u64)?;
    for offset in (0..len).step_by(BLOCK_SIZE).filter(|offset| ram.is_block_there(*offset)) {
        let attributes = match ram.is_block_writable(offset) {
            true => Attributes::guest_ram(),
            false => Attributes::guest_ram_unwritten(),
        };
        let (input, output) = (base + offset as u64, ram.address_of_block(offset).unwrap_or(0));
        let moved = ram.moved_of_block(offset);
        if moved == PageBits::NONE {
            stage2.map(tables, input, output, BLOCK_SIZE as u64, attributes)?;
            continue;
        }
        let pages = moved.pages().map(|page| (page, ram.address_of(offset + page * PAGE_SIZE)));
        let tables = &mut GuestTables::OfPool(Ok(()));
        stage2.map_scattered(tables, input, output, attributes, pages)?;
    }
    // SAFETY: `map` and `map_scattered` refuse what is mapped already, so stage 2 led to none of
    // the pages before, and leads to where they are now. Who unmaps in a `Translation` drops all
    // cores' copies. A block that is not there has no page that has moved.
    unsafe { ram.all_seen() };
    Ok(())
}

impl Resident {
    /// Allows writes to the blocks that count as changed, each as a whole, while the guest does not
    /// run.
    pub(super) fn allow_writes(&mut self) {
        let base = self.guest.ram_base();
        let Some(stage2) = &mut self.stage2 else { return };
        let writable = |(offset, _): &(usize, Part)| self.ram.is_block_writable(*offset);
        for (offset, _) in self.ram.changed_blocks().filter(writable) {
            stage2.allow_writes(base + offset as u64);
        }
    }

    /// Returns the guest-physical address of each block of which the guest may write something, and
    /// what.
    pub(super) fn writable_blocks(
        base: u64,
        ram: &GuestRam,
    ) -> impl Iterator<Item = (u64, Writable)> {
        ram.changed_blocks().map(move |(offset, part)| {
            let writable = match part {
                Part::All if ram.moved_of_block(offset) != PageBits::NONE => {
                    Writable::Pages(PageBits::ALL.0)
                }
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
pub(super) enum Answer {
    /// The write is not one that stage 2 forbids for a while.
    Other,
    /// The vCPU makes the write again.
    Again,
    /// The vCPU makes the write again when something was released.
    Later,
    /// The guest stands still until there is memory.
    NoMemory,
}

impl Resident {
    /// Makes stage 2 map the pages that have moved because EL2 has written them, read-only: what
    /// the guest writes is marked. Returns false if there is no memory for a table, or was none for
    /// what a device wanted to write: the guest must not go on before there is.
    #[cold]
    pub(super) fn show_moved(&mut self, loaded: &mut Loaded) -> bool {
        let Self { guest, ram, stage2: Some(stage2), .. } = self else { return true };
        let mut translations = loaded.translations();
        if ram.take_lack() {
            return false;
        }
        let base = guest.ram_base();
        for offset in ram.unseen_pages() {
            let (ipa, physical) = (base + offset as u64, ram.address_of(offset));
            let tables = &mut GuestTables::OfPool(Ok(()));
            let forget = |what| match what {
                Forget::Address(ipa) => translations.forget_block_everywhere(ipa),
                Forget::All => translations.forget_all_everywhere(),
            };
            // SAFETY: the guest is loaded, so `forget` drops all cores' copies of its translation
            // for the address, and completes that.
            let moved = unsafe { stage2.move_page(tables, ipa, physical, false, forget) };
            if moved.is_err() {
                return false;
            }
        }
        // SAFETY: `move_page` has made stage 2 lead to each unseen page where it is, and `forget`
        // has dropped all cores' copies of what was there. Whatever else has moved was shown when
        // it did, or would be unseen: `Forbidden::allow` sees to that.
        unsafe { ram.all_seen() };
        true
    }
}

impl Domain {
    /// Answers a fault of the loaded vCPU, if that has left for a write to memory that stage 2
    /// forbids: the write is allowed, and the vCPU makes it again; or the vCPU sleeps, and makes it
    /// again when there is a frame for what the page was.
    #[inline]
    pub(super) fn answer_write(
        &self,
        resident: &mut Resident,
        fault: &Fault,
        host: &mut RunningOn,
    ) -> Answer {
        if !fault.is_forbidden_write() {
            return Answer::Other;
        }
        let answer = self.allow_write(resident, fault, &mut host.loaded);
        if answer == Answer::Later {
            host.nap();
        }
        answer
    }

    /// Allows the write that has faulted, in the guest's RAM or in what it shares.
    #[cold]
    fn allow_write(&self, resident: &mut Resident, fault: &Fault, loaded: &mut Loaded) -> Answer {
        let Resident { guest, ram, stage2: Some(stage2), .. } = resident else {
            return Answer::Other;
        };
        let translations = &mut loaded.translations();
        let ipa = fault.ipa.or_else(|| translations.intermediate_address(fault.virtual_address));
        // Without an address, another vCPU has changed the guest's tables since: the guest's own
        // fault comes next.
        let Some(ipa) = ipa else { return Answer::Again };
        if Range::new(guest.ram_base(), ram.len() as u64).contains(ipa) {
            return Forbidden { stage2, base: guest.ram_base(), ipa }.allow(ram, translations);
        }
        let is_there =
            |n: usize, one: &Connected| Range::new(address(n), one.range().len()).contains(ipa);
        let mut shared = (0..).zip(self.shared());
        match shared.find(|(n, one)| is_there(*n, one)) {
            Some((n, one)) => match &mut *one.memory() {
                Some(ram) => Forbidden { stage2, base: address(n), ipa }.allow(ram, translations),
                None => Answer::Later,
            },
            None => Answer::Other,
        }
    }
}

impl AtExit<'_> {
    /// Allows a store to the guest's RAM that stage 2 forbids, before all registers of the vCPU are
    /// saved. What is not allowed yet, memory that guests share, and any other exception is left to
    /// [`Domain::answer_write`], which finds the memory and its marks as if nobody had looked
    /// before.
    #[inline(never)]
    pub(super) fn allow_store(&mut self, mut glimpse: Glimpse<'_>, syndrome: Syndrome) -> Looked {
        if !is_forbidden_store(syndrome) {
            return Looked::Leave;
        }
        let mut translations = glimpse.translations();
        let Some(ipa) = translations.intermediate_address(syndrome.far) else {
            return Looked::Leave;
        };
        let Some(mut resident) = self.host.domain.try_lock(&mut self.unlocked) else {
            return Looked::Leave;
        };
        let Resident { guest, ram, stage2: Some(stage2), .. } = &mut *resident else {
            return Looked::Leave;
        };
        let base = guest.ram_base();
        if !Range::new(base, ram.len() as u64).contains(ipa) {
            return Looked::Leave;
        }
        match (Forbidden { stage2, base, ipa }).allow(ram, &mut translations) {
            Answer::Again => {
                self.host.place.stats.left(Reason::Fault);
                Looked::GoOn
            }
            Answer::Other | Answer::Later | Answer::NoMemory => Looked::Leave,
        }
    }
}

/// A write that stage 2 forbids.
struct Forbidden<'s> {
    stage2: &'s mut Translation,
    /// Guest-physical address of the memory that is written.
    base: u64,
    /// Guest-physical address of the write.
    ipa: u64,
}

impl Forbidden<'_> {
    /// Allows the write, which is to `ram`.
    fn allow(self, ram: &mut GuestRam, translations: &mut Translations<'_>) -> Answer {
        let Self { stage2, base, ipa } = self;
        let offset = (ipa - base) as usize;
        let mut reach = match ram.first_write(offset) {
            Ok(reach) => reach,
            Err(Wait::Snapshot) => return Answer::Later,
            Err(Wait::Frame) => return Answer::NoMemory,
        };
        let mut forget = |what| match what {
            Forget::Address(ipa) => translations.forget_block_everywhere(ipa),
            Forget::All => translations.forget_all_everywhere(),
        };
        if let Reach::At(physical) = reach {
            let tables = &mut GuestTables::OfPool(Ok(()));
            // SAFETY: the guest is loaded, so `forget` drops all cores' copies of its translation
            // for the address, and completes that.
            let moved = unsafe { stage2.move_page(tables, ipa, physical, true, &mut forget) };
            if moved.is_err() {
                ram.unseen(offset);
                return Answer::NoMemory;
            }
            // SAFETY: stage 2 leads to the page where it is, by `move_page`, and `forget` has
            // dropped all cores' copies of what was there. Each other page that has moved came by
            // here, or EL2 has written it, which makes it unseen.
            unsafe { ram.seen() };
        }
        if reach == Reach::Page {
            // SAFETY: the guest is loaded, so `forget` drops all cores' copies of its translation
            // for the address, and completes that.
            let split = unsafe { stage2.split(ipa, &mut forget) };
            if split.is_err() {
                // A checkpoint has reserved a table for each block, and a resume has if there was
                // room.
                if !ram.mark_block_changed(offset) {
                    return Answer::Later;
                }
                reach = Reach::Block;
            }
        }
        if reach == Reach::Block {
            let end = offset - offset % BLOCK_SIZE + BLOCK_SIZE;
            match end <= ram.len() && ram.is_block_there(offset) {
                // SAFETY: the guest is loaded, so `forget` drops all cores' copies of its
                // translation, and completes that.
                true => unsafe { stage2.join(ipa, forget) },
                // The pages that are missing, or not of the memory, must stay unmapped.
                false => stage2.allow_writes(ipa),
            }
        }
        translations.forget_block(ipa);
        Answer::Again
    }
}
