//! The emulated devices: one file each. The whole state of a device is its record in
//! [`stasis_state::device`], and the level of its interrupt is a function of that record.
//!
//! - [`device`]: what a device is ([`Device`](device::Device)), and what its methods take and
//!   return.
//! - [`list`]: the list of all devices. Lookup, reads and writes, lines, deadlines, records and
//!   device tree come from it.
//! - [`pl011`], [`pl031`], [`pl061`], [`watchdog`], [`doorbell`], [`generation`], [`virtio`],
//!   [`flash`]: the devices.
//! - [`machine`]: the addresses and interrupts of the rest of the guest's machine; [`equipment`]:
//!   what differs from guest to guest.
//! - [`access`]: the width of an access; [`window`]: where a device is; [`tree`]: the writer of
//!   device trees.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod access;
pub mod context;
pub mod device;
pub mod doorbell;
pub mod equipment;
pub mod flash;
pub mod generation;
pub mod inventory;
pub mod list;
pub mod machine;
pub mod pl011;
pub mod pl031;
pub mod pl061;
pub mod tree;
pub mod virtio;
pub mod watchdog;
pub mod window;
