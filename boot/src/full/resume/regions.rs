//! Memory that guests share, of those that are resumed on demand. Others use it at once, so it is
//! there before the guest runs: it is [checked](check) before anything is changed, and
//! [loaded](load) then.

use crate::loading::origin::{Origin, OriginError};
use crate::storage::disk::Disk;
use crate::stream::{self, routines::routines};
use alloc::boxed::Box;
use core::ops::Range;
use stasis_host::loading::{NotLoaded, Why, check_shared, fill_shared, shared_pieces};
use stasis_run::shared::Overwritten;
use stasis_state::GuestState;
use stasis_state::device::SharedMemory;
use stasis_store::Store;

/// Why memory that guests share was not loaded.
pub type Failed = Box<NotLoaded<OriginError>>;

/// Returns the guest-physical addresses of the regions that a guest shares, in the order of its
/// configuration.
fn regions(state: &GuestState) -> impl Iterator<Item = Range<u64>> {
    state.devices.shared.iter().flat_map(SharedMemory::ranges)
}

/// Checks that the checkpoint has all of the regions that its guest shares.
///
/// # Errors
///
/// What is wrong with the first page that is not what was stored.
pub fn check(
    store: &mut Store<Disk>,
    origin: &mut Origin,
    state: &GuestState,
) -> Result<(), Failed> {
    for region in regions(state) {
        for piece in shared_pieces((region.end - region.start) as usize) {
            let address = region.start + piece.start as u64;
            let pages = &mut origin.of(store).map_err(|why| failed(address, why))?;
            check_shared(pages, piece.len(), address, routines().crc32c)?;
            stream::pause(store);
        }
    }
    Ok(())
}

/// Loads the regions that are given, in the order of the guest's configuration, from the checkpoint
/// with this number.
///
/// # Errors
///
/// Why a page was not loaded. The regions may have lost their content then.
pub fn load(
    store: &mut Store<Disk>,
    number: u64,
    state: &GuestState,
    given: &mut [Option<Overwritten>],
) -> Result<(), Failed> {
    let mut origin = None;
    for (region, given) in regions(state).zip(given) {
        let Some(given) = given else { continue };
        let origin = match &mut origin {
            Some(origin) => origin,
            None => {
                let (_, opened) =
                    Origin::open(store, number).map_err(|why| failed(region.start, why))?;
                origin.insert(opened)
            }
        };
        for piece in shared_pieces((region.end - region.start) as usize) {
            let address = region.start + piece.start as u64;
            let pages = &mut origin.of(store).map_err(|why| failed(address, why))?;
            fill_shared(pages, given.as_writable(), piece, address)?;
            stream::pause(store);
        }
    }
    Ok(())
}

/// Returns the error of a page that was not read.
fn failed(address: u64, why: OriginError) -> Failed {
    Box::new(NotLoaded { address, why: Why::Source(why) })
}
