//! The users' tool of Stasis, `stasis`: everything that is done on a host to the files of Stasis.
//!
//! - [`cli`]: the commands; [`checkout`]: what some of them take from a checkout of Stasis, where
//!   there is one.
//! - [`volume`]: the disks of guests in a store.
//! - [`checkpoint`]: checkpoints in files and on disks; [`convert`]: to and from QEMU and KVM.
//! - [`config`], [`archive`], [`cpio`]: what goes into the boot initrd; [`check`]: what Stasis, and
//!   a board, would say of it.
//! - [`console`]: a terminal on a machine's console.
//! - `gdb`: a debugger on a guest.
//! - [`disk`], [`card`]: disk images and cards with a partition for checkpoints.
//! - [`files`], [`content`], [`output`]: files that are read, what is made of them piece by piece,
//!   and files that are there whole or not at all.
//! - [`report`], [`suggest`]: what a person sees.
//!
//! `cargo xtask` has these commands, too, and uses this library for its own tasks.

// The macros that print panic where nobody reads to the end; report prints.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod archive;
pub mod card;
pub mod check;
pub mod checkout;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod console;
pub mod content;
pub mod convert;
pub mod cpio;
pub mod ctl;
pub mod disk;
pub mod files;
mod gdb;
mod names;
pub mod output;
pub mod qemu_option;
pub mod report;
pub mod suggest;
pub mod top;
pub mod volume;
