//! Builds, runs, shows and tests Stasis: `cargo xtask`, and what the tests that boot QEMU share
//! with it. The users' tool is a crate of its own, [`stasis_tool`], whose commands `cargo xtask`
//! takes, too.
//!
//! - [`cli`]: the tasks; [`workspace`]: where things lie; [`checkout`]: what the users' tool takes
//!   from there.
//! - [`setup`]: installs what is lacking.
//! - [`build`], [`elf`]: the hypervisor's image and the guests.
//! - [`initramfs`]: the Linux guest's; [`images`]: disks of guests.
//! - [`qemu`], [`console`], [`monitor`], [`page`]: a machine, and conversations with it, with QEMU
//!   and with a guest's server.
//! - [`run`], [`demo`], [`test`], [`miri`], [`bench`], [`dist`]: the tasks that are more than one
//!   of the above.

// The macros that print panic where nobody reads to the end; report prints.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod bench;
pub mod board;
pub mod build;
pub mod checkout;
pub mod cli;
pub mod console;
pub mod demo;
pub mod dist;
pub mod elf;
pub mod images;
pub mod initramfs;
pub mod miri;
pub mod monitor;
pub mod page;
pub mod qemu;
pub mod run;
pub mod setup;
pub mod test;
pub mod workspace;

// What the tasks and the tests that boot QEMU take from the users' tool.
pub use stasis_tool::{archive, card, config, content, cpio, disk, output, report};
