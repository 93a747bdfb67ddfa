//! A console for a boot that ends before the device tree has told of one, so that no boot is silent.
//!
//! The boards' PL011s are looked for at their known addresses ([`stasis_host::board::early`]). On a machine that is none of them there may be
//! nothing at such an address, and the look may end in an abort: then nobody hears of it, as before.

use crate::memory;
use core::sync::atomic::{AtomicBool, Ordering};
use stasis_arch::mmu;
use stasis_host::board::early::{PL011S, is_pl011};
use stasis_hw::mmio::Frame;
use stasis_hw::pl011::Pl011;
use stasis_hw::serial::Serial;

/// Finds a UART, once: what goes wrong on the way ends here again, and is not to look once more. To be called when the boot goes no
/// further; of what is mapped only the image stays.
pub fn find() -> Option<Serial> {
    static LOOKED: AtomicBool = AtomicBool::new(false);
    if LOOKED.swap(true, Ordering::Relaxed) {
        return None;
    }
    let translation = memory::map_early(&PL011S).ok()?;
    // SAFETY: 1. It is a translation of 39 bits with 4 KiB pages that maps the image one to one, as the linker laid it out, and this
    // program uses nothing else any more: the boot has come to its end. 2. Its tables are never freed.
    unsafe { mmu::install(translation.root()) };
    PL011S.iter().find_map(|range| {
        // SAFETY: the range was just mapped as a device, and nothing but this core runs.
        let uart = Pl011::new(unsafe { Frame::new(range.start as usize) });
        is_pl011(uart.identification()).then_some(Serial::Pl011(uart))
    })
}
