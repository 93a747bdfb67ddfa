//! The machine's device tree, as the firmware hands it over.

use dtoolkit::fdt::Fdt;
use stasis_host::board::{self, MachineError};

pub use stasis_host::board::Machine;

const _: () = assert!(board::MAX_CORES == stasis_arch::boot::MAX_CORES);

/// Finds the machine in the device tree at physical address `address`.
///
/// # Safety
///
/// `address` is that of the device tree that the boot protocol hands over, in mapped memory that is not
/// written for `'a`.
pub unsafe fn find<'a>(address: u64) -> Result<Machine<'a>, MachineError> {
    // SAFETY: the caller's; a blob that is none is recognised by its header.
    let fdt = unsafe { Fdt::from_raw(address as *const u8) }
        .map_err(|_| MachineError::DeviceTree { address })?;
    Machine::describe(fdt, address)
}
