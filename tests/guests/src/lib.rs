//! What the bare-metal guests are made of.
//!
//! The guests run at EL1 on the machine of QEMU's `virt` with `gic-version=2`: there, and under
//! Stasis, which must look the same to them.
//!
//! - [`workload`]: what `counter` and others do to their memory; pure, so that the host can
//!   foretell its hashes.
//! - [`pace`]: the deadlines of the real-time guests, and the lines that tell of them; pure as
//!   well.
//! - [`ring`]: what guests do by turns to memory that they share; pure as well.
//! - [`random`]: numbers without a pattern.
//! - `runtime`: entry, stack, MMU, exception vectors, panic.
//! - `exception`: the faults that a guest provokes on purpose, and its interrupts.
//! - `mmio`: device registers, by single instructions that a hypervisor can emulate.
//! - `sysreg`: system registers by name.
//! - `code`: instructions that are not known before the guest runs.
//! - `second`: another CPU that does what it is asked to.
//! - `uart`, `gic`, `timer`, `rtc`, `gpio`, `psci`: the machine's devices and its firmware.

#![cfg_attr(target_os = "none", no_std)]

pub mod encodings;
pub mod pace;
pub mod random;
pub mod ring;
pub mod workload;

#[cfg(target_os = "none")]
pub mod code;
#[cfg(target_os = "none")]
pub mod exception;
#[cfg(target_os = "none")]
pub mod gic;
#[cfg(target_os = "none")]
pub mod gpio;
#[cfg(target_os = "none")]
pub mod mmio;
#[cfg(target_os = "none")]
pub mod psci;
#[cfg(target_os = "none")]
pub mod rtc;
#[cfg(target_os = "none")]
pub mod runtime;
#[cfg(target_os = "none")]
pub mod second;
#[cfg(target_os = "none")]
#[macro_use]
pub mod sysreg;
#[cfg(target_os = "none")]
pub mod timer;
#[cfg(target_os = "none")]
#[macro_use]
pub mod uart;
#[cfg(target_os = "none")]
pub mod vector;
