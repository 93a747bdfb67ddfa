//! The virtual GIC of a checkpoint to and from what KVM and QEMU keep. `docs/conversion.md` tells more.
//!
//! - [`vgic`]: the records together, and their interrupts one by one.
//! - [`loss`]: what the other side can't hold; [`limits`]: finds it and takes it away.
//! - [`unknown`]: what the other side does not say, and what is assumed instead.
//! - [`kvm`]: the attributes of KVM's GICv2 device.
//! - [`qemu`]: the section `arm_gic` of QEMU's migration stream, and where it is in a file.
//! - [`sample`]: states for tests.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod error;
pub mod kvm;
pub mod limits;
pub mod loss;
pub mod qemu;
pub mod sample;
pub mod unknown;
pub mod vgic;

pub use error::Error;
pub use loss::Loss;
pub use unknown::Unknown;
pub use vgic::{Bits, Interrupt, Vgic};

#[cfg(test)]
mod tests;
