//! The PL011: identification, registers, transmit and receive interrupts, FIFO.

use crate::interrupts;
use stasis_guests::mmio::{read8, read16, read32, write32};
use stasis_guests::uart::*;
use stasis_guests::{gic, println};

/// Prints it.
pub fn probe() {
    for group in [PERIPH_ID, PERIPH_ID + 16] {
        println!(
            "UART ID {:x} {:x} {:x} {:x}",
            read32(group),
            read32(group + 4),
            read32(group + 8),
            read32(group + 12)
        );
    }
    println!("UART ID by byte {:x} by half {:x}", read8(PERIPH_ID), read16(PERIPH_ID));
    println!(
        "FR {:#x} LCR_H {:#x} CR {:#x} IFLS {:#x}",
        read32(FR),
        read32(LCR_H),
        read32(CR),
        read32(IFLS)
    );
    println!("IMSC {:#x} MIS {:#x} RSR {:#x}", read32(IMSC), read32(MIS), read32(RSR));
    write32(IBRD, 0xd_000d);
    write32(FBRD, 0x41);
    println!("IBRD {:#x} FBRD {:#x}", read32(IBRD), read32(FBRD));
    write32(IMSC, 0);
    write32(IFLS, 0x12);

    transmit();
    receive(1);
    receive(3);
    receive_before_a_clear();
    gic::set_bit(gic::GICD_ICENABLER, interrupts::UART);
}

/// The transmit interrupt is there once something was sent.
fn transmit() {
    const TX: u32 = 1 << 5;
    gic::enable(interrupts::UART, 0x80);
    write32(ICR, 0x7ff);
    println!("transmitted: RIS {:#x}", read32(RIS) & TX);
    write32(IMSC, TX);
    println!("UART taken {}", interrupts::wait());
    println!("MIS {:#x}", read32(MIS));
    write32(ICR, TX);
    println!("cleared: RIS {:#x}", read32(RIS) & TX);
}

/// A byte that comes before its driver clears the interrupt: hardware tells of it all the same.
fn receive_before_a_clear() {
    write32(IMSC, 0);
    println!("send 1");
    while read32(FR) & FR_RXFE != 0 {
        core::hint::spin_loop();
    }
    write32(ICR, 0x7ff);
    println!("~ receive level RIS {:#x}", read32(RIS) & INT_RX);
    println!("received {:#x}", get());
}

/// The first byte comes while the CPU sleeps; the others are looked for.
fn receive(count: usize) {
    write32(IMSC, INT_RX | INT_RT);
    println!("send {count}");
    println!("UART taken {}", interrupts::wait());
    for _ in 0..count {
        println!("received {:#x}", get());
    }
    println!(
        "FR {:#x} RIS {:#x}",
        read32(FR) & (FR_RXFE | FR_TXFF),
        read32(RIS) & (INT_RX | INT_RT)
    );
}
