//! Guests that the boot archive does not have by their names: clones, and copies of checkpoints.
//! Each is of a guest of the archive, its original, by whose image and configuration it starts
//! again.
//!
//! Nobody else keeps this: a checkpoint has its guest's name alone.

use crate::archive::{self, BootArchive};
use crate::registry;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use stasis_host::config::GuestConfig;
use stasis_host::creation::{NotStartable, config_under_name};
use stasis_host::task::TaskLock;
use stasis_run::domain::Domain;
use stasis_run::turns::Task;

/// Clones and copies, each with the configuration of its original.
static OF_OTHERS: TaskLock<Vec<(Weak<Domain>, &'static GuestConfig)>> = TaskLock::new(Vec::new());

/// Notes that a guest of the machine is a clone or a copy of the guest `name`, and so of the
/// original of that. A guest that the archive has by its own name is its own original.
pub fn note(task: &Task, guest: &Arc<Domain>, name: &str) {
    let Some(original) = configuration(task, name) else { return };
    let mut noted = OF_OTHERS.lock(task);
    noted.retain(|(other, _)| other.strong_count() > 0 && !other.ptr_eq(&Arc::downgrade(guest)));
    if archive::guest(&guest.name).is_none() && noted.try_reserve(1).is_ok() {
        noted.push((Arc::downgrade(guest), original));
    }
}

/// Returns the configuration of the guest `name` in the archive, or of the original of the guest of
/// the machine with that name.
pub fn configuration(task: &Task, name: &str) -> Option<&'static GuestConfig> {
    let noted = || {
        let domain = registry::named(name)?;
        let noted = OF_OTHERS.lock(task);
        let is_it = |(guest, _): &&(Weak<Domain>, _)| guest.ptr_eq(&Arc::downgrade(&domain));
        noted.iter().find(is_it).map(|(_, original)| *original)
    };
    archive::guest(name).or_else(noted)
}

/// Returns the boot archive, and how a guest of the machine is configured when it starts again: a
/// clone or a copy keeps its name and the volumes that it has. Panics if the caller has the guest
/// parked.
///
/// # Errors
///
/// Why it can't start again.
pub fn of_guest(
    task: &Task,
    domain: &Domain,
) -> Result<(&'static BootArchive, GuestConfig), NotStartable> {
    let original = configuration(task, &domain.name).ok_or(NotStartable::NotInArchive)?;
    let (boot, config) = archive::of_guest(&original.name)?;
    match config.name == domain.name {
        true => Ok((boot, config.clone())),
        false => Ok((boot, config_under_name(config, &domain.name, domain.volumes())?)),
    }
}
