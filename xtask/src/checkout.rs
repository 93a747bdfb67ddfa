//! The files that this checkout makes for the commands of `stasis`.

use std::path::PathBuf;

use anyhow::Result;
use stasis_tool::checkout::Checkout;
use stasis_tool::content::Content;

use crate::workspace::Workspace;
use crate::{build, images, initramfs, run, setup};

/// A function that makes a file and returns its contents.
type Make = fn(&Workspace) -> Result<Content>;

/// What is made besides the bare-metal guests of `tests/guests`: the name, and the function that
/// makes it.
const MADE: [(&str, Make); 7] = [
    // Debian's kernel, and a busybox to go with it.
    ("linux", |workspace| Content::open(&setup::guests::ensure(workspace)?.kernel)),
    ("initramfs", |workspace| Ok(initramfs::make(workspace)?.into())),
    ("initramfs-disks", |workspace| Ok(initramfs::make_with_virtio(workspace)?.into())),
    // A whole Debian: its disk, and the kernel and the initramfs that are on it.
    ("debian", |workspace| Content::open(&images::system::ensure(workspace)?.image)),
    ("debian-kernel", |workspace| Content::open(&images::system::ensure(workspace)?.kernel)),
    ("debian-initramfs", |workspace| Content::open(&images::system::ensure(workspace)?.initrd)),
    // The application of `tests/arceos`.
    ("arceos", |workspace| Ok(build::arceos(workspace)?.into())),
];

impl Checkout for Workspace {
    fn made(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = MADE.iter().map(|(name, _)| (*name).to_owned()).collect();
        names.extend(build::guest_names(self)?);
        Ok(names)
    }

    fn make(&self, name: &str) -> Result<Content> {
        match MADE.iter().find(|(known, _)| *known == name) {
            Some((_, make)) => make(self),
            None => Content::open(&build::guests(self)?.join(name)),
        }
    }

    fn image(&self) -> Result<Content> {
        Content::open(&build::hypervisor(self)?.image)
    }

    fn device_tree(&self) -> Result<Content> {
        Content::open(&setup::boards::raspi4_device_tree(self)?)
    }

    fn configuration(&self, guest: Option<&str>) -> Result<PathBuf> {
        run::config_path(self, guest.unwrap_or("linux"))
    }
}
