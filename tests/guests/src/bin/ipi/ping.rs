//! 65,536 SGIs in a row, each sent when the one before has been taken; then many SPIs that change
//! their target.

use crate::cpus::set_targets;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use stasis_guests::mmio::{read32, write32};
use stasis_guests::second::{Second, this_cpu};
use stasis_guests::sysreg::{mask_irqs, unmask_irqs, wfi};
use stasis_guests::timer::{frequency, now};
use stasis_guests::{gic, msr, println, timer};

/// SGIs when the CPUs sleep between them.
const ASLEEP: u32 = 65_536;
/// And when they look out for them, each in the other's way where there are fewer cores than that.
const AWAKE: u32 = 2_048;
/// After so many the first CPU gives a sign of life.
const SIGN: u32 = 1_024;
/// The longest time between two signs of life, however slow the machine is.
const PATIENCE_SECONDS: u64 = 280;
/// To the second CPU, and back.
const PING: u32 = 1;
const PONG: u32 = 2;
/// Ends a game for a CPU that sleeps.
const WAKE: u32 = 3;
/// An SPI without a device behind it.
const SPI: u32 = 100;
/// How often it changes its target.
const MOVES: u32 = 2_000;

/// SGIs in this game.
static COUNT: AtomicU32 = AtomicU32::new(0);
/// SGIs that were sent, and those that were taken.
static SENT: AtomicU32 = AtomicU32::new(0);
static TAKEN: AtomicU32 = AtomicU32::new(0);
/// Interrupts that came from somebody else, or out of order.
static WRONG: AtomicU32 = AtomicU32::new(0);
static SPIS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
/// CPUs sleep between interrupts, or else look for them.
static SLEEP: AtomicBool = AtomicBool::new(false);
static WOKEN: AtomicBool = AtomicBool::new(false);
static OVER: AtomicBool = AtomicBool::new(false);

/// The guest's IRQ handler, on both.
pub fn irq() {
    let iar = read32(gic::GICC_IAR);
    let (cpu, intid) = (this_cpu(), iar & 0x3ff);
    match intid {
        gic::SPURIOUS => return,
        PING | PONG => {
            let expected = if cpu == 1 { PING } else { PONG | 1 << 10 };
            let number = TAKEN.fetch_add(1, SeqCst) + 1;
            if iar != expected || SENT.load(SeqCst) != number {
                WRONG.fetch_add(1, SeqCst);
            }
            if number.is_multiple_of(SIGN) {
                // Taken by the first CPU, whose timer it is: every second SGI is.
                be_patient();
                println!("{number} taken");
            }
            if number < COUNT.load(SeqCst) {
                send(cpu);
            } else {
                OVER.store(true, SeqCst);
            }
        }
        // Something was lost.
        timer::VIRTUAL => {
            msr!("CNTV_CTL_EL0", 0);
            OVER.store(true, SeqCst);
        }
        WAKE => WOKEN.store(true, SeqCst),
        SPI => {
            SPIS[cpu].fetch_add(1, SeqCst);
        }
        _ => {
            WRONG.fetch_add(1, SeqCst);
        }
    }
    write32(gic::GICC_EOIR, iar);
}

/// Sets the calling CPU's timer to the time at which something was lost, if no sign of life comes
/// until then.
fn be_patient() {
    msr!("CNTV_CVAL_EL0", now() + PATIENCE_SECONDS * frequency());
}

fn send(from: usize) {
    SENT.fetch_add(1, SeqCst);
    let to_other = if from == 0 { 2 << 16 | PING } else { 1 << 16 | PONG };
    write32(gic::GICD_SGIR, to_other);
}

/// Lets interrupts in until the game is over.
fn play_along(_: u64) -> u64 {
    while !OVER.load(SeqCst) {
        if SLEEP.load(SeqCst) {
            // Masked, so that the interrupt cannot come between the look and the sleep.
            wfi();
        }
        unmask_irqs();
        core::hint::spin_loop();
        mask_irqs();
    }
    0
}

fn game(sleep: bool) {
    COUNT.store(if sleep { ASLEEP } else { AWAKE }, SeqCst);
    for counter in [&SENT, &TAKEN, &WRONG] {
        counter.store(0, SeqCst);
    }
    SLEEP.store(sleep, SeqCst);
    OVER.store(false, SeqCst);
    gic::enable(timer::VIRTUAL, 0x40);
    be_patient();
    msr!("CNTV_CTL_EL0", timer::ENABLE);
    Second::begin(play_along, 0);
    send(0);
    play_along(0);
    msr!("CNTV_CTL_EL0", 0);
    write32(gic::GICD_ICENABLER, 1 << timer::VIRTUAL);
    // The other vCPU may sleep, or have gone on without noticing.
    WOKEN.store(false, SeqCst);
    write32(gic::GICD_SGIR, 2 << 16 | WAKE);
    Second::answer();
    Second::ask(
        |_| {
            unmask_irqs();
            while !WOKEN.load(SeqCst) {
                core::hint::spin_loop();
            }
            mask_irqs();
            0
        },
        0,
    );
    println!(
        "{}: {} SGIs sent, {} taken, {} from somebody else",
        if sleep { "asleep" } else { "awake" },
        SENT.load(SeqCst),
        TAKEN.load(SeqCst),
        WRONG.load(SeqCst)
    );
}

/// Prints it.
pub fn play() {
    gic::init();
    Second::ask(
        |_| {
            gic::init();
            for sgi in 0..16 {
                gic::set_priority(sgi, 0x80);
            }
            0
        },
        0,
    );
    for sgi in 0..16 {
        gic::set_priority(sgi, 0x80);
    }
    game(true);
    game(false);
    moves();
}

/// An SPI is sent and at once given to the other CPU: it is taken by one of them, once.
fn moves() {
    gic::enable(SPI, 0x80);
    const EDGE: u32 = 2;
    write32(gic::GICD_ICFGR + SPI as usize / 16 * 4, EDGE << (SPI % 16 * 2));
    OVER.store(false, SeqCst);
    SLEEP.store(false, SeqCst);
    Second::begin(
        |_| {
            unmask_irqs();
            while !OVER.load(SeqCst) {
                core::hint::spin_loop();
            }
            mask_irqs();
            0
        },
        0,
    );
    unmask_irqs();
    let taken = || SPIS[0].load(SeqCst) + SPIS[1].load(SeqCst);
    let mut lost = 0;
    for number in 0..MOVES {
        set_targets(SPI, 1 << (number & 1));
        gic::set_bit(gic::GICD_ISPENDR, SPI);
        set_targets(SPI, 2 >> (number & 1));
        let end = now() + 2 * frequency();
        while taken() + lost <= number {
            if now() > end {
                lost += 1;
            }
            core::hint::spin_loop();
        }
    }
    OVER.store(true, SeqCst);
    mask_irqs();
    Second::answer();
    gic::set_bit(gic::GICD_ICENABLER, SPI);
    println!("moved while pending: {MOVES} sent, {} taken, {lost} lost", taken());
}
