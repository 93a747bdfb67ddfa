//! The only crate with EL2 assembly and system registers (Arm ARM, DDI 0487).
//!
//! - [`boot`]: from the firmware's entry to Rust, with the MMU and the caches on.
//! - [`vectors`]: exceptions: the guest's exits, and EL2's own, which are fatal.
//! - [`world`]: a vCPU on this core, from its loading to its unloading; `fp` and `debug`: the
//!   larger banks of its registers.
//! - [`mmu`], [`cache`]: what changes what memory means, each with its barriers.
//! - [`timer`]: the counter, the guest's virtual timer, and EL2's own.
//! - [`cpu`]: this core, its number, its traps. [`crc`]: its CRC-32C. [`zero`]: which pages are
//!   zero.
//! - [`copy`]: `memcpy` and `memset`, and the same for memory that others write. [`regions`]: where
//!   the image is.

#![no_std]
#![cfg(target_arch = "aarch64")]

#[macro_use]
mod sysreg;

pub mod boot;
pub mod cache;
pub mod copy;
pub mod cpu;
pub mod crc;
mod debug;
mod fp;
pub mod mmu;
pub mod regions;
pub mod timer;
pub mod vectors;
pub mod world;
pub mod zero;
