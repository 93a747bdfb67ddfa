//! Builds, runs, shows and tests Stasis: `cargo xtask`, and what the tests that boot QEMU share with it.
//!
//! - [`cli`]: the commands; [`workspace`]: where things lie; [`report`]: what a person sees meanwhile.
//! - [`setup`]: installs what is lacking.
//! - [`build`], [`elf`]: the hypervisor's image and the guests.
//! - [`config`], [`archive`], [`cpio`], [`initramfs`]: what goes into the boot initrd.
//! - [`disk`]: disk images with a partition for checkpoints; [`output`]: files that are there whole or not at all.
//! - [`qemu`], [`console`], [`monitor`]: a machine, and conversations with it and with QEMU.
//! - [`run`], [`demo`], [`test`], [`miri`], [`bench`], [`checkpoint`], [`convert`]: the commands that are more than one of the above.

pub mod archive;
pub mod bench;
pub mod board;
pub mod build;
pub mod card;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod console;
pub mod convert;
pub mod cpio;
pub mod demo;
pub mod disk;
pub mod elf;
pub mod initramfs;
pub mod miri;
pub mod monitor;
pub mod output;
pub mod qemu;
pub mod report;
pub mod run;
pub mod setup;
pub mod test;
pub mod workspace;
