//! A checkpoint's guest to and from what KVM and QEMU keep. `docs/conversion.md` tells more.
//!
//! - [`vgic`]: the records together, and their interrupts one by one.
//! - [`loss`]: what the other side can't hold; [`limits`]: finds it and takes it away.
//! - [`unknown`]: what the other side does not say, and what is assumed instead.
//! - [`kvm`]: the attributes of KVM's GICv2 device.
//! - [`qemu`]: QEMU's migration stream: a whole machine, and the section `arm_gic` of it.
//! - [`power`]: a vCPU at the entry for which it was called.
//! - [`sysreg`]: the system registers of a vCPU by their encodings, for both.
//! - [`sample`]: states for tests.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod error;
pub mod kvm;
pub mod limits;
pub mod loss;
pub mod power;
pub mod qemu;
pub mod sample;
pub mod sysreg;
pub mod unknown;
pub mod vgic;

pub use error::Error;
pub use loss::Loss;
pub use unknown::Unknown;
pub use vgic::{Bits, Interrupt, Vgic};

#[cfg(test)]
mod tests;
