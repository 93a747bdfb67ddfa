//! Other RAM for a parked guest, in the place of its own: of what that shares with others, nothing
//! may be overwritten, and what takes frames as it is written is taken anew.
//!
//! What the guest had goes back before the other RAM is mapped, so that its frames can be taken for
//! that. [`frames`](stasis_host::admission::frames) says before whether they will be enough.

use super::{Parked, Ram, Resident};
use crate::el2::GuestRam;
use crate::tables;
use crate::turns::Task;
use core::mem;
use stasis_host::admission::frames::{Before, Frames};
use stasis_host::run_state::RunState;
use stasis_hw::paging::Translation;
use stasis_memory::frames::NoFrame;
use stasis_memory::range::NoRam;
use stasis_memory::{PAGE_SIZE, ReadRam};
use stasis_state::PageBits;
use stasis_state::written::BLOCK_SIZE;

impl Parked<'_> {
    /// Returns the frames that there are, with what comes back when the guest gets other RAM.
    pub fn frames(&self) -> Frames {
        let Resident { ram, stage2, .. } = &**self;
        let tables = stage2.as_ref().map_or(0, Translation::page_tables) as u64;
        let before = Before { own: ram.usage().own / PAGE_SIZE, tables };
        Frames { before: Some(before), ..tables::frames() }
    }

    /// Takes from the pool the tables that the guest's translation lacks to map other RAM.
    ///
    /// # Errors
    ///
    /// [`NoRam`] if the pool does not have them, and nor does what the guest has now.
    pub fn stock_for(&mut self, ram: &GuestRam, task: &mut Task) -> Result<(), NoRam> {
        let is_scattered = |offset: &usize| ram.moved_of_block(*offset) != PageBits::NONE;
        let blocks = (0..ram.len()).step_by(BLOCK_SIZE).filter(is_scattered).count() as u64;
        let Some(before) = self.frames().before else { return Ok(()) };
        let lacking = before.lacking(blocks);
        match tables::reserve(lacking as usize, &mut || task.yield_now()) {
            Ok(tables) => self.resident.stock(tables),
            Err(_) if before.has_pages_for(lacking) => {}
            Err(why) => return Err(why),
        }
        Ok(())
    }

    /// Makes the guest's state [`RunState::Lost`] until [`Self::replace`], and gives it other RAM
    /// of the same size in the place of its own, which goes back. `ready` takes what the other RAM
    /// still lacks: it is called again and again while frames come back.
    ///
    /// # Errors
    ///
    /// [`NoRam`] if `ready` fails when all have come back, or if pages of the RAM have frames, and
    /// there is no memory for a table that maps them. The guest stays lost.
    pub fn give_ram(
        &mut self,
        ram: Ram,
        ready: &dyn Fn(&GuestRam) -> Result<(), NoFrame>,
        task: &mut Task,
    ) -> Result<(), NoRam> {
        self.set_state(RunState::Lost);
        self.withdraw_ram(task);
        let before = mem::replace(&mut self.resident.ram, ram);
        let ram = &*self.resident.ram;
        before.give_back(&mut || {
            // At once: others take frames as soon as they run.
            let _ = ready(ram);
            task.yield_now();
        });
        ready(ram).map_err(|NoFrame| NoRam::NO_FRAME)?;
        self.map_ram().map_err(|_| NoRam::NO_FRAME)
    }
}
