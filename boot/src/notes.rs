//! What is noted of guests, so that they are cared for without a command. [`crate::care`] acts on
//! it, and [`stasis_host::care`] decides how.
//!
//! All functions take the lock of [`CARE`] for a short time, so their callers must not hold it.

use alloc::string::String;
use alloc::sync::Arc;
use stasis_arch::timer;
use stasis_guest::stop::Stopped;
use stasis_host::care::Care;
use stasis_host::config::GuestConfig;
use stasis_host::run_state::RunState;
use stasis_host::task::TaskLock;
use stasis_run::domain::Domain;
use stasis_run::{clock, roster};

/// The memory of each guest's care, with the line that was last said of a periodic checkpoint that
/// failed. Other cores write here that a guest has stopped.
pub static CARE: TaskLock<Care<Domain, String>> = TaskLock::new(Care::new());

/// Notes that the console is used, so that checkpoints that are due wait for it.
pub fn console_is_used() {
    CARE.lock_without_task().console_is_used(clock::now_us());
}

/// Begins the care for a guest that was made in this state.
pub fn begin(domain: &Domain, config: Option<&GuestConfig>, state: RunState) {
    CARE.lock_without_task().begin(domain.number, config, state, clock::now_us());
    roster::wake_console();
}

/// Notes that a guest runs from now on, because of a command or without one.
pub fn runs(domain: &Domain) {
    CARE.lock_without_task().runs(domain.number, clock::now_us());
}

/// Notes that a guest was started anew.
pub fn starts(domain: &Domain) {
    CARE.lock_without_task().starts(domain.number, clock::now_us());
}

/// Notes that a guest does not run from now on.
pub fn rests(domain: &Domain) {
    CARE.lock_without_task().rests(domain.number);
}

/// Notes that a guest was resumed from this checkpoint, and whether the guest is on.
pub fn resumed(domain: &Domain, checkpoint: u64, is_on: bool) {
    CARE.lock_without_task().resumed(domain.number, checkpoint, is_on, clock::now_us());
}

/// Ends the care for a guest that is removed: nothing is remembered of it.
pub fn end(domain: &Domain) {
    CARE.lock_without_task().end(domain.number);
}

/// Notes that a guest has stopped by itself. [`crate::care`] does the rest, because that may take
/// long, and the calling core has other vCPUs to run.
pub fn stopped(domain: Arc<Domain>, how: Stopped) {
    CARE.lock_without_task().stopped(domain.number, domain, how);
    roster::wake_console();
}

/// Returns the value of the counter at which a guest must be cared for next; `None` if nothing is
/// planned.
pub fn next_due() -> Option<u64> {
    let now_us = clock::now_us();
    let due_us = CARE.lock_without_task().next_us(now_us)?;
    Some(if due_us <= now_us { timer::counter() } else { clock::counter_at(due_us) })
}
