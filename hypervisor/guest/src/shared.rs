//! Memory that guests share, as each guest has it: its address, and the part of it in the guest's
//! state.
//!
//! A guest's regions have fixed addresses, in the order of the configuration ([`SharedRegion`]).
//! Their doorbells are [`stasis_devices::doorbell`]. A checkpoint holds the content of the regions.
//! [`check`] decides whether a checkpoint fits the regions that are configured here, and [`keeper`]
//! whether its content is put back, or stays as the other guests have it.

use alloc::string::String;
use alloc::vec::Vec;

use stasis_state::device::{MAX_SHARED, SharedMemory};

pub use stasis_devices::equipment::{Connection, SharedRegion, shared_address as address};

/// Returns the regions that `guest` shares with others, in the order of the configuration; at most
/// [`MAX_SHARED`].
pub fn connections<'a>(regions: &'a [SharedRegion], guest: &str) -> Vec<Connection<'a>> {
    let place = |region: &'a SharedRegion| {
        let index = region.guests.iter().position(|name| name == guest)?;
        Some(Connection { region, index: index as u8 })
    };
    regions.iter().filter_map(place).take(MAX_SHARED).collect()
}

/// The error of [`check`]: why a guest can't be resumed with the memory that it shared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The guest shared a region that does not exist here, or that it does not share here.
    #[error(
        "the checkpoint shares memory \"{region}\", and guest \"{guest}\" is none of those that do here"
    )]
    NotHere {
        /// Name of the region.
        region: String,
        /// Name of the guest that would be resumed.
        guest: String,
    },
    /// The guest did not share a region that it is configured to share here.
    #[error(
        "guest \"{guest}\" is configured to share memory \"{region}\", and the checkpoint does not"
    )]
    NotThere {
        /// Name of the region.
        region: String,
        /// Name of the guest that would be resumed.
        guest: String,
    },
    /// The region here differs from the one of the same name in the checkpoint.
    #[error(
        "shared memory \"{region}\" has {here}, of {here_size} bytes; the checkpoint has it with {there}, of {there_size} bytes"
    )]
    Other {
        /// Name of the region.
        region: String,
        /// The guest's place among those that share the region here.
        here: Share,
        /// Bytes of the region here.
        here_size: u64,
        /// The guest's place among those that shared the region in the checkpoint.
        there: Share,
        /// Bytes of the region in the checkpoint.
        there_size: u64,
    },
}

/// A region is configured, but the machine had no memory for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no shared memory \"{region}\"")]
pub struct NotMade {
    /// Name of the region.
    pub region: String,
}

/// A guest's place among those that share a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Index of the region among the guest's regions.
    pub place: usize,
    /// Number of the guest among those that share the region.
    pub index: u8,
    /// Number of guests that share the region.
    pub peers: u8,
}

impl core::fmt::Display for Share {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { place, index, peers } = self;
        write!(f, "this guest as number {index} of {peers}, as its region {place}")
    }
}

