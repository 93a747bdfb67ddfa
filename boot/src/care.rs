//! The care for guests without a command: for guests that have stopped by themselves, and for checkpoints that are due. It runs on the
//! console's core, in the turn of the console's task. Each duty takes as long as a command, and the console is served before the next one.
//!
//! [`stasis_host::care`] decides what is done, from the [`notes`](crate::notes) that others make; this module does it.

use crate::answer::Answer;
use crate::checkpoint::{self, CheckpointError};
use crate::guests::{self, GuestError};
use crate::notes::CARE;
use crate::resume::{Disks, ResumeError, Way};
use crate::storage::NoStore;
use crate::work::Work;
use crate::{archive, catalog, registry, resume, terminal, typed};
use alloc::string::ToString;
use alloc::vec::Vec;
use stasis_guest::stop::Stopped;
use stasis_host::care::remedy::{Means, Setback, help};
use stasis_host::care::{Attempt, Duty, News, Outcome};
use stasis_host::periodic::{self, Timetable};
use stasis_host::run_state::RunState;
use stasis_host::stored::Keep;
use stasis_run::clock;
use stasis_run::domain::Domain;

/// Does one duty that is due. Returns whether there was one; others may have become due meanwhile.
pub fn serve(work: &mut Work) -> bool {
    let guests = registry::all().into_iter().map(|domain| (domain.number, domain));
    let duty = CARE.lock(work.task).next(guests, clock::now_us());
    match duty {
        None => return false,
        Some(Duty::Treat(domain, how)) => treat(work, &domain, how),
        Some(Duty::Store(domain, table)) => store(work, &domain, table),
    }
    true
}

/// Does what the configuration says about a guest that has stopped, unless a command has changed its state before.
fn treat(work: &mut Work, domain: &Domain, how: Stopped) {
    let mut parked = domain.park();
    if !parked.state.needs_care() {
        return;
    }
    parked.release_devices();
    drop(parked);
    let config = archive::guest(&domain.name);
    let remedy = CARE.lock(work.task).decide(domain.number, how, config, clock::now_us());
    let report = help(remedy, how, &mut Helper { work, domain });
    match report.runs() {
        true => terminal::notice(domain, &report.to_string()),
        false => terminal::halted(domain, &report.to_string()),
    }
    CARE.lock(work.task).done(domain.number, remedy, clock::now_us());
}

/// The ways to help one guest.
struct Helper<'w, 't> {
    work: &'w mut Work<'t>,
    domain: &'w Domain,
}

/// Why a guest that has stopped was not helped.
#[derive(Debug, thiserror::Error)]
enum HelpError {
    /// The guest was not started again.
    #[error(transparent)]
    Restart(#[from] GuestError),
    /// There is no store.
    #[error(transparent)]
    NoStore(#[from] NoStore),
    /// The guest was not resumed.
    #[error(transparent)]
    Resume(#[from] ResumeError),
}

impl Means for Helper<'_, '_> {
    type Error = HelpError;

    fn restart(&mut self) -> Result<(), HelpError> {
        Ok(guests::restart(self.work, self.domain)?)
    }

    fn checkpoints(&mut self) -> Result<Vec<u64>, HelpError> {
        Ok(catalog::of_guest(self.work, &self.domain.name)?)
    }

    fn resume(&mut self, number: u64) -> Result<bool, HelpError> {
        let nobody = &mut Answer::to_nobody();
        // Whole, for nobody waits for it: a checkpoint that is damaged is passed over before anything is lost.
        let way = Way { any_speed: false, whole: true, disks: Disks::Recovered };
        resume::resume(self.work, &number.to_string(), None, way, nobody)?;
        Ok(self.domain.look().state.is_alive())
    }

    fn warn(&mut self, setback: Setback<'_, HelpError>) {
        log::warn!("guest \"{}\" {setback}", self.domain.name);
    }
}

/// Makes a guest's periodic checkpoint if the guest runs. A command that is typed meanwhile gives the checkpoint up, if the timetable allows
/// that. The log says what has failed or has taken too long; the guest goes on.
fn store(work: &mut Work, domain: &Domain, table: Timetable) {
    let (name, number, began_us) = (&domain.name, domain.number, clock::now_us());
    if domain.look().state != RunState::Running {
        CARE.lock(work.task).skip(number, began_us);
        return;
    }
    let mut make = || {
        let made = store_and_replace_surplus(work, domain, table.periodic().keep);
        made.err().map(|error| error.to_string())
    };
    let (failure, was_told) = match table.may_be_given_up() {
        true => typed::giving_way(make),
        false => (make(), false),
    };
    let attempt = Attempt { began_us, ended_us: clock::now_us(), failure, was_told };
    let News { outcome, behind } = CARE.lock(work.task).stored(number, attempt);
    match outcome {
        Some(outcome @ Outcome::Fails(_)) => log::error!("guest \"{name}\": {outcome}"),
        Some(outcome) => log::info!("guest \"{name}\": {outcome}"),
        None => {}
    }
    if let Some(behind) = behind {
        log::warn!("guest \"{name}\": {behind}");
    }
}

/// Makes a guest's periodic checkpoint, which replaces the oldest ones if there are more than `keep` then.
fn store_and_replace_surplus(
    work: &mut Work,
    domain: &Domain,
    keep: u8,
) -> Result<(), CheckpointError> {
    let newest = catalog::newest(work)?;
    let spared = CARE.lock(work.task).spared(domain.number, newest, clock::now_us());
    let name = periodic::name(&domain.name);
    let keep = Keep { newest: keep, spared };
    let nobody = &mut Answer::to_nobody();
    checkpoint::store(work, &[domain], Some(&name), Some(keep), nobody)
}
