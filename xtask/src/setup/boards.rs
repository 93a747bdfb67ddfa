//! What boards need and QEMU does not bring: the device tree of the Raspberry Pi 4, from Debian's
//! arm64 kernel.

use std::path::PathBuf;

use anyhow::{Context, Result};
use stasis_tool::card::boot::RASPI4_DEVICE_TREE;

use super::debian::{Debian, take};
use super::guests::ARCHITECTURE;
use crate::report;
use crate::workspace::Workspace;

/// The package that depends on the newest kernel for real boards. The kernel for clouds has no
/// device trees.
const KERNEL: &str = "linux-image-arm64";

/// Returns the path of the Raspberry Pi 4's device tree. Fetches it if it is not there.
pub fn raspi4_device_tree(workspace: &Workspace) -> Result<PathBuf> {
    let path = workspace.folder("boards")?.join(RASPI4_DEVICE_TREE);
    if !path.exists() {
        fetch(workspace, &path).with_context(|| {
            format!(
                "the device tree of the Raspberry Pi 4 is lacking. By hand: put {RASPI4_DEVICE_TREE}, which Linux and \
                 the Raspberry Pi's firmware have, at {}",
                workspace.show(&path)
            )
        })?;
    }
    Ok(path)
}

fn fetch(workspace: &Workspace, path: &std::path::Path) -> Result<()> {
    let debian = Debian::find(workspace)?;
    report::step(format_args!(
        "fetching the Raspberry Pi 4's device tree: {KERNEL} of Debian {}",
        debian.codename
    ));
    let packages = debian.packages(workspace, &debian.codename, ARCHITECTURE)?;
    let kernel = packages.kernel(KERNEL)?;
    let unpacked = workspace.folder("setup/board-packages")?;
    packages.unpack(&kernel, &unpacked)?;
    let inside = format!("usr/lib/{kernel}/broadcom/{RASPI4_DEVICE_TREE}");
    take(&unpacked.join(inside), path)?;
    report::note(format_args!("it lies in {}", workspace.show(path)));
    std::fs::remove_dir_all(&unpacked).context("cannot remove the unpacked package")
}
