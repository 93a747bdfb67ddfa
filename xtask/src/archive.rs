//! The boot archive: the guests' configuration and their images in one cpio.

use std::path::Path;

use anyhow::{Context, Result};
use stasis_vm::config::{self as vm, Configuration};

use crate::config::{Config, Made, Source};
use crate::cpio::Cpio;
use crate::workspace::{Workspace, read};
use crate::{build, initramfs, setup};

/// An archive of this configuration and these files.
pub fn pack(configuration: &Configuration, files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let configuration = vm::compile(configuration).map_err(anyhow::Error::new)?;
    pack_raw(&configuration, files)
}

/// An archive with this for its configuration, which may be anything: for tests of bad input.
pub fn pack_raw(configuration: &[u8], files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut cpio = Cpio::new();
    cpio.file(vm::FILE_NAME, 0o644, configuration)?;
    for (name, data) in files {
        cpio.file(name, 0o644, data)?;
    }
    Ok(cpio.finish())
}

/// The archive that the configuration in `path` describes. What it needs is made.
pub fn from_file(workspace: &Workspace, path: &Path) -> Result<Vec<u8>> {
    from_config(workspace, &Config::read(workspace, path)?)
}

/// The archive for a configuration. What it needs is made.
pub fn from_config(workspace: &Workspace, config: &Config) -> Result<Vec<u8>> {
    let mut files = Vec::new();
    for (name, source) in &config.files {
        let data = fetch(workspace, source).with_context(|| format!("file \"{name}\""))?;
        files.push((name.as_str(), data));
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, data)| (*name, &data[..])).collect();
    pack(&config.configuration, &files)
}

/// A file's contents, made if need be.
pub fn fetch(workspace: &Workspace, source: &Source) -> Result<Vec<u8>> {
    match source {
        Source::Path(path) => read(path),
        Source::Made(Made::Linux) => read(&setup::guests::ensure(workspace)?.kernel),
        Source::Made(Made::Initramfs) => initramfs::make(workspace),
        Source::Made(Made::InitramfsDisks) => initramfs::make_for_disks(workspace),
        Source::Made(Made::Arceos) => build::arceos(workspace),
        Source::Made(Made::Guest(name)) => read(&build::guests(workspace)?.join(name)),
    }
}
