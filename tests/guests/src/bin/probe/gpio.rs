//! The PL061: identification, data lines, interrupts. What QEMU does in another way is left out:
//! `docs/guest-machine.md` says what that is.

use crate::interrupts;
use stasis_guests::gpio::*;
use stasis_guests::mmio::{read8, read32, write8, write32};
use stasis_guests::{gic, println};

/// Registers between the last word of GPIODATA and GPIOAFSEL, GPIOIC left out: it is written only.
const REGISTERS: [usize; 8] = [DIR, IS, IBE, IEV, IE, RIS, MIS, AFSEL];

/// Prints it.
pub fn probe() {
    for group in [ID, ID + 16, ID + 32] {
        let [a, b, c, d] = [0, 4, 8, 12].map(|at| read32(group + at));
        println!("GPIO ID {a:x} {b:x} {c:x} {d:x}");
    }
    registers("at reset");
    data();
    for register in [DIR, IS, IBE, IEV, IE, AFSEL] {
        write32(register, 0xffff_ffa5);
        println!("GPIO {:#x} keeps {:#x}", register - GPIO, read32(register));
        write32(register, 0);
    }
    write32(IC, 0xff);
    for (stray, width) in [(GPIO + 0x424, 32), (GPIO + 0x500, 32), (DIR + 1, 8), (GPIO + 0xfcc, 32)]
    {
        let read = if width == 8 { read8(stray).into() } else { read32(stray) };
        println!("GPIO {:#x} reads as {read:#x}", stray - GPIO);
    }
    level();
    registers("in the end");
}

fn registers(when: &str) {
    println!("GPIO {when} {:x?}", REGISTERS.map(read32));
}

/// Drives lines, by words and bytes, through the mask in the address. A line that is no output any
/// more is driven low before.
fn data() {
    write32(DIR, 0xf0);
    write32(DATA + 0x3fc, 0xff);
    println!("GPIO data {:#x}", read32(DATA + 0x3fc));
    write8(DATA + (0x30 << 2), 0x10);
    let [all, some, none] = [0xff, 0x90, 0].map(|mask: usize| read8(DATA + (mask << 2)));
    println!("GPIO data {all:#x}, of lines 4 and 7 {some:#x}, of none {none:#x}");
    write32(DATA + 0x3fc, 0);
    write32(DIR, 0);
    println!("GPIO data {:#x} of inputs", read32(DATA + 0x3fc));
}

/// Takes the interrupt of a level: line 3 is low, as nobody presses the power key.
fn level() {
    gic::enable(INTID, 0x60);
    write32(IEV, 0xff);
    write32(IS, KEY);
    println!("GPIO level, not reached: RIS {:#x} MIS {:#x}", read32(RIS), read32(MIS));
    write32(IEV, !KEY);
    println!("GPIO level: RIS {:#x} MIS {:#x}", read32(RIS), read32(MIS));
    write32(IE, KEY);
    println!("GPIO taken {}", interrupts::wait());
    write32(IC, KEY);
    println!("GPIO level, cleared: RIS {:#x} MIS {:#x}", read32(RIS), read32(MIS));
    for register in [IE, IS, IEV] {
        write32(register, 0);
    }
    write32(IC, 0xff);
    gic::set_bit(gic::GICD_ICENABLER, INTID);
}
