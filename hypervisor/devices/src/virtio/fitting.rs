//! A new guest's virtio devices, as its configuration says them: [`Fitting`].

use super::address::Address;

/// A virtio device of a guest that is made. The first one is in slot 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitting<'a> {
    /// A disk.
    Disk {
        /// Name of the volume behind it.
        volume: &'a str,
        /// Sectors of 512 bytes of that volume.
        sectors: u64,
    },
    /// A network card.
    Card {
        /// Name of its network.
        network: &'a str,
        /// The address.
        address: Address,
    },
    /// A source of random bytes.
    Entropy,
    /// A second terminal.
    Terminal,
}
