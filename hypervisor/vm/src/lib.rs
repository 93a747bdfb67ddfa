//! Guests: what they are made of, what they do that the hardware does not, and how they are kept.
//!
//! Pure code over small traits, tested on the host. What it decides, `boot` carries out.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod archive;
pub mod board;
pub mod clock;
pub mod config;
pub mod console;
pub mod devices;
pub mod exit;
pub mod fdt;
pub mod given;
pub mod guest;
pub mod image;
pub mod inject;
pub mod machine;
pub mod magic;
pub mod mmio;
pub mod once;
pub mod periodic;
pub mod psci;
pub mod range;
pub mod recovery;
pub mod register;
pub mod sched;
pub mod shared;
pub mod stats;
pub mod sysreg;
pub mod text;
pub mod timer;
