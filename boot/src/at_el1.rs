//! Started at EL1, where there is nothing to be done but to say so.

use crate::machine;
use stasis_arch::boot;

const COMPLAINT: &str = "error: Stasis was started at EL1, and it must be at EL2; QEMU's virt \
                         starts there with -M virtualization=on\r\n";

/// The entry code arrives here with a translation that maps the image and the device tree only, and parks
/// the core when this returns. Without a device tree that names a UART, nothing can be said.
#[unsafe(no_mangle)]
extern "C" fn stasis_at_el1(device_tree: u64) {
    // SAFETY: the boot protocol hands over the device tree; the entry code has mapped it; it is never
    // written.
    let Ok(machine) = (unsafe { machine::find(device_tree) }) else { return };
    // SAFETY: this is the place for it.
    unsafe { boot::map_device_at_el1(machine.uart.device.frame.start) };
    // SAFETY: the frame was just mapped, and nothing else runs.
    let uart = unsafe { crate::serial(machine.uart) };
    uart.init();
    COMPLAINT.bytes().for_each(|byte| uart.write(byte));
}
