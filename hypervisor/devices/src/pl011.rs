//! The PL011 UART (ARM DDI 0183G), as QEMU's `virt` has it.
//!
//! Three things are as in QEMU and not as in the manual. A byte that is written has been sent at
//! once. The receive interrupt comes with the first byte, whatever UARTIFLS says, so there is no
//! receive timeout. The enable bits of UARTCR and the baud rate have no effect. UARTIFLS is kept
//! for the guest to read.
//!
//! One thing is as in the manual and not as in QEMU: the receive interrupt is a level. It is high
//! as long as the FIFO has anything, also after a write to UARTICR. In QEMU (10.0) such a write
//! lowers it until the FIFO has been empty. Then a driver that drains the FIFO and afterwards
//! clears the interrupt never hears of a byte that came in between. On hardware the receive timeout
//! (2.8.4) tells of it.

use stasis_state::device::{PL011_FIFO, Pl011};
use tock_registers::LocalRegisterCopy;

use crate::access::{read_words, write_words};
use crate::device::{Access, Context, Device, Effects, Outside, Window};
use crate::equipment::Equipment;
use crate::tree::Writer;
use fields::{CR, DR, FR, INT, LCR_H};
use stasis_state::machine::DeviceKind;

/// The UART's name in the device tree.
pub const NODE: &str = "pl011@9000000";

/// The registers' offsets, DDI 0183G table 3-1.
mod offset {
    pub const DR: u64 = 0x000;
    pub const RSR_ECR: u64 = 0x004;
    pub const FR: u64 = 0x018;
    pub const ILPR: u64 = 0x020;
    pub const IBRD: u64 = 0x024;
    pub const FBRD: u64 = 0x028;
    pub const LCR_H: u64 = 0x02c;
    pub const CR: u64 = 0x030;
    pub const IFLS: u64 = 0x034;
    pub const IMSC: u64 = 0x038;
    pub const RIS: u64 = 0x03c;
    pub const MIS: u64 = 0x040;
    pub const ICR: u64 = 0x044;
    pub const DMACR: u64 = 0x048;
    pub const PERIPH_ID0: u64 = 0xfe0;
}

#[allow(missing_docs, reason = "register_bitfields! documents no enumerated values")]
mod fields {
    tock_registers::register_bitfields! {u32,
        /// UARTDR.
        pub DR [
            /// Break error.
            BE OFFSET(10) NUMBITS(1) [],
            /// The error flags that go into UARTRSR: overrun, break, parity, framing.
            ERRORS OFFSET(8) NUMBITS(4) [],
            DATA OFFSET(0) NUMBITS(8) [],
            /// A received byte and its error flags.
            RECEIVED OFFSET(0) NUMBITS(12) []
        ],
        /// UARTRSR.
        pub RSR [
            /// Overrun error.
            OE OFFSET(3) NUMBITS(1) []
        ],
        /// UARTFR.
        pub FR [
            RI OFFSET(8) NUMBITS(1) [],
            TXFE OFFSET(7) NUMBITS(1) [],
            RXFF OFFSET(6) NUMBITS(1) [],
            TXFF OFFSET(5) NUMBITS(1) [],
            RXFE OFFSET(4) NUMBITS(1) [],
            DCD OFFSET(2) NUMBITS(1) [],
            DSR OFFSET(1) NUMBITS(1) [],
            CTS OFFSET(0) NUMBITS(1) []
        ],
        /// UARTLCR_H.
        pub LCR_H [
            /// Enable FIFOs.
            FEN OFFSET(4) NUMBITS(1) [],
            /// Send break.
            BRK OFFSET(0) NUMBITS(1) []
        ],
        /// UARTCR.
        pub CR [
            OUT2 OFFSET(13) NUMBITS(1) [],
            OUT1 OFFSET(12) NUMBITS(1) [],
            RTS OFFSET(11) NUMBITS(1) [],
            DTR OFFSET(10) NUMBITS(1) [],
            /// Loopback enable.
            LBE OFFSET(7) NUMBITS(1) []
        ],
        /// UARTIMSC, UARTRIS, UARTMIS and UARTICR.
        pub INT [
            /// All interrupts.
            ALL OFFSET(0) NUMBITS(11) [],
            /// Overrun.
            OE OFFSET(10) NUMBITS(1) [],
            /// Overrun, break, parity and framing, in the order of UARTDR's flags.
            ERRORS OFFSET(7) NUMBITS(4) [],
            TX OFFSET(5) NUMBITS(1) [],
            RX OFFSET(4) NUMBITS(1) [],
            DSR OFFSET(3) NUMBITS(1) [],
            DCD OFFSET(2) NUMBITS(1) [],
            CTS OFFSET(1) NUMBITS(1) [],
            RI OFFSET(0) NUMBITS(1) []
        ]
    }
}

