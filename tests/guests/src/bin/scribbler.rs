//! Two CPUs that store at random to all of the GIC, and to the wall clock, for ever: whatever a
//! guest can bring about there.
//!
//! IRQs stay masked. It prints `scribbling`, and after each [`ROUND`] stores of the first CPU how
//! many there were. The UART alone is left in peace, for it has the transcript.

#![no_std]
#![no_main]

use stasis_guests::mmio::{read32, write8, write32};
use stasis_guests::random::Random;
use stasis_guests::second::Second;
use stasis_guests::{gic, println, rtc, runtime};

stasis_guests::entry!(main, runtime::no_irq);

/// Stores from one line to the next.
const ROUND: u64 = 1 << 14;

/// GICC has its registers at the beginning, its active priorities, and GICC_DIR.
const INTERFACE: [(usize, usize); 3] =
    [(gic::GICC, 0x20), (gic::GICC_APR, 0x20), (gic::GICC_DIR, 4)];

fn main() {
    println!("scribbling");
    if Second::on(0) == 0 {
        Second::context();
        Second::begin(on_second, 0x5eed2);
    }
    let mut random = Random(0x5eed1);
    for round in 1.. {
        scribble(&mut random);
        println!("{} stores", round * ROUND);
    }
}

fn on_second(seed: u64) -> u64 {
    let mut random = Random(seed);
    loop {
        scribble(&mut random);
    }
}

fn scribble(random: &mut Random) {
    for _ in 0..ROUND {
        let value = value(random);
        match random.next() % 16 {
            0 => write32(word(random, rtc::RTC, 0x20), value),
            1..=3 => write32(word(random, gic::GICD, 0x1000), value),
            // Priorities and targets can be accessed byte by byte.
            4 => write8(gic::GICD_IPRIORITYR + (random.next() % 0x400) as usize, value as u8),
            5 => write8(gic::GICD_ITARGETSR + (random.next() % 0x400) as usize, value as u8),
            6 => write32(word(random, gic::GICD_SGIR, 0x40), value),
            // Whatever is offered is taken, and ended in another order, if at all.
            7 => _ = read32(gic::GICC_IAR),
            // So that something is offered.
            8 => {
                write32(gic::GICD_CTLR, 3);
                write32(gic::GICC_PMR, 0xf8);
                write32(gic::GICC_CTLR, value | 3);
            }
            n => {
                let (start, size) = INTERFACE[n as usize % INTERFACE.len()];
                write32(word(random, start, size), value);
            }
        }
    }
}

/// Returns the address of one of the words of a range.
fn word(random: &mut Random, start: usize, size: usize) -> usize {
    start + random.next() as usize % (size / 4) * 4
}

/// Of every size, and often at an end.
fn value(random: &mut Random) -> u32 {
    let value = random.next() as u32;
    match random.next() % 8 {
        0 => 0,
        1 => !0,
        2 => 1 << (value % 32),
        3 | 4 => value % 8,
        5 => value % 1024,
        _ => value,
    }
}
