//! A console for a boot that ends before the device tree has named one, so that no boot ends in
//! silence.
//!
//! The boards' PL011s are looked for at their known addresses ([`stasis_host::board::early`]).
//! Another machine may have nothing at such an address, and the look may end in an abort. Then
//! nothing is printed.

use crate::memory;
use core::sync::atomic::{AtomicBool, Ordering};
use stasis_arch::mmu;
use stasis_host::board::early::{PL011S, is_pl011};
use stasis_hw::mmio::Frame;
use stasis_hw::pl011::Pl011;
use stasis_hw::serial::Serial;

/// Returns a UART, or `None` if none is found. Looks only once, because what goes wrong here ends
/// here again.
///
/// # Safety
///
/// The boot has come to its end: only this core runs, and this program uses nothing but the image
/// and the result from now on. Nothing else stays mapped.
pub unsafe fn find() -> Option<Serial> {
    static LOOKED: AtomicBool = AtomicBool::new(false);
    if LOOKED.swap(true, Ordering::Relaxed) {
        return None;
    }
    let translation = memory::map_early(&PL011S).ok()?;
    // SAFETY: 1. This is a 39-bit translation with 4 KiB pages that maps the image one to one, as
    // the linker laid it out. This program uses nothing else any more, by the caller. 2. Its tables
    // are never freed. 3. The translation before it is one to one, too.
    unsafe { mmu::install(translation.root()) };
    PL011S.iter().find_map(|range| {
        // SAFETY: 1. The range was mapped one to one as a device just now. 2. Only this core runs,
        // by the caller, and a UART changes no memory.
        let uart = Pl011::new(unsafe { Frame::new(range.start as usize) });
        is_pl011(uart.identification()).then_some(Serial::Pl011(uart))
    })
}
