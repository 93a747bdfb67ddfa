//! The checkpoint that a guest's next one shares with: [`Base`].
//!
//! A guest's memory knows what has changed since a committed checkpoint. What has not is shared
//! with that, if it is still there, and still the one that it was. The identity tells: the number
//! may be another checkpoint's, on another disk. Where anything is not surely right, the memory
//! forgets the checkpoint, and all of it is stored.
//!
//! Where the memory of a checkpoint is in its file is known since it was written
//! ([`remember`]), so its file is read only after a resume, or what was known was forgotten.

use crate::registry;
use crate::storage::disk::Disk;
use crate::storage::error::DiskError;
use crate::stream;
use crate::stream::error::StreamError;
use crate::stream::routines::routines;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use stasis_host::baseline::{self, Listed, Unfit};
use stasis_host::task::TaskLock;
use stasis_run::domain::Domain;
use stasis_run::turns::Task;
use stasis_state::{Baseline, Index, LoadError};
use stasis_store::{Error, Store};

/// The checkpoint that a guest's memory counts its changes from.
pub struct Base {
    /// The checkpoint's number and identity.
    pub baseline: Baseline,
    /// Where its memory is.
    pub index: Arc<Index>,
}

/// The last checkpoint of each guest, by the guest's name.
static WRITTEN: TaskLock<Vec<(String, Base)>> = TaskLock::new(Vec::new());

/// Keeps where the memory of a guest's checkpoint is, which was just committed: the guest's next
/// one need not read it.
pub fn remember(task: &Task, guest: &str, base: Base) {
    let is_other = |name: &str| name != guest && registry::named(name).is_some();
    let mut written = WRITTEN.lock(task);
    written.retain(|(name, _)| is_other(name));
    written.push((String::from(guest), base));
}

/// Returns where the memory of a checkpoint is, if it was written since the boot and is the last
/// one of its guest.
fn remembered(task: &Task, baseline: Baseline) -> Option<Arc<Index>> {
    let written = WRITTEN.lock(task);
    let found = written.iter().find(|(_, base)| base.baseline == baseline);
    found.map(|(_, base)| base.index.clone())
}

/// Where a guest's next checkpoint comes from.
pub struct Origin {
    /// The identity of the checkpoint before; 0 if there is none.
    pub parent: u128,
    /// The last committed checkpoint, if the next one can share with it.
    pub base: Option<Base>,
}

impl Origin {
    /// Returns where the next checkpoint of `domain` comes from. If it can't share with the one
    /// before, the memory forgets that.
    pub fn of(store: &mut Store<Disk>, domain: &Domain) -> Self {
        let parent = domain.baseline().map_or(0, |baseline| baseline.identity);
        Self { parent, base: Base::of(store, domain) }
    }
}

/// Why nothing can be shared with a checkpoint.
#[derive(Debug, thiserror::Error)]
enum NotFound {
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error(transparent)]
    Store(#[from] Error<DiskError>),
    #[error("checkpoint {0} can't be shared with: {1}")]
    Damaged(u64, LoadError<StreamError>),
}

impl Base {
    /// Returns the checkpoint that the memory of `domain` counts its changes from, if the next one
    /// can share with it. Otherwise the memory forgets it.
    fn of(store: &mut Store<Disk>, domain: &Domain) -> Option<Self> {
        let baseline = domain.baseline()?;
        match find(store, baseline) {
            Ok(index) => Some(Self { baseline, index }),
            Err(why) => {
                log::debug!("guest \"{}\" is stored whole: {why}", domain.name);
                domain.forget_baseline();
                None
            }
        }
    }
}

/// Returns the index of a checkpoint whose blocks can be shared.
fn find(store: &mut Store<Disk>, baseline: Baseline) -> Result<Arc<Index>, NotFound> {
    let number = baseline.number;
    let found = store.list().iter().find(|one| one.number == number);
    let length = found.map(|one| one.length);
    let listed = match store.has_maps() {
        true => found.map_or(Listed::Nothing, |one| Listed::Checkpoint(one.identity)),
        false => Listed::OldStore(store.version()),
    };
    baseline::check_listed(baseline, listed)?;
    store.check_map(number)?;
    let remembered = remembered(store.device_mut().task(), baseline);
    if let Some(index) = remembered.filter(|index| Some(index.file_len()) == length) {
        return Ok(index);
    }
    let mut file = stream::open(store, number)?;
    let (checkpoint, index) =
        Index::open(&mut file, routines()).map_err(|error| NotFound::Damaged(number, error))?;
    baseline::check_read(baseline, checkpoint.state.lineage.as_ref())?;
    Ok(Arc::new(index))
}
