//! Reading the instruction at which a guest left, where the hardware does not describe the access.

use super::Resident;
use stasis_arch::world::Loaded;
use stasis_guest::exit::Exit;
use stasis_state::vcpu::Core;

impl Resident {
    /// Completes `exit` by the instruction of the loaded vCPU, if the syndrome does not describe
    /// what it did.
    #[cold]
    pub(super) fn describe(&self, exit: &mut Exit, core: &Core, loaded: &Loaded) {
        if exit.wants_instruction(core)
            && let Some(instruction) = self.instruction(*core.pc, loaded)
        {
            *exit = exit.described(instruction, core);
        }
    }

    /// Returns the instruction at a virtual address of the loaded vCPU, if it lies in the guest's
    /// RAM.
    fn instruction(&self, address: u64, loaded: &Loaded) -> Option<u32> {
        let ipa = loaded.intermediate_address(address)?;
        let offset = ipa.checked_sub(self.guest.ram_base())?;
        // The guest may have written the instruction past its caches, and other vCPUs may write it
        // now: whatever is read, it is 32 bits.
        self.ram.load_u32_past_caches(offset as usize).ok()
    }
}
