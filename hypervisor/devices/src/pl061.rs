//! A PL061 GPIO controller (ARM DDI 0190B) with a power key at line 3, as QEMU's `virt` has it.
//!
//! Nothing else is connected: lines that are inputs read as low, and what the guest drives to lines
//! that are outputs, it can read back. A press of the key ([`press`]) raises line 3 for 100 ms of
//! the guest's time. A Linux with the driver `gpio-keys` takes that for KEY_POWER.
//!
//! Two things are as in the manual and not as in QEMU (10.0). The interrupt of a level-sensitive
//! line ends with its level; in QEMU it stays until it is cleared in GPIOIC, which clears edges
//! alone. And a line that was driven high is low when it becomes an input; in QEMU it stays high.

use stasis_state::device::Pl061;

use crate::access::{read_words, write_words};
use crate::device::{Access, Clocks, Context, Deadline, Device, Due, Effects, Window};
use crate::equipment::Equipment;
use crate::tree::Writer;
use stasis_state::machine::DeviceKind;

/// The registers' offsets, DDI 0190B table 3-1.
mod offset {
    /// The first of 256 words, which are all GPIODATA: bits \[9:2\] of the offset are the mask of
    /// the lines that are accessed (3.3.1).
    pub const DATA: u64 = 0x000;
    pub const DATA_LAST: u64 = 0x3ff;
    pub const DIR: u64 = 0x400;
    pub const IS: u64 = 0x404;
    pub const IBE: u64 = 0x408;
    pub const IEV: u64 = 0x40c;
    pub const IE: u64 = 0x410;
    pub const RIS: u64 = 0x414;
    pub const MIS: u64 = 0x418;
    pub const IC: u64 = 0x41c;
    pub const AFSEL: u64 = 0x420;
    pub const PERIPH_ID4: u64 = 0xfd0;
}

