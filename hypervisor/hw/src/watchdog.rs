//! The Raspberry Pi's watchdog, in its power management: it resets the SoC. A register that
//! survives the reset tells the firmware whether the board then starts again or stays off (Linux,
//! drivers/watchdog/bcm2835_wdt.c; there is no manual).

use crate::mmio::{Frame, Offset};
use tock_registers::interfaces::{ReadWriteable, Writeable};
use tock_registers::register_bitfields;

// The hardware ignores writes without the password.
register_bitfields! { u32,
    /// Action when the time is over.
    RSTC [
        PASSWORD OFFSET(24) NUMBITS(8) [ Password = 0x5a ],
        WRCFG OFFSET(4) NUMBITS(2) [ FullReset = 0b10 ]
    ],
    /// Reason of the reset. Every second one of the lower bits is a bit of the partition to start
    /// from.
    RSTS [
        PASSWORD OFFSET(24) NUMBITS(8) [ Password = 0x5a ],
        PARTITION OFFSET(0) NUMBITS(12) [
            /// Partition 63: the firmware stays off.
            Halt = 0x555
        ]
    ],
    /// Time that is left, in units of about 15 microseconds.
    WDOG [
        PASSWORD OFFSET(24) NUMBITS(8) [ Password = 0x5a ],
        TIME OFFSET(0) NUMBITS(20) []
    ]
}

const RSTC: Offset<u32, RSTC::Register> = Offset::new(0x1c);
const RSTS: Offset<u32, RSTS::Register> = Offset::new(0x20);
const WDOG: Offset<u32, WDOG::Register> = Offset::new(0x24);

/// Bytes of the frame.
const LEN: usize = 0x28;

/// The watchdog of a Raspberry Pi.
#[derive(Clone, Copy, Debug)]
pub struct Watchdog {
    frame: Frame<LEN>,
}

impl Watchdog {
    /// Returns the driver of the watchdog in `frame`.
    pub const fn new(frame: Frame<LEN>) -> Self {
        Self { frame }
    }

    /// Switches the board off, a moment after the function has returned.
    pub fn power_off(&self) {
        /// Units of the time until the reset: long enough for the last write to arrive.
        const TIME: u32 = 10;
        self.frame.at(RSTS).modify(RSTS::PASSWORD::Password + RSTS::PARTITION::Halt);
        self.frame.at(WDOG).write(WDOG::PASSWORD::Password + WDOG::TIME.val(TIME));
        self.frame.at(RSTC).modify(RSTC::PASSWORD::Password + RSTC::WRCFG::FullReset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::fake::{Bus, Device, frame};
    use std::vec::Vec;

    const PASSWORD: u64 = 0x5a << 24;

    /// The registers, which take no write without the password, and what has happened in their
    /// order.
    struct Fake {
        registers: [u64; LEN / 4],
        log: Vec<usize>,
    }

    impl Device for Fake {
        fn read(&mut self, offset: usize, _: usize) -> u64 {
            self.registers[offset / 4]
        }

        fn write(&mut self, offset: usize, _: usize, value: u64) {
            if value & 0xff << 24 == PASSWORD {
                self.registers[offset / 4] = value & !(0xff << 24);
                self.log.push(offset);
            }
        }
    }

    #[test]
    fn powering_off_says_the_password_keeps_what_else_stands_there_and_starts_the_reset_last() {
        let mut registers = [0; LEN / 4];
        (registers[0x1c / 4], registers[0x20 / 4]) = (0x0000_0102, 0x0000_1000);
        let fake = Bus::attach(0x1000, LEN, Fake { registers, log: Vec::new() });
        Watchdog::new(frame(0x1000)).power_off();
        let fake = fake.borrow();
        assert_eq!(fake.log, [0x20, 0x24, 0x1c]);
        assert_eq!(fake.registers[0x1c / 4], 0x0000_0122);
        assert_eq!(fake.registers[0x20 / 4], 0x0000_1555);
        assert_eq!(fake.registers[0x24 / 4], 0x0000_000a);
    }
}
