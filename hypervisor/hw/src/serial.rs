//! The console's UART, of whichever kind it is.

use crate::mini_uart::MiniUart;
use crate::pl011::Pl011;

/// A UART of the machine, which is the console.
#[derive(Clone, Copy, Debug)]
pub enum Serial {
    /// Arm's PL011.
    Pl011(Pl011),
    /// The Raspberry Pi's mini UART.
    Mini(MiniUart),
}

impl Serial {
    /// Switches the UART on, with an interrupt for received bytes.
    pub fn init(&self) {
        match self {
            Self::Pl011(uart) => uart.init(),
            Self::Mini(uart) => uart.init(),
        }
    }

    /// Makes the UART keep as many bytes as it can before they are read. [`Self::init`] must come
    /// behind it.
    pub fn use_fifos(&self) {
        match self {
            Self::Pl011(uart) => uart.use_fifos(),
            // The mini UART always has them.
            Self::Mini(_) => {}
        }
    }

    /// Sends one byte. Waits while the FIFO is full.
    pub fn write(&self, byte: u8) {
        match self {
            Self::Pl011(uart) => uart.write(byte),
            Self::Mini(uart) => uart.write(byte),
        }
    }

    /// Takes what was received first: a byte and its error flags, as in bits \[11:0\] of a PL011's
    /// UARTDR. Returns `None` if there is nothing.
    pub fn read(&self) -> Option<u32> {
        match self {
            Self::Pl011(uart) => uart.read(),
            Self::Mini(uart) => uart.read().map(u32::from),
        }
    }
}