/// Values of UARTPeriphID0 to 3 and UARTPCellID0 to 3.
const IDS: [u8; 8] = [0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// One character that arrives at a UART: a byte with its error flags, or a break. Bits \[11:0\] of
/// UARTDR (3.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Character(u16);

impl Character {
    /// A break: the line was low for longer than a byte takes.
    pub const BREAK: Self = Self(DR::BE::SET.value as u16);

    /// Returns the character in a value read from UARTDR. Reserved bits are ignored.
    pub fn from_data_register(value: u32) -> Self {
        Self(DR::RECEIVED.read(value) as u16)
    }

    /// Returns the byte; for [`Character::BREAK`] it is 0.
    pub fn byte(self) -> u8 {
        DR::DATA.read(self.0.into()) as u8
    }

    /// Returns whether the character is a break.
    pub fn is_break(self) -> bool {
        DR::BE.is_set(self.0.into())
    }
}

impl From<u8> for Character {
    fn from(byte: u8) -> Self {
        Self(byte.into())
    }
}

/// The error of [`receive`]: the FIFO has no room for a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Device for Pl011 {
    const WINDOW: Window = Window { base: 0x0900_0000, size: 0x1000, count: 1, spi: Some(1) };
    const KIND: DeviceKind = DeviceKind::PL011;
    type Record = Self;

    fn fitted(_: &Equipment<'_>) -> Option<Self> {
        Some(Self::default())
    }

    fn restored(mut record: Self, _: u64) -> Self {
        // An older Stasis, whose receive interrupt was no level, may have stored bytes that the
        // guest was not told of.
        settle(&mut record);
        record
    }

    fn record(&self) -> &Self {
        self
    }

    #[inline]
    fn read(&mut self, access: Access, _: &mut impl Context) -> u64 {
        read(self, access)
    }

    #[inline]
    fn write(&mut self, access: Access, value: u64, _: &mut impl Context) -> Effects {
        write(self, access, value).map(Outside::Transmit).into()
    }

    /// Returns the level of UARTINTR: whether it is high.
    #[inline]
    fn line(&self, _: u8) -> bool {
        *self.ris & *self.imsc != 0
    }

    fn describe(_: &Equipment<'_>, tree: &mut Writer) {
        tree.primecell(NODE, "arm,pl011", &Self::WINDOW, &["uartclk", "apb_pclk"]);
    }
}

/// Reads from a register.
#[inline]
pub fn read(uart: &mut Pl011, access: Access) -> u64 {
    read_words(access.offset, access.width, |offset| read_word(uart, offset))
}

/// Writes to a register. Returns the byte that the guest sends by this, if it sends one.
#[inline]
pub fn write(uart: &mut Pl011, access: Access, value: u64) -> Option<u8> {
    let mut sent = None;
    write_words(access.offset, access.width, value, |offset, word| {
        // At most one of the words is UARTDR.
        if let byte @ Some(_) = write_word(uart, offset, word) {
            sent = byte;
        }
    });
    sent
}

/// Returns whether [`receive`] has room for a byte.
pub fn can_receive(uart: &Pl011) -> bool {
    queued(uart) < depth(uart)
}

/// Puts a byte or a break that arrives for the guest into the FIFO. In loopback mode it is dropped
/// without an error.
///
/// # Errors
///
/// [`Full`] if the FIFO has no room: nothing was changed then.
pub fn receive(uart: &mut Pl011, character: impl Into<Character>) -> Result<(), Full> {
    if is_loopback(uart) {
        return Ok(());
    }
    if !can_receive(uart) {
        return Err(Full);
    }
    push(uart, character.into().0);
    Ok(())
}

#[inline]
fn read_word(uart: &mut Pl011, offset: u64) -> u32 {
    // Registers are words: the low two bits of a narrow access's offset do not matter.
    match offset & !3 {
        offset::DR => pop(uart),
        offset::RSR_ECR => *uart.rsr,
        offset::FR => flags(uart),
        offset::ILPR => *uart.ilpr,
        offset::IBRD => *uart.ibrd,
        offset::FBRD => *uart.fbrd,
        offset::LCR_H => *uart.lcr_h,
        offset::CR => *uart.cr,
        offset::IFLS => *uart.ifls,
        offset::IMSC => *uart.imsc,
        offset::RIS => *uart.ris,
        offset::MIS => *uart.ris & *uart.imsc,
        offset::DMACR => *uart.dmacr,
        id @ offset::PERIPH_ID0.. => {
            let index = (id - offset::PERIPH_ID0) as usize / 4;
            IDS.get(index).copied().unwrap_or(0).into()
        }
        _ => 0,
    }
}

