//! Plays with the other guests that share its first region of memory: each in its turn adds to what
//! is there, and rings the next.
//!
//! Each checks what the one before it has left. Each [`TELL_EVERY`] of its turns it prints `round
//! <number> hash <hash>`. If it is its turn and nobody has rung for some seconds, it says so, and
//! goes on. A guest that is no player can ask it: a number in [`REQUEST`], and a ring, is answered
//! with the number and 1 in [`REPLY`], and a ring back.
//!
//! Told so by an `h` on its UART, it does with the memory and the doorbell what nobody should.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use stasis_guests::exception::{catch, catch_call};
use stasis_guests::mmio::{read8, read16, read32, write8, write32};
use stasis_guests::ring::{TABLE_WORDS, TELL_EVERY, next};
use stasis_guests::sysreg::{unmask_irqs, wfi};
use stasis_guests::{gic, msr, println, timer, uart};

stasis_guests::entry!(main, irq);

/// The memory.
const MEMORY: usize = 0x1000_0000;
const ROUND: usize = MEMORY;
const HASH: usize = MEMORY + 0x04;
const REQUEST: usize = MEMORY + 0x80;
const REPLY: usize = MEMORY + 0x84;
const TABLE: usize = MEMORY + 0x1000;
/// Bytes of it, as the tests configure it.
const SIZE: usize = 1 << 20;

/// The doorbell.
const DOORBELL: usize = 0x0911_0000;
const INDEX: usize = DOORBELL;
const PEERS: usize = DOORBELL + 0x04;
const RING: usize = DOORBELL + 0x08;
const STATUS: usize = DOORBELL + 0x0c;
/// The device's interrupt.
const BELL: u32 = 43;

const PRIORITY: u8 = 0xa0;
/// How often it looks without being rung.
const LOOKS_HZ: u64 = 20;
/// How often it looks until it does not wait for the bell any more.
const PATIENCE: u32 = 100;

static RUNG: AtomicU32 = AtomicU32::new(0);

fn main() {
    gic::init();
    gic::enable(BELL, PRIORITY);
    gic::enable(timer::VIRTUAL, PRIORITY);
    set_timer();
    unmask_irqs();
    let (me, peers) = (read32(INDEX), read32(PEERS));
    println!("guest {me} of {peers}");
    let mut waited = 0;
    loop {
        let rung = RUNG.swap(0, Relaxed);
        let round = read32(ROUND);
        let is_turn = round % peers == me;
        waited = if is_turn && rung == 0 { waited + 1 } else { 0 };
        if is_turn && (rung != 0 || round == 0 || waited > PATIENCE) {
            if rung == 0 && round > 0 {
                println!("round {round} came without a bell");
            }
            play(round, peers);
        }
        if rung != 0 {
            answer(rung);
        }
        if read32(uart::FR) & uart::FR_RXFE == 0 && uart::get() == b'h' {
            misuse();
        }
        if RUNG.load(Relaxed) == 0 {
            wfi();
        }
    }
}

fn play(round: u32, peers: u32) {
    let hash = read32(HASH);
    let place = |round: u32| TABLE + (round % TABLE_WORDS) as usize * 4;
    if round > 0 && read32(place(round - 1)) != hash {
        println!("FAULT: round {round} finds {:08x}, not {hash:08x}", read32(place(round - 1)));
    }
    if (round / peers).is_multiple_of(TELL_EVERY) {
        println!("round {round} hash {hash:08x}");
    }
    let hash = next(hash, round);
    write32(place(round), hash);
    write32(HASH, hash);
    barrier();
    write32(ROUND, round + 1);
    barrier();
    write32(RING, (round + 1) % peers);
}

fn answer(rung: u32) {
    let request = read32(REQUEST);
    if request != 0 {
        write32(REQUEST, 0);
        write32(REPLY, request + 1);
        barrier();
        write32(RING, rung.trailing_zeros());
    }
}

/// What was written before is seen before what is written later.
fn barrier() {
    // SAFETY: a barrier changes nothing.
    unsafe { core::arch::asm!("dmb sy", options(nostack, preserves_flags)) }
}

fn set_timer() {
    msr!("CNTV_CVAL_EL0", timer::now() + timer::frequency() / LOOKS_HZ);
    msr!("CNTV_CTL_EL0", timer::ENABLE);
}

fn irq() {
    let iar = read32(gic::GICC_IAR);
    match iar & 0x3ff {
        BELL => {
            let status = read32(STATUS);
            write32(STATUS, status);
            RUNG.fetch_or(status, Relaxed);
        }
        timer::VIRTUAL => set_timer(),
        _ => {}
    }
    write32(gic::GICC_EOIR, iar);
}

/// What nobody should do. Each line says whether it was answered by a fault.
fn misuse() {
    let faults = |what: &str, action: fn()| {
        println!("{what}: {}", if catch(action).is_some() { "a fault" } else { "no fault" });
    };
    faults("behind the memory", || drop_value(read32(MEMORY + SIZE)));
    faults("into the gap, written", || write32(MEMORY + SIZE, 1));
    faults("where a second region would be", || drop_value(read32(0x1800_0000)));
    faults("a second doorbell", || write32(DOORBELL + 0x1008, 0));
    faults("the doorbell askew", || drop_value(read16(STATUS + 1).into()));
    faults("nobody, rung", || write32(RING, 7));
    faults("far too many, rung", || write32(RING, !0));
    faults("registers that there are not", || {
        for offset in (0x10..0x1000).step_by(4) {
            write32(DOORBELL + offset, !0);
        }
    });
    faults("registers that are read only", || {
        write32(INDEX, 5);
        write32(PEERS, 5);
        write8(INDEX, 5);
    });
    println!("it is guest {} of {} still", read8(INDEX), read32(PEERS));
    let called = catch_call(MEMORY + SIZE - 4);
    println!("the memory, executed: {}", if called.is_some() { "a fault" } else { "no fault" });
    println!("done");
}

fn drop_value(_: u32) {}
