//! The counters of a vCPU since it was made: time on its core, exits by reason, interrupts,
//! switches.
//!
//! [`Stats`] is written by the core that has the vCPU, and read by any other at any time, without a
//! lock: the console's `top` must not stop the guests that it measures. The counters are not part
//! of a checkpoint.
//!
//! All accesses are relaxed: each counter is one word that stands for itself, and no other data
//! depends on it.

use core::array;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::exit::{Exit, Wfx};

/// Why a vCPU has left its guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A physical interrupt of any kind, EL2's timer and kicks included.
    Interrupt,
    /// An access to an emulated device, or to an address where nothing is.
    Mmio,
    /// A trapped system register.
    Register,
    /// HVC or SMC.
    Call,
    /// A trapped WFI, WFE, WFIT or WFET.
    Wait,
    /// Anything else: first writes to memory, jumps and accesses that can't be carried out, cache
    /// maintenance where nothing is, errors.
    Fault,
}

impl Reason {
    /// All reasons, in the order of the counters.
    pub const ALL: [Self; 6] =
        [Self::Interrupt, Self::Mmio, Self::Register, Self::Call, Self::Wait, Self::Fault];

    /// Returns the reason's name in the console's table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "irq",
            Self::Mmio => "mmio",
            Self::Register => "sysreg",
            Self::Call => "call",
            Self::Wait => "wait",
            Self::Fault => "fault",
        }
    }

    /// Returns the reason of a synchronous exit.
    #[inline]
    pub const fn of(exit: &Exit) -> Self {
        match exit {
            Exit::DataAbort { .. } => Self::Mmio,
            Exit::SystemRegister(_) => Self::Register,
            Exit::Hvc { .. } | Exit::Smc { .. } => Self::Call,
            Exit::Wfx(Wfx::Wfi | Wfx::Wfe | Wfx::Wfit | Wfx::Wfet) => Self::Wait,
            Exit::DataAbortUnemulatable(_)
            | Exit::CacheMaintenance(_)
            | Exit::InstructionAbort(_)
            | Exit::Unknown { .. } => Self::Fault,
        }
    }
}

/// Bit of [`Stats::time`]: the vCPU is on its core.
const ON_CORE: u64 = 1 << 63;

/// A vCPU's counters.
#[derive(Debug, Default)]
pub struct Stats {
    /// Ticks that the vCPU has had on its core. While it is [`ON_CORE`]: the value that the counter
    /// had when the vCPU would have begun had it never left. Both are in one word, so that no
    /// reader sees a half of a change.
    time: AtomicU64,
    switches: AtomicU64,
    exits: [AtomicU64; Reason::ALL.len()],
}

/// The counters of a vCPU at one instant, or the difference between two instants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Value of the machine's counter; in a difference, the ticks between the two instants.
    pub at: u64,
    /// Ticks of the machine's counter for which the vCPU was on its core.
    pub ticks: u64,
    /// Number of times that the vCPU was put on its core.
    pub switches: u64,
    /// Number of interrupts that the vCPU has acknowledged.
    pub interrupts: u64,
    /// Number of times that the vCPU has left its guest, in the order of [`Reason::ALL`].
    pub exits: [u64; Reason::ALL.len()],
}

impl Stats {
    /// Returns counters that are all 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that the vCPU is put on its core, when the machine's counter is `now`.
    pub fn begin(&self, now: u64) {
        self.go_on(now);
        add_one(&self.switches);
    }

    /// Notes that the vCPU goes on after a wait on its core, when the machine's counter is `now`.
    /// The time of the wait does not count.
    pub fn go_on(&self, now: u64) {
        let had = self.time.load(Ordering::Relaxed) & !ON_CORE;
        self.time.store(now.wrapping_sub(had) | ON_CORE, Ordering::Relaxed);
    }

    /// Notes that the vCPU is taken off its core, or waits there, when the machine's counter is
    /// `now`.
    pub fn end(&self, now: u64) {
        self.time.store(ticks(self.time.load(Ordering::Relaxed), now), Ordering::Relaxed);
    }

    /// Notes that the vCPU has left its guest.
    #[inline]
    pub fn left(&self, reason: Reason) {
        add_one(&self.exits[reason as usize]);
    }

    /// Returns the counters. `interrupts` is the number that the vCPU's GIC has counted. `counter`
    /// reads the machine's counter; it is called after the time is read, so that it is not behind.
    pub fn snapshot(&self, interrupts: u64, counter: impl FnOnce() -> u64) -> Snapshot {
        let time = self.time.load(Ordering::Relaxed);
        let at = counter();
        Snapshot {
            at,
            ticks: ticks(time, at),
            switches: self.switches.load(Ordering::Relaxed),
            interrupts,
            exits: array::from_fn(|index| self.exits[index].load(Ordering::Relaxed)),
        }
    }
}

/// Returns the ticks that a vCPU has had whose [`Stats::time`] is `time`, when the machine's
/// counter is `now`.
fn ticks(time: u64, now: u64) -> u64 {
    if time & ON_CORE != 0 { now.wrapping_sub(time) & !ON_CORE } else { time }
}

impl Snapshot {
    /// Returns the difference between `earlier` and this.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            at: self.at.saturating_sub(earlier.at),
            ticks: self.ticks.saturating_sub(earlier.ticks),
            switches: self.switches.saturating_sub(earlier.switches),
            // If another guest has come to this place, its counter began at 0.
            interrupts: self.interrupts.saturating_sub(earlier.interrupts),
            exits: array::from_fn(|index| self.exits[index].saturating_sub(earlier.exits[index])),
        }
    }
}

/// Adds 1 to a counter. Only one core writes at a time, so no exclusive access is needed.
#[inline]
fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_while_it_is_on_its_core_and_not_else() {
        let stats = Stats::new();
        assert_eq!(stats.snapshot(0, || 1000).ticks, 0);
        stats.begin(1000);
        assert_eq!(stats.snapshot(0, || 1250).ticks, 250);
        stats.end(1300);
        assert_eq!(stats.snapshot(0, || 9999).ticks, 300);
        stats.begin(10_000);
        assert_eq!(stats.snapshot(0, || 10_001).ticks, 301);
        stats.end(10_010);
        assert_eq!(stats.snapshot(0, || u64::MAX).ticks, 310);
        assert_eq!(stats.snapshot(0, || 0).switches, 2);
    }

    #[test]
    fn a_vcpu_that_has_had_more_than_the_counter_shows_is_counted_right() {
        let stats = Stats::new();
        stats.begin(500);
        stats.end(900);
        // As after the counter was set back.
        stats.begin(100);
        assert_eq!(stats.snapshot(0, || 150).ticks, 450);
    }

    #[test]
    fn exits_are_counted_by_their_reason() {
        let stats = Stats::new();
        stats.left(Reason::of(&Exit::Hvc { imm: 0 }));
        stats.left(Reason::of(&Exit::Wfx(Wfx::Wfi)));
        stats.left(Reason::of(&Exit::Smc { imm: 0 }));
        let first = stats.snapshot(0, || 0);
        assert_eq!(first.exits[Reason::Call as usize], 2);
        assert_eq!(first.exits[Reason::Wait as usize], 1);
        stats.left(Reason::Interrupt);
        let since = stats.snapshot(0, || 0).since(&first);
        assert_eq!(since.exits, [1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_reasons_stand_in_the_order_of_their_counters() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.name());
        }
    }
}
