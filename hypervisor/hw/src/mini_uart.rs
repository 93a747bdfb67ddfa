//! The Raspberry Pi's mini UART (BCM2711 ARM Peripherals, 2.2), as the firmware or QEMU has set it
//! up. A mini UART is a 16550 without modem control, parity and some more.

use crate::mmio::{Frame, Offset};
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_bitfields;

register_bitfields! { u32,
    /// 2.2.2, AUX_MU_IER_REG. The manual exchanges the two interrupts, and says of bits 3 and 2
    /// that they need not be set to receive: they must be (the published errata).
    IER [
        RECEIVE OFFSET(0) NUMBITS(1) [],
        NEEDED OFFSET(2) NUMBITS(2) []
    ],
    /// AUX_MU_IIR_REG, as it is written.
    IIR [
        CLEAR_FIFOS OFFSET(1) NUMBITS(2) []
    ],
    /// AUX_MU_LCR_REG. The manual knows one bit of the size; both must be set for eight data bits
    /// (errata).
    LCR [
        DATA_SIZE OFFSET(0) NUMBITS(2) [
            EightBits = 0b11
        ]
    ],
    /// AUX_MU_LSR_REG.
    LSR [
        DATA_READY OFFSET(0) NUMBITS(1) [],
        TRANSMITTER_EMPTY OFFSET(5) NUMBITS(1) []
    ],
    /// AUX_MU_CNTL_REG.
    CNTL [
        RECEIVER OFFSET(0) NUMBITS(1) [],
        TRANSMITTER OFFSET(1) NUMBITS(1) []
    ]
}

const IO: Offset<u32> = Offset::new(0x00);
const IER: Offset<u32, IER::Register> = Offset::new(0x04);
const LCR: Offset<u32, LCR::Register> = Offset::new(0x0c);
const LSR: Offset<u32, LSR::Register> = Offset::new(0x14);
const CNTL: Offset<u32, CNTL::Register> = Offset::new(0x20);

/// Bytes of the frame.
const LEN: usize = 0x40;

/// A mini UART. The driver leaves the speed as it was: it depends on the clock of the VideoCore,
/// which only the firmware knows.
#[derive(Clone, Copy, Debug)]
pub struct MiniUart {
    frame: Frame<LEN>,
}

impl MiniUart {
    /// Returns the driver of the UART in `frame`.
    pub const fn new(frame: Frame<LEN>) -> Self {
        Self { frame }
    }

    /// Switches the UART on, with an interrupt for received bytes.
    pub fn init(&self) {
        self.frame.at(LCR).write(LCR::DATA_SIZE::EightBits);
        self.frame.at(CNTL).write(CNTL::RECEIVER::SET + CNTL::TRANSMITTER::SET);
        self.frame.at(IER).write(IER::RECEIVE::SET + IER::NEEDED.val(0b11));
    }

    /// Sends one byte. Waits while the FIFO is full.
    pub fn write(&self, byte: u8) {
        while !self.frame.at(LSR).is_set(LSR::TRANSMITTER_EMPTY) {
            core::hint::spin_loop();
        }
        self.frame.at(IO).set(byte.into());
    }

    /// Takes the byte that was received first; `None` if there is none. The UART reports no break
    /// and no errors on the line.
    pub fn read(&self) -> Option<u8> {
        if !self.frame.at(LSR).is_set(LSR::DATA_READY) {
            return None;
        }
        Some(self.frame.at(IO).get() as u8)
    }
}
