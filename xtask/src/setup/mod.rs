//! Installs what is lacking. Every part looks first, says what it does, and does nothing where nothing is to be done.
//!
//! - [`rust`]: the Rust targets; [`qemu`]: a QEMU that has the boards; [`guests`]: the Linux guest's packages.
//! - [`tools`]: what only tests run.
//! - [`debian`]: Debian's packages, without a change to the system's own package lists.

pub mod boards;
pub mod debian;
pub mod guests;
pub mod qemu;
pub mod rust;
pub mod tools;

use anyhow::Result;

use crate::report;
use crate::workspace::Workspace;

/// Everything that any command needs.
pub fn all(workspace: &Workspace) -> Result<()> {
    rust::ensure(workspace)?;
    qemu::ensure(workspace)?;
    guests::ensure(workspace)?;
    boards::raspi4_device_tree(workspace)?;
    tools::ensure();
    report::step("everything that Stasis needs is installed");
    Ok(())
}
