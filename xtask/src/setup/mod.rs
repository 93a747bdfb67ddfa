//! Installs what is missing. Every part looks first, says what it does, and does nothing if nothing
//! is missing.
//!
//! - [`rust`]: the Rust targets; [`qemu`]: a QEMU that has the boards; [`guests`]: the Linux
//!   guest's packages.
//! - [`arm_qemu`]: a QEMU that runs in a Linux on arm64, which only tests want.
//! - [`programs`]: programs of Debian's for arm64, with their libraries.
//! - [`tools`]: programs that only tests run.
//! - [`debian`]: Debian's packages, without a change to the system's own package lists.

pub mod arm_qemu;
pub mod boards;
pub mod debian;
pub mod guests;
pub mod programs;
pub mod qemu;
pub mod rust;
pub mod tools;

use anyhow::Result;

use crate::report;
use crate::workspace::Workspace;

/// The text behind the command's help.
pub const DETAILS: &str = "\
Rust's targets for AArch64 (with STASIS_NO_RUSTUP=1 built from Debian's rust-src), a QEMU that has the board raspi4b,
and the Linux guest's packages, which go to target/guests and not into the system.";

/// Installs everything that any command needs.
pub fn all(workspace: &Workspace) -> Result<()> {
    rust::ensure(workspace)?;
    qemu::ensure(workspace)?;
    guests::ensure(workspace)?;
    boards::raspi4_device_tree(workspace)?;
    tools::ensure();
    report::step("everything that Stasis needs is installed");
    Ok(())
}
