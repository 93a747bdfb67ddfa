//! The machine that the firmware's device tree describes.

use dtoolkit::fdt::Fdt;
use stasis_host::board::{self, MachineError};

pub use stasis_host::board::Machine;

const _: () = assert!(board::MAX_CORES == stasis_arch::boot::MAX_CORES);

/// Returns the machine that the device tree at the physical address `address` describes.
///
/// # Safety
///
/// `address` is that of the device tree that the boot protocol passes, in mapped memory that nobody writes for `'a`.
pub unsafe fn find<'a>(address: u64) -> Result<Machine<'a>, MachineError> {
    // SAFETY: the caller says that a device tree stands at `address`, readable and unchanged for `'a`. The header of anything else is refused.
    let fdt = unsafe { Fdt::from_raw(address as *const u8) }
        .map_err(|_| MachineError::DeviceTree { address })?;
    Machine::describe(fdt, address)
}
