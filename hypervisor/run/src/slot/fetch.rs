//! Reading the instruction that a guest was at, where the hardware does not say what it did.

use super::Resident;
use stasis_arch::{cache, mmu};
use stasis_guest::exit::Exit;
use stasis_state::vcpu::Core;

/// Bytes of an instruction.
const INSTRUCTION: u64 = 4;

impl Resident {
    /// Has the exit say what the guest that is loaded on this core did, by its instruction if the syndrome does not tell.
    #[inline]
    pub(super) fn describe(&self, exit: &mut Exit, core: &Core) {
        // In place: almost all are left as they are.
        if exit.wants_instruction(core)
            && let Some(instruction) = self.instruction(*core.pc)
        {
            *exit = exit.described(instruction, core);
        }
    }

    /// The instruction at a virtual address of the guest that is loaded on this core, if it lies in its RAM.
    fn instruction(&self, address: u64) -> Option<u32> {
        let physical = mmu::guest_address(address)?;
        let aligned = physical.is_multiple_of(INSTRUCTION);
        if !aligned || !self.ram.range.contains(physical) {
            return None;
        }
        // It may have written it past its caches.
        cache::clean_and_invalidate_to_poc(physical as usize, INSTRUCTION as usize);
        // SAFETY: 1. It is RAM of the guest's, which begins and ends with a page, mapped one to one, and aligned. 2. Other
        // vCPUs may write it at the same time: the read is volatile, and whatever it gives is an instruction's bits.
        Some(unsafe { (physical as *const u32).read_volatile() })
    }
}
