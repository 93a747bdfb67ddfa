//! What either CPU can be asked to do.

use stasis_guests::mmio::{read8, read32, write8, write32};
use stasis_guests::second::Second;
use stasis_guests::timer::{frequency, now};
use stasis_guests::{gic, timer};

/// Until what must come has come. Only a fault lets it pass.
const LONG_MS: u64 = 10_000;
/// In which what must not come could have come.
const SHORT_MS: u64 = 10;

/// One of the two CPUs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cpu {
    /// The one that prints.
    First,
    /// The other.
    Second,
}

impl Cpu {
    /// Returns the bit of the CPU in a mask of CPUs.
    pub fn mask(self) -> u32 {
        1 << self as u32
    }

    /// Returns the other CPU.
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    /// Calls `function` on it.
    pub fn call(self, function: fn(u64) -> u64, argument: u64) -> u64 {
        match self {
            Self::First => function(argument),
            Self::Second => Second::ask(function, argument),
        }
    }

    /// Reads a device register there.
    pub fn read(self, address: usize) -> u32 {
        self.call(|address| read32(address as usize).into(), address as u64) as u32
    }

    /// Writes a device register there.
    pub fn write(self, address: usize, value: u32) {
        let packed = (address as u64) << 32 | u64::from(value);
        self.call(
            |packed| {
                write32((packed >> 32) as usize, packed as u32);
                0
            },
            packed,
        );
    }

    /// Writes a byte of a device register there.
    pub fn write_byte(self, address: usize, value: u8) {
        let packed = (address as u64) << 32 | u64::from(value);
        self.call(
            |packed| {
                write8((packed >> 32) as usize, packed as u8);
                0
            },
            packed,
        );
    }

    /// Writes the interrupt's bit in a bank of one bit each.
    pub fn set(self, bank: usize, intid: u32) {
        self.write(bank + intid as usize / 32 * 4, 1 << (intid % 32));
    }

    /// Acknowledges there what is to come: what IAR says.
    pub fn take(self) -> u32 {
        self.take_within(LONG_MS)
    }

    /// Acknowledges there, although nothing should come.
    pub fn take_nothing(self) -> u32 {
        self.take_within(SHORT_MS)
    }

    /// Acknowledges there what comes before so many milliseconds have passed.
    pub fn take_within(self, ms: u64) -> u32 {
        self.call(acknowledge, ms) as u32
    }

    /// Returns the highest pending interrupt of the CPU, once that is `expected`.
    pub fn highest(self, expected: u32) -> u32 {
        self.call(
            |expected| {
                let end = now() + frequency() * LONG_MS / 1000;
                loop {
                    let found = read32(gic::GICC_HPPIR);
                    if u64::from(found) == expected || now() > end {
                        return found.into();
                    }
                    core::hint::spin_loop();
                }
            },
            expected.into(),
        ) as u32
    }

    /// Ends an interrupt there.
    pub fn end(self, iar: u32) {
        self.write(gic::GICC_EOIR, iar);
    }
}

fn acknowledge(ms: u64) -> u64 {
    let end = now() + frequency() * ms / 1000;
    loop {
        let found = read32(gic::GICC_IAR);
        if found & 0x3ff != gic::SPURIOUS || now() > end {
            return found.into();
        }
        core::hint::spin_loop();
    }
}

/// Returns the targets of an SPI.
pub fn targets(intid: u32) -> u8 {
    read8(gic::GICD_ITARGETSR + intid as usize)
}

/// Sets them.
pub fn set_targets(intid: u32, mask: u32) {
    write8(gic::GICD_ITARGETSR + intid as usize, mask as u8);
}

/// Lets some time pass in which things may go wrong.
pub fn settle() {
    timer::spin_ms(SHORT_MS);
}
