//! `stasis-kvm`: runs a checkpoint of Stasis on the KVM of a Linux on arm64, and makes checkpoints
//! there that Stasis resumes.
//!
//! - [`cli`]: the command line; `session`: the main thread, which has the terminal, the signals and
//!   the devices' time.
//! - [`image`]: a checkpoint's file, and the guest's memory out of it; [`memory`]: that memory;
//!   [`file`]: what a checkpoint is written to.
//! - [`wish`]: what is typed behind Ctrl-A; [`lacking`]: what a machine lacks that cannot run a
//!   guest.
//! - [`board`]: the devices, which are Stasis's own models; [`disk`], [`outside`]: what is behind
//!   the virtio devices.
//! - `machine`: the guest on KVM, all of it, and its instants; `gic`, `registers`, `clock`: its
//!   parts; `vcpu`, `control`: its threads.
//!
//! What becomes of a guest's state between the two is decided in [`stasis_convert::kvm`], which
//! needs no KVM and is tested on the host. The modules that need a KVM are there for arm64 alone.

pub mod arguments;
pub mod board;
pub mod cli;
pub mod disk;
pub mod file;
pub mod image;
pub mod lacking;
pub mod memory;
pub mod outside;
pub mod wish;

#[cfg(target_arch = "aarch64")]
mod clock;
#[cfg(target_arch = "aarch64")]
mod control;
#[cfg(target_arch = "aarch64")]
mod gic;
#[cfg(target_arch = "aarch64")]
mod machine;
#[cfg(target_arch = "aarch64")]
mod registers;
#[cfg(target_arch = "aarch64")]
mod session;
#[cfg(target_arch = "aarch64")]
mod shared;
#[cfg(target_arch = "aarch64")]
mod vcpu;
