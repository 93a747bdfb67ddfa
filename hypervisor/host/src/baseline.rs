//! Whether a guest's next checkpoint may share with the one that its memory counts its changes
//! from.
//!
//! A wrong yes would make a checkpoint of pages that are not the guest's. So it takes a store with
//! maps, a checkpoint of that number there, and the identity in the store's list and in the
//! checkpoint itself: a number comes again on another disk, and a disk can be written by others.
//! The caller reads both, and forgets the baseline after a no.

use stasis_state::Baseline;
use stasis_state::guest::Lineage;

/// Why nothing can be shared with a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The store has no maps of what its checkpoints share.
    #[error("the store is of version {0}, which shares nothing")]
    OldStore(u32),
    /// The store has no such checkpoint, or another one with its number.
    #[error("checkpoint {0} is not there any more")]
    Gone(u64),
}

/// What a store has under a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Nothing, for the store is of this version, which has no maps.
    OldStore(u32),
    /// No checkpoint.
    Nothing,
    /// A checkpoint with this identity, lowest byte first; 0 if it has none.
    Checkpoint([u8; 16]),
}

/// Checks that the store has the checkpoint.
///
/// # Errors
///
/// [`Unfit`]: nothing must be shared.
pub fn check_listed(baseline: Baseline, listed: Listed) -> Result<(), Unfit> {
    match listed {
        Listed::OldStore(version) => Err(Unfit::OldStore(version)),
        Listed::Checkpoint(identity) if is_it(baseline, u128::from_le_bytes(identity)) => Ok(()),
        Listed::Checkpoint(_) | Listed::Nothing => Err(Unfit::Gone(baseline.number)),
    }
}

/// Checks that a file that was read is the checkpoint, by its `lineage`, which older ones lack.
///
/// # Errors
///
/// [`Unfit::Gone`]: nothing must be shared.
pub fn check_read(baseline: Baseline, lineage: Option<&Lineage>) -> Result<(), Unfit> {
    match lineage {
        Some(lineage) if is_it(baseline, lineage.identity()) => Ok(()),
        _ => Err(Unfit::Gone(baseline.number)),
    }
}

/// Returns whether the identity is the baseline's. 0 is nobody's.
fn is_it(baseline: Baseline, identity: u128) -> bool {
    identity != 0 && identity == baseline.identity
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASELINE: Baseline = Baseline { number: 7, identity: 0xcafe };

    fn listed(identity: u128) -> Result<(), Unfit> {
        check_listed(BASELINE, Listed::Checkpoint(identity.to_le_bytes()))
    }

    fn read(identity: u128) -> Result<(), Unfit> {
        check_read(BASELINE, Some(&Lineage::new(identity, BASELINE.identity, BASELINE.identity)))
    }

    #[test]
    fn the_checkpoint_of_that_identity_is_shared_with() {
        assert_eq!((listed(0xcafe), read(0xcafe)), (Ok(()), Ok(())));
    }

    #[test]
    fn another_checkpoint_of_that_number_is_not() {
        assert_eq!((listed(0xbeef), read(0xbeef)), (Err(Unfit::Gone(7)), Err(Unfit::Gone(7))));
        assert_eq!(check_listed(BASELINE, Listed::Nothing), Err(Unfit::Gone(7)));
        assert_eq!(check_read(BASELINE, None), Err(Unfit::Gone(7)));
    }

    #[test]
    fn checkpoints_without_an_identity_are_not_the_same_one() {
        let unknown = Baseline { number: 7, identity: 0 };
        assert_eq!(check_listed(unknown, Listed::Checkpoint([0; 16])), Err(Unfit::Gone(7)));
        assert_eq!(check_read(unknown, Some(&Lineage::new(0, 0, 0))), Err(Unfit::Gone(7)));
    }

    #[test]
    fn a_store_without_maps_shares_nothing() {
        assert_eq!(check_listed(BASELINE, Listed::OldStore(2)), Err(Unfit::OldStore(2)));
    }
}
