//! Wall time, from the machine's clock where it has one, else since power-on; and whether the
//! virtual timer can be trusted. All values here are written once at boot, by core 0 and before
//! another core reads them, so relaxed accesses suffice.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use spin::Once;
use stasis_arch::timer;
use stasis_host::board::{Machine, MachineError};
use stasis_hw::pl031::Pl031;

/// Wall time at the counter's 0, in ticks of the counter.
static EPOCH: Once<u64> = Once::new();

/// Whether the machine has a clock that was set, so that [`wall_time`] is more than the time since
/// power-on.
static HAS_CLOCK: AtomicBool = AtomicBool::new(false);

/// Ticks from one look to the next at a virtual timer that does not always fire by itself, where it
/// is not known when it will be due; 0 if the virtual timer fires also where CNTVOFF_EL2 is ahead
/// of the counter, as QEMU's does not.
static WATCH_TICKS: AtomicU64 = AtomicU64::new(0);

/// Finds out the counter's frequency.
///
/// # Errors
///
/// [`MachineError::NoCounterFrequency`] if neither CNTFRQ_EL0 nor the device tree tells it.
pub fn init_counter(machine: &Machine) -> Result<(), MachineError> {
    timer::set_frequency(machine.counter_frequency.unwrap_or(0));
    match timer::frequency() {
        0 => Err(MachineError::NoCounterFrequency),
        _ => Ok(()),
    }
}

/// Reads the machine's clock, if it has one. From then on the counter tells how time passes.
/// `timer_forgets` says whether the virtual timer does not [fire across
/// zero](timer::fires_across_zero).
pub fn init(clock: Option<Pl031>, timer_forgets: bool) {
    let seconds = clock.map_or(0, |clock| u64::from(clock.seconds()));
    // A clock that nobody has set counts from 0: it tells no date.
    HAS_CLOCK.store(seconds >= SET_SINCE, Ordering::Relaxed);
    if timer_forgets {
        WATCH_TICKS.store((timer::frequency() / WATCH_HZ).max(1), Ordering::Relaxed);
        log::debug!(
            "the virtual timer does not fire where CNTVOFF is ahead of the counter: it is watched"
        );
    }
    EPOCH.call_once(|| seconds.saturating_mul(timer::frequency()).wrapping_sub(timer::counter()));
}

/// Looks per second at a timer that does not fire by itself, unless it is known when it will be
/// due. A guest's interrupt may be late by the time between two looks.
const WATCH_HZ: u64 = 1000;

/// Returns the counter's value by which a timer that does not fire by itself must be looked at
/// again.
#[inline]
pub fn next_watch() -> u64 {
    timer::counter() + WATCH_TICKS.load(Ordering::Relaxed)
}

/// Returns whether the virtual timer does not always fire by itself, as QEMU's does not.
#[inline]
pub fn timer_forgets() -> bool {
    WATCH_TICKS.load(Ordering::Relaxed) != 0
}

/// Returns whether a guest with this CNTVOFF_EL2 needs its virtual timer watched by EL2's timer,
/// when the counter reads `now`.
#[inline]
pub fn must_watch(offset: u64, now: u64) -> bool {
    timer_forgets() && offset > now
}

/// Returns the microseconds since the counter was 0.
pub fn now_us() -> u64 {
    micros(timer::counter())
}

/// Returns the microseconds that a number of ticks takes.
pub fn micros(ticks: u64) -> u64 {
    (u128::from(ticks) * 1_000_000 / u128::from(timer::frequency())) as u64
}

/// Returns the seconds since the counter was 0.
pub fn uptime() -> u64 {
    timer::counter() / timer::frequency()
}

/// Returns the milliseconds since the counter read `start`.
pub fn millis_since(start: u64) -> u64 {
    (timer::counter() - start) * 1000 / timer::frequency()
}

/// Returns the microseconds since the counter read `start`.
pub fn micros_since(start: u64) -> u64 {
    (timer::counter() - start) * 1_000_000 / timer::frequency()
}

/// Returns the counter's value at instant `us` of [`now_us`], rounded up.
pub fn counter_at(us: u64) -> u64 {
    let ticks = (u128::from(us) * u128::from(timer::frequency())).div_ceil(1_000_000);
    ticks.try_into().unwrap_or(u64::MAX)
}

/// Earliest date, in seconds since 1970, that a clock tells if it was set: the year 2001.
const SET_SINCE: u64 = 1_000_000_000;

/// Returns the date, in seconds since 1970; 0 where the machine has no clock, or one that was not
/// set. Checkpoints are stored with this date.
pub fn date() -> u64 {
    if HAS_CLOCK.load(Ordering::Relaxed) { wall_time() } else { 0 }
}

/// Returns the seconds since 1970, or since power-on where the machine has no clock. Guests' clocks
/// show this time.
pub fn wall_time() -> u64 {
    EPOCH.get().map_or(0, |epoch| epoch.wrapping_add(timer::counter()) / timer::frequency())
}
