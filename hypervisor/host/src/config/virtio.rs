//! The rules for the virtio devices of guests: their disks, and the networks that they have a card
//! in.

use alloc::string::String;
use core::ops::RangeInclusive;

use stasis_state::name::BadName;
use stasis_state::name::check as check_name;
use stasis_state::virtio::MAX_VIRTIO;
use stasis_store::layout::{BLOCK, MAX_VOLUME_BLOCKS};

use super::GuestConfig;
use stasis_console::text::quoted;

/// What the bytes of a volume are a multiple of.
pub const UNIT: u64 = 4096;
/// The bytes that a volume may have.
const SIZES: RangeInclusive<u64> = UNIT..=MAX_VOLUME_BLOCKS as u64 * BLOCK as u64;

/// What can be wrong with a virtio device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VirtioProblem {
    /// A volume can't be called so.
    #[error("volume {}: {why}", quoted(.volume))]
    Name {
        /// What the volume is said to be called.
        volume: String,
        /// The rule that this breaks.
        why: BadName,
    },
    /// A volume that has no whole blocks, no block, or too many.
    #[error("volume {}: {size} bytes are not a multiple of 4 KiB, from 4 KiB to 1 TiB", quoted(.volume))]
    Size {
        /// Name of the volume.
        volume: String,
        /// Bytes that it is said to have.
        size: u64,
    },
    /// Two disks would write one volume.
    #[error("volume {} is behind another disk already", quoted(.0))]
    Twice(String),
    /// A network can't be called so.
    #[error("network {}: {why}", quoted(.network))]
    Network {
        /// What the network is said to be called.
        network: String,
        /// The rule that this breaks.
        why: BadName,
    },
    /// Two cards of a guest in one network would have one address.
    #[error("it has a card in network {} already", quoted(.0))]
    TwoCards(String),
    /// More virtio devices than there are slots.
    #[error("{0} virtio devices are too many; {MAX_VIRTIO} are possible")]
    TooMany(usize),
}

impl VirtioProblem {
    /// Returns the key of the written configuration that is wrong.
    pub(super) fn key(&self) -> &'static str {
        match self {
            Self::Network { .. } | Self::TwoCards(_) => "networks",
            Self::Name { .. } | Self::Size { .. } | Self::Twice(_) | Self::TooMany(_) => "disks",
        }
    }
}

/// Checks the disks and the networks of a guest; `before` are the other guests that were checked.
pub(super) fn check(guest: &GuestConfig, before: &[GuestConfig]) -> Result<(), VirtioProblem> {
    let others = usize::from(guest.entropy) + usize::from(guest.terminal);
    let count = guest.disks.len() + guest.networks.len() + others;
    if count > MAX_VIRTIO {
        return Err(VirtioProblem::TooMany(count));
    }
    for (index, disk) in guest.disks.iter().enumerate() {
        let volume = || disk.volume.clone();
        check_name(&disk.volume).map_err(|why| VirtioProblem::Name { volume: volume(), why })?;
        if !SIZES.contains(&disk.size) || !disk.size.is_multiple_of(UNIT) {
            return Err(VirtioProblem::Size { volume: volume(), size: disk.size });
        }
        let others = before.iter().flat_map(|other| &other.disks);
        if others.chain(&guest.disks[..index]).any(|other| other.volume == disk.volume) {
            return Err(VirtioProblem::Twice(volume()));
        }
    }
    for (index, network) in guest.networks.iter().enumerate() {
        let name = || network.clone();
        check_name(network).map_err(|why| VirtioProblem::Network { network: name(), why })?;
        if guest.networks[..index].contains(network) {
            return Err(VirtioProblem::TwoCards(name()));
        }
    }
    Ok(())
}
