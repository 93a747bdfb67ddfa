//! The machine's console: a PL011 UART (ARM DDI 0183G), as the firmware or QEMU has set it up.

use crate::mmio::{Frame, Offset};
use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};
use tock_registers::register_bitfields;

register_bitfields! { u32,
    /// 3.3.1.
    UARTDR [
        /// The error flags and the byte.
        RECEIVED OFFSET(0) NUMBITS(12) [],
        DATA OFFSET(0) NUMBITS(8) []
    ],
    /// 3.3.3.
    UARTFR [
        RXFE OFFSET(4) NUMBITS(1) [],
        TXFF OFFSET(5) NUMBITS(1) []
    ],
    /// 3.3.7.
    UARTLCR_H [
        FEN OFFSET(4) NUMBITS(1) []
    ],
    /// 3.3.8.
    UARTCR [
        UARTEN OFFSET(0) NUMBITS(1) [],
        TXE OFFSET(8) NUMBITS(1) [],
        RXE OFFSET(9) NUMBITS(1) []
    ],
    /// 3.3.10; UARTICR has the same layout.
    UARTIMSC [
        RXIM OFFSET(4) NUMBITS(1) [],
        RTIM OFFSET(6) NUMBITS(1) []
    ]
}

const DR: Offset<u32, UARTDR::Register> = Offset::new(0x000);
const FR: Offset<u32, UARTFR::Register> = Offset::new(0x018);
const LCR_H: Offset<u32, UARTLCR_H::Register> = Offset::new(0x02c);
const CR: Offset<u32, UARTCR::Register> = Offset::new(0x030);
const IMSC: Offset<u32, UARTIMSC::Register> = Offset::new(0x038);
const ICR: Offset<u32> = Offset::new(0x044);
/// UARTPeriphID0 to 3 and UARTPCellID0 to 3, 3.3.15.
const ID0: Offset<u32> = Offset::new(0xfe0);

/// Bytes of the frame.
const LEN: usize = 0x1000;

/// A PL011. The driver leaves the speed and the format as they were.
#[derive(Clone, Copy, Debug)]
pub struct Pl011 {
    frame: Frame<LEN>,
}

impl Pl011 {
    /// Returns the driver of the UART in `frame`.
    pub const fn new(frame: Frame<LEN>) -> Self {
        Self { frame }
    }

    /// Returns UARTPeriphID0 to 3 and UARTPCellID0 to 3 (3.3.15).
    pub fn identification(&self) -> [u32; 8] {
        core::array::from_fn(|n| self.frame.at(ID0.index(n)).get())
    }

    /// Switches the UART on, with an interrupt for received bytes.
    pub fn init(&self) {
        self.frame.at(CR).write(UARTCR::UARTEN::SET + UARTCR::TXE::SET + UARTCR::RXE::SET);
        self.frame.at(ICR).set(0x7ff);
        self.frame.at(IMSC).write(UARTIMSC::RXIM::SET + UARTIMSC::RTIM::SET);
    }

    /// Makes the UART keep as many bytes as it can before they are read. What was received until
    /// then is lost. [`Self::init`] must come behind it: the UART is off meanwhile, as 3.3.7 wants
    /// it.
    pub fn use_fifos(&self) {
        self.frame.at(CR).write(UARTCR::UARTEN::CLEAR);
        self.frame.at(LCR_H).modify(UARTLCR_H::FEN::SET);
        // A byte that was received before is gone now. QEMU (10.0) has stopped to look for more
        // when it came, and looks again when UARTDR is read.
        let _ = self.frame.at(DR).get();
    }

    /// Sends one byte. Waits while the FIFO is full.
    pub fn write(&self, byte: u8) {
        while self.frame.at(FR).is_set(UARTFR::TXFF) {
            core::hint::spin_loop();
        }
        self.frame.at(DR).write(UARTDR::DATA.val(byte.into()));
    }

    /// Takes what was received first: bits \[11:0\] of UARTDR, the byte and its error flags.
    /// Returns `None` if there is nothing.
    pub fn read(&self) -> Option<u32> {
        if self.frame.at(FR).is_set(UARTFR::RXFE) {
            return None;
        }
        Some(self.frame.at(DR).read(UARTDR::RECEIVED))
    }
}
