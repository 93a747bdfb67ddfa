//! A real-time application on ArceOS: its main thread has a deadline each 20 ms, while two other
//! threads compute in turns.
//!
//! After every 10 deadlines it prints a [`Beat`](pace::Beat), as `pulse` does, and how far the
//! other threads are. What this asks of its machine that `pulse` does not: the physical timer, a
//! kernel that switches threads at its interrupts, and WFI behind all of that.
//!
//! No thread sleeps: ArceOS (axtask 0.3.0-preview.1) looks whether a thread was woken, and then
//! blocks it, with interrupts let in between. A timer that fires there is forgotten, and the thread
//! sleeps for ever.

#![no_std]
#![no_main]

#[path = "../../guests/src/pace.rs"]
#[expect(dead_code, reason = "the host reads what this writes")]
mod pace;
#[path = "../../guests/src/workload.rs"]
#[expect(dead_code, reason = "counter has more to do")]
mod workload;

extern crate alloc;

use alloc::vec;
use axstd::os::arceos::api::time::ax_monotonic_time;
use axstd::os::arceos::modules::axhal::asm::wait_for_irqs;
use axstd::{println, thread, time::Duration};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use pace::Pace;

const PERIOD: Duration = Duration::from_millis(20);
const BEATS_PER_LINE: u64 = 10;
const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

/// The number of rounds of each of the other threads.
static ROUNDS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Returns the guest's time since it was switched on, in nanoseconds.
fn now() -> u64 {
    ax_monotonic_time().as_nanos() as u64
}

/// Computes a little, and leaves the rest of the time to others.
fn compute(rounds: &AtomicU64) {
    let mut words = vec![0; 1024];
    workload::fill(&mut words);
    loop {
        let round = rounds.load(Relaxed) + 1;
        workload::tick(&mut words, round);
        rounds.store(round, Relaxed);
        thread::yield_now();
    }
}

#[unsafe(no_mangle)]
fn main() {
    let mut words = vec![0; workload::SMALL];
    workload::fill(&mut words);
    println!("arceos: {} words, a deadline each {} ms", words.len(), PERIOD.as_millis());
    for rounds in &ROUNDS {
        thread::spawn(|| compute(rounds));
    }
    let mut pace = Pace::new(now(), PERIOD.as_nanos() as u64);
    let mut done = 0;
    loop {
        while now() < pace.deadline() {
            wait_for_irqs();
            thread::yield_now();
        }
        let number = pace.beat(now());
        while done < number {
            done += 1;
            workload::tick(&mut words, done);
            if done.is_multiple_of(BEATS_PER_LINE) {
                let beat = pace.tell(now(), NANOSECONDS_PER_SECOND, workload::hash(&words));
                println!("{}", pace::Beat { number: done, ..beat });
                println!("threads {} {}", ROUNDS[0].load(Relaxed), ROUNDS[1].load(Relaxed));
            }
        }
    }
}
