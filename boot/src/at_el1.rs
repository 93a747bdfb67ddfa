//! The end of a boot at EL1: it can only say that Stasis must be started at EL2.

use crate::machine;
use stasis_arch::boot;

const COMPLAINT: &str = "error: Stasis was started at EL1, and it must be at EL2; QEMU's virt \
                         starts there with -M virtualization=on\r\n";

/// Prints why Stasis does not run. The entry code calls this with a translation that maps the image
/// and the device tree only, and stops the core when this returns. If the device tree names no
/// UART, nothing is printed.
///
/// # Safety
///
/// The entry code alone calls this, at EL1, with the address of the device tree that the boot
/// protocol has passed.
#[unsafe(no_mangle)]
unsafe extern "C" fn stasis_at_el1(device_tree: u64) {
    // SAFETY: the boot protocol passes the address of the device tree; the entry code has mapped
    // it; nobody writes it.
    let Ok(machine) = (unsafe { machine::find(device_tree) }) else { return };
    // SAFETY: this is `stasis_at_el1`, and no other core was started.
    unsafe { boot::map_device_at_el1(machine.uart.device.frame.start) };
    // SAFETY: 1. The device tree says that the frame is the UART's; it was mapped one to one as a
    // device just now. 2. Nothing else runs.
    let uart = unsafe { machine::serial(machine.uart) };
    uart.init();
    COMPLAINT.bytes().for_each(|byte| uart.write(byte));
}
