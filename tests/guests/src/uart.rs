//! The PL011 (ARM DDI 0183G), polled, and `println!`.

use crate::mmio::{read32, write32};
use core::fmt;

/// The UART's registers.
pub const UART: usize = 0x0900_0000;
/// UARTDR, 3.3.1.
pub const DR: usize = UART;
/// UARTRSR/UARTECR, 3.3.2.
pub const RSR: usize = UART + 0x04;
/// UARTFR, 3.3.3.
pub const FR: usize = UART + 0x18;
/// UARTIBRD, 3.3.5.
pub const IBRD: usize = UART + 0x24;
/// UARTFBRD, 3.3.6.
pub const FBRD: usize = UART + 0x28;
/// UARTLCR_H, 3.3.7.
pub const LCR_H: usize = UART + 0x2c;
/// UARTCR, 3.3.8.
pub const CR: usize = UART + 0x30;
/// UARTIFLS, 3.3.9.
pub const IFLS: usize = UART + 0x34;
/// UARTIMSC, 3.3.10.
pub const IMSC: usize = UART + 0x38;
/// UARTRIS, 3.3.11.
pub const RIS: usize = UART + 0x3c;
/// UARTMIS, 3.3.12.
pub const MIS: usize = UART + 0x40;
/// UARTICR, 3.3.13.
pub const ICR: usize = UART + 0x44;
/// The identification registers, UARTPeriphID0 and on, 3.3.15.
pub const PERIPH_ID: usize = UART + 0xfe0;

/// UARTFR: the receive FIFO is empty.
pub const FR_RXFE: u32 = 1 << 4;
/// UARTFR: the transmit FIFO is full.
pub const FR_TXFF: u32 = 1 << 5;
/// UARTIMSC, RIS, MIS, ICR: receive.
pub const INT_RX: u32 = 1 << 4;
/// UARTIMSC, RIS, MIS, ICR: transmit.
pub const INT_TX: u32 = 1 << 5;
/// UARTIMSC, RIS, MIS, ICR: receive timeout.
pub const INT_RT: u32 = 1 << 6;

/// Sets the UART up: 8 bits, FIFOs on; transmit and receive.
pub fn init() {
    write32(IMSC, 0);
    write32(LCR_H, 0x70);
    write32(CR, 0x301);
}

/// Sends a byte.
pub fn put(byte: u8) {
    while read32(FR) & FR_TXFF != 0 {
        core::hint::spin_loop();
    }
    write32(DR, u32::from(byte));
}

/// Waits for a byte.
pub fn get() -> u8 {
    while read32(FR) & FR_RXFE != 0 {
        core::hint::spin_loop();
    }
    read32(DR) as u8
}

/// The UART as the target of `println!`.
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                put(b'\r');
            }
            put(byte);
        }
        Ok(())
    }
}

/// Prints a line on the UART.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => {{
        use core::fmt::Write;
        // The console's writer never fails.
        let _ = writeln!($crate::uart::Console, $($arg)*);
    }};
}
