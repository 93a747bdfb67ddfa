//! A real-time guest: looks at when it runs, and how late the interrupts of its timer are.
//!
//! First it computes and watches the counter. Where the counter leaps, somebody else had the core.
//! For each [`SAMPLES`] times that it had the core it prints `ran <least> to <most> ns, away
//! <least> to <most> ns`. Then its timer fires each millisecond while it waits in WFI, and for as
//! many ticks it prints `late <least> to <most> ns`. And so on.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use stasis_guests::mmio::{read32, write32};
use stasis_guests::sysreg::{unmask_irqs, wfi};
use stasis_guests::{gic, msr, println, timer};

stasis_guests::entry!(main, irq);

const SAMPLES: usize = 20;
/// A leap of the counter that no exit of its own explains.
const LEAP_US: u64 = 100;
/// From one tick to the next.
const PERIOD_US: u64 = 1000;
const PRIORITY: u8 = 0xa0;

static DEADLINE: AtomicU64 = AtomicU64::new(0);
static LATE: AtomicU64 = AtomicU64::new(NOT_YET);
const NOT_YET: u64 = u64::MAX;

/// The least and the most of some times, in ticks.
struct Range {
    least: u64,
    most: u64,
}

impl Range {
    const NONE: Self = Self { least: u64::MAX, most: 0 };

    fn add(&mut self, ticks: u64) {
        self.least = self.least.min(ticks);
        self.most = self.most.max(ticks);
    }
}

impl core::fmt::Display for Range {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        let ns = |ticks: u64| ticks * 1_000_000_000 / timer::frequency();
        write!(f, "{} to {} ns", ns(self.least), ns(self.most))
    }
}

fn main() {
    gic::init();
    gic::enable(timer::VIRTUAL, PRIORITY);
    unmask_irqs();
    loop {
        watch();
        tick();
    }
}

/// Watches the counter.
fn watch() {
    let leap = timer::frequency() * LEAP_US / 1_000_000;
    let (mut ran, mut away) = (Range::NONE, Range::NONE);
    next_leap(timer::now(), leap);
    let (mut begin, mut samples) = (timer::now(), 0);
    while samples < SAMPLES {
        let (before, after) = next_leap(begin, leap);
        ran.add(before - begin);
        away.add(after - before);
        begin = after;
        samples += 1;
    }
    println!("ran {ran}, away {away}");
}

/// Returns what the counter was before its next leap after `last`, and behind it.
fn next_leap(mut last: u64, leap: u64) -> (u64, u64) {
    loop {
        let now = timer::now();
        if now - last > leap {
            return (last, now);
        }
        last = now;
    }
}

/// Waits for the timer, again and again.
fn tick() {
    let mut late = Range::NONE;
    for _ in 0..SAMPLES {
        let deadline = timer::now() + timer::frequency() * PERIOD_US / 1_000_000;
        LATE.store(NOT_YET, Relaxed);
        DEADLINE.store(deadline, Relaxed);
        msr!("CNTV_CVAL_EL0", deadline);
        msr!("CNTV_CTL_EL0", timer::ENABLE);
        while LATE.load(Relaxed) == NOT_YET {
            wfi();
        }
        late.add(LATE.load(Relaxed));
    }
    println!("late {late}");
}

fn irq() {
    let iar = read32(gic::GICC_IAR);
    if iar & 0x3ff == timer::VIRTUAL {
        LATE.store(timer::now() - DEADLINE.load(Relaxed), Relaxed);
        msr!("CNTV_CTL_EL0", 0);
    }
    write32(gic::GICC_EOIR, iar);
}
