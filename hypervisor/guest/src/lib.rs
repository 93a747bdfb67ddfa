//! A guest: its records, and what it does that the hardware does not.
//!
//! Pure code over small traits, tested on the host. [`Guest`] is what its vCPUs share, [`Vcpu`] what each has for itself; [`exit`] decodes why one has left the
//! guest; [`sysreg`], [`psci`], [`mmio`] and [`inject`] are the answers. [`image`] and [`fdt`] make what a guest starts with.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod clock;
pub mod exit;
pub mod fdt;
pub mod given;
mod guest;
pub mod image;
pub mod inject;
pub mod magic;
pub mod mmio;
pub mod once;
pub mod outbox;
pub mod psci;
pub mod register;
pub mod shared;
pub mod stats;
pub mod stop;
pub mod sysreg;
pub mod timer;

pub use self::guest::*;
