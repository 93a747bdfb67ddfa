//! The emulated devices: one file each. The whole state of a device is its record in [`stasis_state::device`], and its interrupt line is a function of
//! that record.
//!
//! [`machine`] says where a guest finds each of them, and [`access`] how wide a register is read or written.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod access;
pub mod doorbell;
pub mod machine;
pub mod pl011;
pub mod pl031;
pub mod virtio;
pub mod watchdog;