/// Values of GPIOPeriphID4 to 7, which are reserved, of GPIOPeriphID0 to 3, and of GPIOPCellID0
/// to 3.
const IDS: [u8; 12] = [0, 0, 0, 0, 0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// Number of the line of the power key, and its bit in all registers.
const KEY_LINE: u32 = 3;
const KEY: u8 = 1 << KEY_LINE;
/// Linux's code of the power key: KEY_POWER.
const KEY_POWER: u32 = 116;
/// The key is down for a second divided by this.
const PRESSES_PER_SECOND: u64 = 10;

impl Device for Pl061 {
    const WINDOW: Window = Window { base: 0x0903_0000, size: 0x1000, count: 1, spi: Some(7) };
    const KIND: DeviceKind = DeviceKind::PL061;
    const HAS_CLOCK: bool = true;
    type Record = Self;

    fn fitted(_: &Equipment<'_>) -> Option<Self> {
        Some(Self::default())
    }

    fn restored(record: Self, _: u64) -> Self {
        record
    }

    fn record(&self) -> &Self {
        self
    }

    fn read(&mut self, access: Access, _: &mut impl Context) -> u64 {
        read_words(access.offset, access.width, |offset| read(self, offset).into())
    }

    fn write(&mut self, access: Access, value: u64, _: &mut impl Context) -> Effects {
        write_words(access.offset, access.width, value, |offset, word| {
            write(self, offset, word as u8);
        });
        Effects::NONE
    }

    /// Returns the level of GPIOINTR: whether it is high.
    #[inline]
    fn line(&self, _: u8) -> bool {
        raw_status(self) & *self.ie != 0
    }

    #[inline]
    fn tick(&mut self, clocks: &impl Clocks) {
        if is_down(self) && clocks.guest_time() >= *self.key_until {
            *self.key_until = 0;
            note_edge(self, !*self.iev);
        }
    }

    /// Returns the time at which the key comes up.
    #[inline]
    fn due(&self) -> Due {
        match *self.key_until {
            0 => Due::NEVER,
            ticks => Due::at(Deadline::GuestTime(ticks)),
        }
    }

    fn describe(_: &Equipment<'_>, tree: &mut Writer) {
        tree.begin_primecell("pl061@9030000", "arm,pl061", &Self::WINDOW, &["apb_pclk"]);
        tree.cell("#gpio-cells", 2);
        tree.empty("gpio-controller");
        let gpio = tree.phandle();
        tree.end();
        tree.begin("gpio-keys");
        tree.string("compatible", "gpio-keys");
        tree.begin("poweroff");
        tree.string("label", "GPIO Key Poweroff");
        tree.cell("linux,code", KEY_POWER);
        tree.cells("gpios", &[gpio, KEY_LINE, 0]);
        tree.end();
        tree.end();
    }
}

/// Presses the power key at the guest's time `now`, in ticks of `counter_hz`. A key that is down
/// already stays down for as long again.
pub fn press(gpio: &mut Pl061, now: u64, counter_hz: u64) {
    if !is_down(gpio) {
        note_edge(gpio, *gpio.iev);
    }
    *gpio.key_until = now.saturating_add(counter_hz / PRESSES_PER_SECOND).max(1);
}

/// Returns whether the guest hears of the power key: its line is an input whose interrupt is
/// enabled.
pub fn hears_key(gpio: &Pl061) -> bool {
    *gpio.ie & !*gpio.dir & KEY != 0
}

fn is_down(gpio: &Pl061) -> bool {
    *gpio.key_until != 0
}

/// Notes that the key's line has changed. `edges` has the lines of which an edge in that direction
/// counts.
fn note_edge(gpio: &mut Pl061, edges: u8) {
    *gpio.edges |= KEY & (edges | *gpio.ibe) & !*gpio.is & !*gpio.dir;
}

/// Returns the level of each line, whoever drives it.
fn levels(gpio: &Pl061) -> u8 {
    let key = if is_down(gpio) { KEY } else { 0 };
    *gpio.data & *gpio.dir | key & !*gpio.dir
}

/// Returns GPIORIS: the edges that were not cleared, and the level-sensitive lines that have the
/// level that GPIOIEV says.
fn raw_status(gpio: &Pl061) -> u8 {
    *gpio.edges | !(levels(gpio) ^ *gpio.iev) & *gpio.is
}

fn read(gpio: &Pl061, offset: u64) -> u8 {
    match offset {
        offset::DATA..=offset::DATA_LAST => levels(gpio) & mask(offset),
        offset::DIR => *gpio.dir,
        offset::IS => *gpio.is,
        offset::IBE => *gpio.ibe,
        offset::IEV => *gpio.iev,
        offset::IE => *gpio.ie,
        offset::RIS => raw_status(gpio),
        offset::MIS => raw_status(gpio) & *gpio.ie,
        offset::AFSEL => *gpio.afsel,
        id @ offset::PERIPH_ID4.. => {
            let index = (id - offset::PERIPH_ID4) as usize / 4;
            IDS.get(index).copied().unwrap_or(0)
        }
        _ => 0,
    }
}

fn write(gpio: &mut Pl061, offset: u64, value: u8) {
    match offset {
        offset::DATA..=offset::DATA_LAST => {
            let lines = mask(offset) & *gpio.dir;
            *gpio.data = *gpio.data & !lines | value & lines;
        }
        offset::DIR => *gpio.dir = value,
        offset::IS => *gpio.is = value,
        offset::IBE => *gpio.ibe = value,
        offset::IEV => *gpio.iev = value,
        offset::IE => *gpio.ie = value,
        offset::IC => *gpio.edges &= !value,
        offset::AFSEL => *gpio.afsel = value,
        _ => {}
    }
}

/// Returns the lines that an access to GPIODATA at `offset` is about.
fn mask(offset: u64) -> u8 {
    (offset >> 2) as u8
}

#[cfg(test)]
mod tests;
