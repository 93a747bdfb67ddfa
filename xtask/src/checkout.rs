//! The files that this checkout makes for the commands of `stasis`.

use std::path::PathBuf;

use anyhow::Result;
use stasis_tool::checkout::Checkout;

use crate::workspace::{Workspace, read};
use crate::{build, initramfs, run, setup};

/// A function that makes a file and returns its contents.
type Make = fn(&Workspace) -> Result<Vec<u8>>;

/// What is made besides the bare-metal guests of `tests/guests`: the name, and the function that makes it.
const MADE: [(&str, Make); 4] = [
    // Debian's kernel, and a busybox to go with it.
    ("linux", |workspace| read(&setup::guests::ensure(workspace)?.kernel)),
    ("initramfs", initramfs::make),
    ("initramfs-disks", initramfs::make_for_disks),
    // The application of `tests/arceos`.
    ("arceos", build::arceos),
];

impl Checkout for Workspace {
    fn made(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = MADE.iter().map(|(name, _)| (*name).to_owned()).collect();
        names.extend(build::guest_names(self)?);
        Ok(names)
    }

    fn make(&self, name: &str) -> Result<Vec<u8>> {
        match MADE.iter().find(|(known, _)| *known == name) {
            Some((_, make)) => make(self),
            None => read(&build::guests(self)?.join(name)),
        }
    }

    fn image(&self) -> Result<Vec<u8>> {
        read(&build::hypervisor(self)?.image)
    }

    fn device_tree(&self) -> Result<Vec<u8>> {
        read(&setup::boards::raspi4_device_tree(self)?)
    }

    fn configuration(&self, guest: Option<&str>) -> Result<PathBuf> {
        run::config_path(self, guest.unwrap_or("linux"))
    }
}
