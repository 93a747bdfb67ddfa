//! What can differ between the machines of two guests, as the configuration says it: [`Equipment`].
//! Devices and device tree are made from it.

use alloc::string::String;
use alloc::vec::Vec;

use crate::machine::{SHARED_BASE, SHARED_STRIDE};
use crate::virtio::fitting::Fitting;

/// The parts of a guest's machine that not every guest has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Equipment<'a> {
    /// The watchdog's time in microseconds, within which the guest must feed it from its start on.
    /// 0: the guest starts the watchdog itself. None: there is no watchdog.
    pub watchdog_us: Option<u64>,
    /// Frequency of the guest's counter, in Hz. The device tree does not need it.
    pub counter_hz: u64,
    /// The regions of memory that the guest shares with others, in the order of the configuration.
    pub shared: &'a [Connection<'a>],
    /// The guest's virtio devices, in the order of their slots.
    pub virtio: &'a [Fitting<'a>],
    /// The guest's first generation ID, if it has the device.
    pub generation: Option<[u8; 16]>,
}

/// A region of memory that guests share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedRegion {
    /// Name of the region, as it stands in the guests' device trees and checkpoints.
    pub name: String,
    /// Bytes of the region.
    pub size: u64,
    /// Names of the guests that share the region. A guest's number is its index in this list.
    pub guests: Vec<String>,
}

/// A shared region, as one guest has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection<'a> {
    /// The region.
    pub region: &'a SharedRegion,
    /// The guest's number among those that share the region.
    pub index: u8,
}

/// Returns the guest-physical address of a guest's `n`th region.
pub const fn shared_address(n: usize) -> u64 {
    SHARED_BASE + n as u64 * SHARED_STRIDE
}
