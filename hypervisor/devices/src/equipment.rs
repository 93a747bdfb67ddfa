//! What the machines of two guests can differ in: [`Equipment`], as the configuration says it. Devices and device tree are made from it.

use alloc::string::String;
use alloc::vec::Vec;

use crate::machine::{SHARED_BASE, SHARED_STRIDE};

/// What a guest's machine has that not every guest's has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Equipment<'a> {
    /// Its watchdog, if it has one: the microseconds within which it must be fed from the start, or 0: the guest has to start it.
    pub watchdog_us: Option<u64>,
    /// What its counter runs at, in Hz. The device tree does not need it.
    pub counter_hz: u64,
    /// The regions of memory that it shares with others, in the order of the configuration.
    pub shared: &'a [Connection<'a>],
    /// Number of virtio-mmio slots with a device behind them.
    pub virtio_slots: u32,
}

/// A region of memory that guests share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedRegion {
    /// Its name, which the guests' device trees and checkpoints have.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// The guests' names: each has its number in this list.
    pub guests: Vec<String>,
}

/// A region that a guest shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection<'a> {
    /// The region.
    pub region: &'a SharedRegion,
    /// The guest's number among those that share it.
    pub index: u8,
}

/// Returns the guest-physical address of a guest's `n`th region.
pub const fn shared_address(n: usize) -> u64 {
    SHARED_BASE + n as u64 * SHARED_STRIDE
}