/// Checks that `guest` would find here the regions that it shared when it was stored. `stored` is
/// its record in the checkpoint, `here` what it shares here.
///
/// # Errors
///
/// [`Mismatch`] with the first region that differs.
pub fn check(
    stored: Option<&SharedMemory>,
    here: &[Connection<'_>],
    guest: &str,
) -> Result<(), Mismatch> {
    let guest = || String::from(guest);
    let there: Vec<usize> =
        stored.map_or(Vec::new(), |s| (0..MAX_SHARED).filter(|n| s.has(*n)).collect());
    let named = |n: usize| stored.map_or("?", |stored| stored.name_text(n));
    for &n in &there {
        if here.iter().all(|connection| connection.region.name != named(n)) {
            return Err(Mismatch::NotHere { region: named(n).into(), guest: guest() });
        }
    }
    for (place, Connection { region, index }) in here.iter().enumerate() {
        let found = there.iter().find(|n| named(**n) == region.name);
        let (Some(&n), Some(stored)) = (found, stored) else {
            return Err(Mismatch::NotThere { region: region.name.clone(), guest: guest() });
        };
        let here = Share { place, index: *index, peers: region.guests.len() as u8 };
        let there = Share { place: n, index: stored.index[n], peers: stored.peers[n] };
        let same_place = stored.base[n] == address(place);
        if here != there || stored.size[n] != region.size || !same_place {
            let (here_size, there_size) = (region.size, stored.size[n]);
            let region = region.name.clone();
            return Err(Mismatch::Other { region, here, here_size, there, there_size });
        }
    }
    Ok(())
}

/// Returns the guest because of which a region's content is not put back when guests are resumed:
/// one that shares the region, is `alive`, and is none of the `resumed`. What this guest has
/// changed in the region must not be undone behind its back. None: the content is put back.
pub fn keeper(
    region: &SharedRegion,
    resumed: impl Fn(&str) -> bool,
    alive: impl Fn(&str) -> bool,
) -> Option<&str> {
    region.guests.iter().map(String::as_str).find(|guest| !resumed(guest) && alive(guest))
}

#[cfg(test)]
mod tests {
    use stasis_devices::device::Device;
    use stasis_devices::equipment::Equipment;

    use super::*;

    fn region(name: &str, guests: &[&str]) -> SharedRegion {
        let guests = guests.iter().map(|guest| (*guest).into()).collect();
        SharedRegion { name: name.into(), size: 0x20_0000, guests }
    }

    fn record(shared: &[Connection<'_>]) -> Option<SharedMemory> {
        SharedMemory::fitted(&Equipment { shared, ..Equipment::default() })
    }

    #[test]
    fn each_guest_has_its_own_number_and_its_regions_in_order() {
        let regions = [
            region("ring", &["linux", "rt"]),
            region("other", &["a", "b"]),
            region("log", &["rt", "linux"]),
        ];
        let of_linux = connections(&regions, "linux");
        let record = record(&of_linux).unwrap();
        assert_eq!((record.name_text(0), record.name_text(1)), ("ring", "log"));
        assert_eq!(record.base[..3], [0x1000_0000, 0x1800_0000, 0]);
        assert_eq!((record.index[..2].to_vec(), record.peers[0]), (vec![0, 1], 2));
        assert!(!record.has(2));
        assert_eq!(self::record(&connections(&regions, "nobody")), None);
        assert_eq!(check(Some(&record), &of_linux, "linux"), Ok(()));
    }

    #[test]
    fn what_is_not_the_same_here_is_told() {
        let regions = [region("ring", &["linux", "rt"])];
        let here = connections(&regions, "linux");
        let stored = record(&here).unwrap();
        let why = |stored: Option<&SharedMemory>, here: &[Connection], guest: &str| {
            check(stored, here, guest).unwrap_err().to_string()
        };
        assert_eq!(
            why(Some(&stored), &[], "twin"),
            "the checkpoint shares memory \"ring\", and guest \"twin\" is none of those that do here"
        );
        assert_eq!(
            why(None, &here, "linux"),
            "guest \"linux\" is configured to share memory \"ring\", and the checkpoint does not"
        );
        assert_eq!(
            why(Some(&stored), &connections(&regions, "rt"), "rt"),
            "shared memory \"ring\" has this guest as number 1 of 2, as its region 0, of 2097152 bytes; the \
             checkpoint has it with this guest as number 0 of 2, as its region 0, of 2097152 bytes"
        );
        let mut smaller = stored.clone();
        smaller.size[0] = 4096;
        assert!(why(Some(&smaller), &here, "linux").contains("4096 bytes"));
        let mut moved = stored;
        moved.base[0] += 4096;
        assert!(check(Some(&moved), &here, "linux").is_err());
    }

    #[test]
    fn content_is_put_back_when_nobody_else_uses_it() {
        let ring = region("ring", &["linux", "rt"]);
        let alive = |names: &'static [&str]| move |guest: &str| names.contains(&guest);
        assert_eq!(keeper(&ring, |g| g == "linux", alive(&["linux", "rt"])), Some("rt"));
        assert_eq!(keeper(&ring, |g| g == "linux", alive(&["linux"])), None);
        assert_eq!(keeper(&ring, |_| true, alive(&["linux", "rt"])), None);
    }
}