/// Writes a register. Returns the byte that the guest sends by this, if it sends one.
#[inline]
fn write_word(uart: &mut Pl011, offset: u64, value: u32) -> Option<u8> {
    match offset & !3 {
        offset::DR => {
            if is_loopback(uart) {
                push_or_overrun(uart, DR::DATA.read(value) as u16);
            }
            *uart.ris |= INT::TX::SET.value;
            return Some(value as u8);
        }
        // A write of any value to UARTECR clears the errors.
        offset::RSR_ECR => *uart.rsr = 0,
        offset::ILPR => *uart.ilpr = value & 0xff,
        offset::IBRD => *uart.ibrd = value & 0xffff,
        offset::FBRD => *uart.fbrd = value & 0x3f,
        offset::LCR_H => write_line_control(uart, value & 0xff),
        offset::CR => {
            *uart.cr = value & 0xffff;
            loop_modem_lines(uart);
        }
        offset::IFLS => *uart.ifls = value & 0x3f,
        offset::IMSC => *uart.imsc = INT::ALL.read(value),
        offset::ICR => {
            *uart.ris &= !value;
            settle(uart);
        }
        offset::DMACR => *uart.dmacr = value & 7,
        _ => {}
    }
    None
}

fn write_line_control(uart: &mut Pl011, value: u32) {
    let changed = *uart.lcr_h ^ value;
    if LCR_H::FEN.is_set(changed) {
        *uart.rx_count = 0;
        settle(uart);
    }
    *uart.lcr_h = value;
    if LCR_H::BRK.is_set(changed) && LCR_H::BRK.is_set(value) && is_loopback(uart) {
        push_or_overrun(uart, DR::BE::SET.value as u16);
    }
}

/// In loopback mode, copies the modem's outputs to its inputs (3.3.8): OUT2 to RI, OUT1 to DCD, RTS
/// to CTS, DTR to DSR.
fn loop_modem_lines(uart: &mut Pl011) {
    if !is_loopback(uart) {
        return;
    }
    let flags = LocalRegisterCopy::<u32, FR::Register>::new(flags(uart));
    let mut ris = LocalRegisterCopy::<u32, INT::Register>::new(*uart.ris);
    ris.modify(
        INT::RI.val(flags.read(FR::RI))
            + INT::DCD.val(flags.read(FR::DCD))
            + INT::CTS.val(flags.read(FR::CTS))
            + INT::DSR.val(flags.read(FR::DSR)),
    );
    *uart.ris = ris.get();
}

fn flags(uart: &Pl011) -> u32 {
    let mut flags = FR::TXFE::SET
        + FR::RXFE.val((queued(uart) == 0).into())
        + FR::RXFF.val((!can_receive(uart)).into());
    if is_loopback(uart) {
        let cr = *uart.cr;
        flags += FR::RI.val(CR::OUT2.read(cr))
            + FR::DCD.val(CR::OUT1.read(cr))
            + FR::CTS.val(CR::RTS.read(cr))
            + FR::DSR.val(CR::DTR.read(cr));
    }
    flags.value
}

fn is_loopback(uart: &Pl011) -> bool {
    CR::LBE.is_set(*uart.cr)
}

fn depth(uart: &Pl011) -> usize {
    if LCR_H::FEN.is_set(*uart.lcr_h) { PL011_FIFO } else { 1 }
}

/// Returns the number of bytes in the FIFO; never more than fit, whatever a file said.
fn queued(uart: &Pl011) -> usize {
    usize::from(*uart.rx_count).min(PL011_FIFO)
}

fn pop(uart: &mut Pl011) -> u32 {
    let count = queued(uart);
    let entry = uart.rx_fifo[0];
    if count > 0 {
        // The last entry stays: a read of the empty FIFO returns it again, as in QEMU.
        if count > 1 {
            uart.rx_fifo.copy_within(1..count, 0);
            uart.rx_fifo[count - 1] = 0;
        }
        *uart.rx_count = (count - 1) as u8;
    }
    settle(uart);
    *uart.rsr = DR::ERRORS.read(entry.into());
    entry.into()
}

/// Adds an entry to the FIFO. The caller has checked that there is room ([`can_receive`]).
fn push(uart: &mut Pl011, entry: u16) {
    let count = queued(uart);
    uart.rx_fifo[count] = entry;
    *uart.rx_count = (count + 1) as u8;
    *uart.ris |= INT::ERRORS.val(DR::ERRORS.read(entry.into())).value;
    settle(uart);
}

/// Computes the level of the receive interrupt from the FIFO.
fn settle(uart: &mut Pl011) {
    let mut ris = LocalRegisterCopy::<u32, INT::Register>::new(*uart.ris);
    ris.modify(INT::RX.val((queued(uart) > 0).into()));
    *uart.ris = ris.get();
}

fn push_or_overrun(uart: &mut Pl011, entry: u16) {
    if can_receive(uart) {
        push(uart, entry);
    } else {
        *uart.rsr |= fields::RSR::OE::SET.value;
        *uart.ris |= INT::OE::SET.value;
    }
}

#[cfg(test)]
mod tests;
