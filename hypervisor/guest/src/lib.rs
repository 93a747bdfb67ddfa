//! A guest: its records, and the answers to what the hardware does not do for it.
//!
//! This is pure code over small traits, tested on the host. [`Guest`] is what a guest's vCPUs
//! share, [`Vcpu`] what each vCPU has for itself. [`exit`] decodes why a vCPU has left the guest;
//! [`sysreg`], [`psci`], [`mmio`] and [`inject`] answer. [`image`] and [`fdt`] make what a guest
//! starts with.
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
