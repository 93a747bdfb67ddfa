//! Reading the instruction that a guest was at, where the hardware does not say what it did.

use super::Resident;
use stasis_arch::world::Loaded;
use stasis_guest::exit::Exit;
use stasis_state::vcpu::Core;

impl Resident {
    /// Makes the exit say what the vCPU that is loaded did, by its instruction if the syndrome does not tell.
    #[inline]
    pub(super) fn describe(&self, exit: &mut Exit, core: &Core, loaded: &Loaded) {
        // In place: almost all are left as they are.
        if exit.wants_instruction(core)
            && let Some(instruction) = self.instruction(*core.pc, loaded)
        {
            *exit = exit.described(instruction, core);
        }
    }

    /// Returns the instruction at a virtual address of the vCPU that is loaded, if it lies in its guest's RAM.
    fn instruction(&self, address: u64, loaded: &Loaded) -> Option<u32> {
        let physical = loaded.physical_address(address)?;
        let offset = physical.checked_sub(self.ram.range().start)?;
        // It may have written it past its caches, and other vCPUs may write it at the same time: whatever it is, it is an instruction's bits.
        self.ram.load_u32_past_caches(offset as usize).ok()
    }
}
