//! The ways to help a guest that has stopped, and its periodic checkpoints: [`crate::care`] decides
//! when.

use crate::answer::Answer;
use crate::checkpoint::{self, CheckpointError};
use crate::guests::{self, GuestError};
use crate::notes::CARE;
use crate::resume::error::ResumeError;
use crate::resume::way::{Disks, Way};
use crate::storage::error::NoStore;
use crate::work::Work;
use crate::{catalog, resume, typed};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use stasis_host::care::remedy::{Means, Setback};
use stasis_host::care::{Attempt, AttemptReport, Outcome};
use stasis_host::periodic::{self, Timetable};
use stasis_host::run_state::RunState;
use stasis_host::stored::Keep;
use stasis_run::clock;
use stasis_run::domain::Domain;

/// The ways to help one guest.
pub struct Helper<'w, 't> {
    /// What the helper works with.
    pub work: &'w mut Work<'t>,
    /// The guest.
    pub domain: &'w Arc<Domain>,
}

/// Why a guest that has stopped was not helped.
#[derive(Debug, thiserror::Error)]
pub enum HelpError {
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

    fn resume(&mut self, number: u64) -> Result<(), HelpError> {
        let nobody = &mut Answer::to_nobody();
        // Whole, for nobody waits for it: a checkpoint that is damaged is passed over before
        // anything is lost.
        let way = Way { any_speed: false, whole: true, disks: Disks::Recovered };
        Ok(resume::resume(self.work, &number.to_string(), None, way, nobody)?)
    }

    fn lacks_memory(error: &HelpError) -> bool {
        match error {
            HelpError::Restart(why) => why.lacks_memory(),
            HelpError::Resume(why) => why.lacks_memory(),
            HelpError::NoStore(_) => false,
        }
    }

    fn warn(&mut self, setback: Setback<'_, HelpError>) {
        let is_again = CARE.lock(self.work.task).was_put_off(self.domain.number);
        // What was passed over at the first try is not said at each other one.
        if is_again && matches!(setback, Setback::PassedOver(_)) {
            return;
        }
        log::warn!("guest \"{}\" {setback}", self.domain.name);
    }
}

/// Makes a guest's periodic checkpoint if the guest runs. A command that is typed meanwhile gives
/// the checkpoint up, if the timetable allows that. The log says what has failed or has taken too
/// long; the guest goes on.
pub fn store(work: &mut Work, domain: &Domain, table: Timetable) {
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
    let AttemptReport { outcome, behind } = CARE.lock(work.task).stored(number, attempt);
    match outcome {
        Some(outcome @ Outcome::Fails(_)) => log::error!("guest \"{name}\": {outcome}"),
        Some(outcome) => log::info!("guest \"{name}\": {outcome}"),
        None => {}
    }
    if let Some(behind) = behind {
        log::warn!("guest \"{name}\": {behind}");
    }
}

/// Makes a guest's periodic checkpoint, which replaces the oldest ones if there are more than
/// `keep` then.
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
