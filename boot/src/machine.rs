//! The machine that the firmware's device tree describes.

use core::ops::Deref;
use dtoolkit::fdt::Fdt;
use stasis_host::board::{self, MachineError, Uart, UartKind};
use stasis_hw::mini_uart::MiniUart;
use stasis_hw::mmio::Frame;
use stasis_hw::pl011::Pl011;
use stasis_hw::serial::Serial;

const _: () = assert!(board::MAX_CORES == stasis_arch::boot::MAX_CORES);

/// Returns what the device tree at the physical address `address` says of the machine.
///
/// # Safety
///
/// `address` is that of the device tree that the boot protocol passes, in mapped memory that nobody
/// writes for `'a`.
pub unsafe fn find<'a>(address: u64) -> Result<board::Machine<'a>, MachineError> {
    // SAFETY: the caller says that a device tree stands at `address`, readable and unchanged for
    // `'a`. The header of anything else is refused.
    let fdt = unsafe { Fdt::from_raw(address as *const u8) }
        .map_err(|_| MachineError::DeviceTree { address })?;
    board::Machine::describe(fdt, address)
}

/// The machine, and the proof that EL2 reaches it: RAM as memory, and its devices' registers as
/// devices, at the addresses that are said of them.
pub struct Machine<'a>(board::Machine<'a>);

impl<'a> Machine<'a> {
    /// Returns the machine.
    ///
    /// # Safety
    ///
    /// 1. [`find`] has returned `described`, and what the firmware says there is true.
    /// 2. For ever, and on every core that is started, EL2's translation maps its
    ///    [RAM](board::Machine::mappable_ram) one to one as normal memory and its [devices'
    ///    registers](board::Machine::device_frames) one to one as device memory.
    pub unsafe fn reached(described: board::Machine<'a>) -> Self {
        Self(described)
    }
}

impl<'a> Deref for Machine<'a> {
    type Target = board::Machine<'a>;

    fn deref(&self) -> &board::Machine<'a> {
        &self.0
    }
}

/// Returns the driver of a UART.
///
/// # Safety
///
/// The frame of the UART is mapped one to one as a device, and nothing else uses it.
pub unsafe fn serial(uart: Uart) -> Serial {
    let base = uart.device.frame.start as usize;
    // SAFETY: 1. The caller says that the frame is mapped one to one as a device. 2. Nothing else
    // uses the UART, which changes no memory.
    unsafe {
        match uart.kind {
            UartKind::Pl011 => Serial::Pl011(Pl011::new(Frame::new(base))),
            UartKind::Mini => Serial::Mini(MiniUart::new(Frame::new(base))),
        }
    }
}
