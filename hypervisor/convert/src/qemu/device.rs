//! The sections of the devices that Stasis has as well: `pl011`, `pl031`, `pl061` (hw/char/pl011.c,
//! hw/rtc/pl031.c, hw/gpio/pl061.c).

use stasis_state::device::{PL011_FIFO, Pl011, Pl031, Pl061};

use super::fields::{Fields, Way};
use crate::error::Error;

/// UARTLCR_H.FEN: the FIFO has all of its entries, else one (DDI 0183G, 3.3.7).
const FEN: u32 = 1 << 4;
/// UARTCR.LBE: the UART's outputs are its inputs.
const LBE: u32 = 1 << 7;
/// UARTRIS: a byte was received.
const RX: u32 = 1 << 4;
/// UARTFR: the FIFO of received bytes is empty, or full; that of bytes to send is empty.
const RXFE: u32 = 1 << 4;
const RXFF: u32 = 1 << 6;
const TXFE: u32 = 1 << 7;
/// A modem's lines in UARTCR, and what each is in UARTFR if the UART is in loopback mode: DTR is
/// DSR, RTS is CTS, OUT1 is DCD, OUT2 is RI (3.3.8).
const LOOPS: [(u32, u32); 4] =
    [(1 << 10, 1 << 1), (1 << 11, 1 << 0), (1 << 12, 1 << 2), (1 << 13, 1 << 8)];

/// Passes the state of the UART.
pub(super) fn pl011(fields: &mut Fields<'_>, uart: &mut Pl011) -> Result<(), Error> {
    for (name, register) in [
        ("lcr", &mut *uart.lcr_h),
        ("rsr", &mut *uart.rsr),
        ("cr", &mut *uart.cr),
        ("dmacr", &mut *uart.dmacr),
        ("int_enabled", &mut *uart.imsc),
        ("int_level", &mut *uart.ris),
        ("ilpr", &mut *uart.ilpr),
        ("ibrd", &mut *uart.ibrd),
        ("fbrd", &mut *uart.fbrd),
        ("ifl", &mut *uart.ifls),
    ] {
        fields.exchange(name, 0, register)?;
    }
    let depth = if *uart.lcr_h & FEN != 0 { PL011_FIFO } else { 1 };
    fields.exchange("read_count", 0, &mut *uart.rx_count)?;
    let count = usize::from(*uart.rx_count);
    if count > depth {
        return Err(Error::FieldTooSmall { field: "read_count".into(), value: count as u64 });
    }
    match fields.way {
        Way::ToQemu => {
            fields.set("read_pos", 0, 0)?;
            for (n, entry) in uart.rx_fifo.iter().enumerate() {
                fields.set("read_fifo", n, (*entry).into())?;
            }
            fields.set("flags", 0, flags(uart, depth).into())
        }
        Way::FromQemu => {
            let first = fields.get("read_pos", 0)? as usize % depth;
            *uart.rx_fifo = [0; PL011_FIFO];
            for (n, entry) in uart.rx_fifo.iter_mut().enumerate().take(count.max(1)) {
                *entry = fields.get("read_fifo", (first + n) % depth)? as u16 & 0xfff;
            }
            // In QEMU a driver can clear the interrupt before it has read all bytes. Here it is a
            // level.
            if count > 0 {
                *uart.ris |= RX;
            }
            Ok(())
        }
    }
}

/// Returns UARTFR.
fn flags(uart: &Pl011, depth: usize) -> u32 {
    let count = usize::from(*uart.rx_count);
    let mut flags = TXFE;
    flags |= if count == 0 { RXFE } else { 0 };
    flags |= if count == depth { RXFF } else { 0 };
    if *uart.cr & LBE != 0 {
        let loops = LOOPS.iter().filter(|(output, _)| *uart.cr & output != 0);
        flags |= loops.fold(0, |lines, (_, input)| lines | input);
    }
    flags
}

/// Passes the state of the real-time clock. Both count from the host's wall time.
pub(super) fn pl031(fields: &mut Fields<'_>, clock: &mut Pl031) -> Result<(), Error> {
    for (name, register) in [
        ("tick_offset", &mut *clock.offset),
        ("mr", &mut *clock.mr),
        ("lr", &mut *clock.lr),
        ("im", &mut *clock.imsc),
        ("is", &mut *clock.ris),
    ] {
        fields.exchange(name, 0, register)?;
    }
    Ok(())
}

/// Passes the state of the GPIO controller, but for what is at its inputs: nothing, and a key that
/// is up.
pub(super) fn pl061(fields: &mut Fields<'_>, gpio: &mut Pl061) -> Result<(), Error> {
    for (name, register) in [
        ("dir", &mut *gpio.dir),
        ("isense", &mut *gpio.is),
        ("ibe", &mut *gpio.ibe),
        ("iev", &mut *gpio.iev),
        ("im", &mut *gpio.ie),
        ("afsel", &mut *gpio.afsel),
        ("istate", &mut *gpio.edges),
    ] {
        fields.exchange(name, 0, register)?;
    }
    let data = fields.get("data", 0)? as u8;
    match fields.way {
        Way::ToQemu => {
            let data = data & !*gpio.dir | *gpio.data & *gpio.dir;
            fields.set("data", 0, data.into())?;
            fields.set("old_out_data", 0, (*gpio.data & *gpio.dir).into())
        }
        Way::FromQemu => {
            *gpio.data = data & *gpio.dir;
            // What QEMU keeps for level-sensitive lines follows from their levels.
            *gpio.edges &= !*gpio.is;
            *gpio.key_until = 0;
            Ok(())
        }
    }
}
