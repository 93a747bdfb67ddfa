//! Goes from board to board with two CPUs, and watches that they stay one machine.
//!
//! Whenever the real-time clock has gone on it prints `second <RTCDR> count <CNTVCT>`. What is not
//! as it should be is printed as `FAULT <what>`, once for each: time that goes back, also between
//! one CPU and the other; a CPU that is another than the first one was; and old instructions that
//! run where new ones were written.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use stasis_guests::code::execute;
use stasis_guests::mmio::read32;
use stasis_guests::second::Second;
use stasis_guests::{mrs, msr, println, rtc, runtime, timer};

stasis_guests::entry!(main, runtime::no_irq);

/// The latest time that a CPU has seen.
static LATEST: AtomicU64 = AtomicU64::new(0);
/// How often a CPU has seen a time before that, and by how much at most.
static BACK: AtomicU64 = AtomicU64::new(0);
static BACK_BY: AtomicU64 = AtomicU64::new(0);

/// Rounds between two looks at the clock, which traps.
const ROUNDS: u64 = 2000;

/// A name, and how to read what it names.
type Register = (&'static str, fn() -> u64);

/// What a guest is shown of its CPU, and may keep for ever.
const IDENTITY: &[Register] = &[
    ("MIDR_EL1", || mrs!("MIDR_EL1")),
    ("REVIDR_EL1", || mrs!("REVIDR_EL1")),
    ("AIDR_EL1", || mrs!("AIDR_EL1")),
    ("CTR_EL0", || mrs!("CTR_EL0")),
    ("DCZID_EL0", || mrs!("DCZID_EL0")),
    ("ID_AA64PFR0_EL1", || mrs!("ID_AA64PFR0_EL1")),
    ("ID_AA64DFR0_EL1", || mrs!("ID_AA64DFR0_EL1")),
    ("ID_AA64ISAR0_EL1", || mrs!("ID_AA64ISAR0_EL1")),
    ("ID_AA64MMFR0_EL1", || mrs!("ID_AA64MMFR0_EL1")),
];

fn snapshot() -> [u64; IDENTITY.len()] {
    core::array::from_fn(|i| IDENTITY[i].1())
}

/// Compares times with the other CPU, `rounds` times; for ever, if that is 0.
fn compare_times(rounds: u64) -> u64 {
    let mut round = 0;
    while rounds == 0 || round < rounds {
        round += 1;
        let latest = LATEST.load(SeqCst);
        let now = timer::now();
        if now < latest {
            BACK.fetch_add(1, SeqCst);
            BACK_BY.fetch_max(latest - now, SeqCst);
        }
        LATEST.fetch_max(now, SeqCst);
    }
    round
}

/// Writes `movz x0, #<value>` where its predecessor was, and runs it.
fn runs_what_was_written(value: u64) -> bool {
    // SAFETY: It changes X0 alone.
    let result = unsafe { execute(0xd280_0000 | (value as u32 & 0xffff) << 5, 0) };
    result.is_ok_and(|result| result == value & 0xffff)
}

/// Returns the geometry of the first-level caches, which is the core's own: reading it must not
/// fault.
fn caches() -> [u64; 3] {
    let select = |cache| {
        msr!("CSSELR_EL1", cache);
        mrs!("CCSIDR_EL1")
    };
    [mrs!("CLIDR_EL1"), select(0), select(1)]
}

fn main() {
    let expected = snapshot();
    for (i, (name, _)) in IDENTITY.iter().enumerate() {
        println!("{name} {:#x}", expected[i]);
    }
    Second::on(0);
    Second::context();
    Second::begin(compare_times, 0);
    let mut reported = [false; IDENTITY.len()];
    let (mut second, mut written, mut geometry, mut back, mut stale) = (0, 0, [0; 3], 0, false);
    loop {
        compare_times(ROUNDS);
        written += 1;
        if !runs_what_was_written(written) && !stale {
            stale = true;
            println!("FAULT old instructions run");
        }
        let now = read32(rtc::DR);
        if now == second {
            continue;
        }
        let count = timer::now();
        second = now;
        println!("second {second} count {count}");
        if caches() != geometry {
            geometry = caches();
            println!("caches {geometry:x?}");
        }
        let found = BACK.load(SeqCst);
        if found != back {
            back = found;
            println!("FAULT time went back {back} times, by up to {}", BACK_BY.load(SeqCst));
        }
        for (i, (name, read)) in IDENTITY.iter().enumerate() {
            let found = read();
            if found != expected[i] && !reported[i] {
                reported[i] = true;
                println!("FAULT {name} is {found:#x}, was {:#x}", expected[i]);
            }
        }
    }
}
