//! Wall time: from the machine's clock where it has one, else since power-on. And whether the virtual
//! timer can be trusted.

use core::sync::atomic::{AtomicBool, Ordering};
use spin::Once;
use stasis_arch::timer;
use stasis_host::board::{Machine, MachineError};
use stasis_hw::pl031::Pl031;

/// Wall time when the counter was 0, in ticks of the counter.
static EPOCH: Once<u64> = Once::new();

/// The machine has a clock, so that [`wall_time`] is more than the time since power-on.
static HAS_CLOCK: AtomicBool = AtomicBool::new(false);

/// The virtual timer does not fire where CNTVOFF_EL2 is ahead of the counter: it is QEMU's.
static TIMER_FORGETS: AtomicBool = AtomicBool::new(false);

/// Learns how fast the counter goes.
///
/// # Errors
///
/// [`MachineError::NoCounterFrequency`] if neither CNTFRQ_EL0 nor the device tree tells.
pub fn init_counter(machine: &Machine) -> Result<(), MachineError> {
    timer::set_frequency(machine.counter_frequency.unwrap_or(0));
    match timer::frequency() {
        0 => Err(MachineError::NoCounterFrequency),
        _ => Ok(()),
    }
}

/// Reads the machine's clock, if it has one. From then on the counter tells how time passes. `timer_forgets` says that the virtual timer does
/// not [fire across zero](timer::fires_across_zero).
pub fn init(clock: Option<Pl031>, timer_forgets: bool) {
    let seconds = clock.map_or(0, |clock| u64::from(clock.seconds()));
    // A clock that nobody has set counts from 0, too: it tells no date.
    HAS_CLOCK.store(seconds >= SET_SINCE, Ordering::Relaxed);
    TIMER_FORGETS.store(timer_forgets, Ordering::Relaxed);
    if timer_forgets {
        log::debug!(
            "the virtual timer does not fire where CNTVOFF is ahead of the counter: it is watched"
        );
    }
    EPOCH.call_once(|| seconds.saturating_mul(timer::frequency()).wrapping_sub(timer::counter()));
}

/// How often a timer that does not fire by itself is looked at, per second, unless it is known when it
/// will be due. A guest's interrupt may be that late.
const WATCH_HZ: u64 = 1000;

/// The latest instant at which such a timer is to be looked at again, as the counter.
#[inline(never)]
pub fn next_watch() -> u64 {
    timer::counter() + timer::frequency() / WATCH_HZ
}

/// Whether the virtual timer does not always come by itself, as QEMU's does not.
#[inline]
pub fn timer_forgets() -> bool {
    TIMER_FORGETS.load(Ordering::Relaxed)
}

/// Whether a guest with this CNTVOFF_EL2 needs its virtual timer watched by EL2's.
pub fn must_watch(offset: u64) -> bool {
    timer_forgets() && offset > timer::counter()
}

/// Microseconds since the counter was 0.
pub fn now_us() -> u64 {
    (u128::from(timer::counter()) * 1_000_000 / u128::from(timer::frequency())) as u64
}

/// What the counter reads at an instant of [`now_us`], rounded up.
pub fn counter_at(us: u64) -> u64 {
    let ticks = (u128::from(us) * u128::from(timer::frequency())).div_ceil(1_000_000);
    ticks.try_into().unwrap_or(u64::MAX)
}

/// Before that, in seconds since 1970, no clock of a machine that runs Stasis was set: the year 2001.
const SET_SINCE: u64 = 1_000_000_000;

/// Returns the date, in seconds since 1970; 0 where the machine has no clock, or one that was not set. What is stored says this.
pub fn date() -> u64 {
    if HAS_CLOCK.load(Ordering::Relaxed) { wall_time() } else { 0 }
}

/// Returns seconds since 1970, or since power-on where the machine has no clock. Guests' clocks show this.
pub fn wall_time() -> u64 {
    EPOCH.get().map_or(0, |epoch| epoch.wrapping_add(timer::counter()) / timer::frequency())
}
