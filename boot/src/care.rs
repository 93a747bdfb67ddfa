//! The care for guests without a command: for guests that have stopped by themselves, and for
//! checkpoints that are due. It runs on the console's core, in the turn of the console's task. Each
//! duty takes as long as a command, and the console is served before the next one.
//!
//! [`stasis_host::care`] decides what is done, from the [`notes`](crate::notes) that others make;
//! this module does it.

use crate::aid::{self, Helper};
use crate::notes::CARE;
use crate::work::Work;
use crate::{originals, registry, terminal};
use alloc::string::ToString;
use alloc::sync::Arc;
use stasis_guest::stop::Stopped;
use stasis_host::care::Duty;
use stasis_host::care::remedy::help;
use stasis_run::clock;
use stasis_run::domain::Domain;

/// Does one duty that is due. Returns whether there was one; others may have become due meanwhile.
pub fn serve(work: &mut Work) -> bool {
    let guests = registry::all().into_iter().map(|domain| (domain.number, domain));
    let duty = CARE.lock(work.task).next(guests, clock::now_us());
    match duty {
        None => return false,
        Some(Duty::Treat(domain, how)) => treat(work, &domain, how),
        Some(Duty::Store(domain, table)) => aid::store(work, &domain, table),
    }
    true
}

/// Does what the configuration says about a guest that has stopped, unless a command has changed
/// its state before.
fn treat(work: &mut Work, domain: &Arc<Domain>, how: Stopped) {
    let mut parked = domain.park();
    if !parked.state.needs_care() {
        return;
    }
    parked.release_devices();
    drop(parked);
    // Before it starts again: it may have stopped in the midst of a line.
    terminal::show_last_words(work.task, domain);
    let config = originals::configuration(work.task, &domain.name);
    let remedy = CARE.lock(work.task).decide(domain.number, how, config, clock::now_us());
    let report = help(remedy, how, &mut Helper { work, domain });
    if report.is_put_off() {
        let (number, now_us) = (domain.number, clock::now_us());
        if CARE.lock(work.task).put_off(number, domain.clone(), how, now_us) {
            terminal::notice(domain, &report.to_string());
        }
        return;
    }
    match report.runs() {
        true => terminal::notice(domain, &report.to_string()),
        false => terminal::halted(work.task, domain, &report.to_string()),
    }
    CARE.lock(work.task).done(domain.number, remedy, clock::now_us());
}
