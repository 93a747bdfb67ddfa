//! Writes cpio archives in the "new ASCII" format (`070701`): the boot initrd, and the Linux
//! guest's initramfs.
//!
//! cpio(5), "New ASCII Format", describes the format.

use anyhow::{Context, Result, ensure};

use crate::content::Content;

const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive that is being written.
#[derive(Default)]
pub struct Cpio {
    content: Content,
    entries: u32,
}

impl Cpio {
    /// Returns an empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    pub fn file(
        &mut self,
        name: &str,
        permissions: u32,
        data: impl Into<Content>,
    ) -> Result<&mut Self> {
        self.entry(name, REGULAR | permissions, (0, 0), data.into())
    }

    /// Adds a folder.
    pub fn folder(&mut self, name: &str) -> Result<&mut Self> {
        self.entry(name, FOLDER | 0o755, (0, 0), Content::default())
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &str, to: &str) -> Result<&mut Self> {
        self.entry(name, LINK | 0o777, (0, 0), to.into())
    }

    /// Adds a character device.
    pub fn device(&mut self, name: &str, major: u32, minor: u32) -> Result<&mut Self> {
        self.entry(name, CHARACTER_DEVICE | 0o600, (major, minor), Content::default())
    }

    /// Returns the finished archive.
    pub fn finish(mut self) -> Content {
        self.put(0, "TRAILER!!!", 0, (0, 0), Content::default());
        // Pad as cpio(1) does, because loaders like whole blocks.
        self.pad(512);
        self.content
    }

    fn entry(
        &mut self,
        name: &str,
        mode: u32,
        device: (u32, u32),
        data: Content,
    ) -> Result<&mut Self> {
        ensure!(!name.is_empty() && !name.contains('\0'), "\"{name}\" is no name for a file");
        u32::try_from(data.len())
            .ok()
            .with_context(|| format!("\"{name}\" is too large for a cpio archive"))?;
        self.entries += 1;
        self.put(self.entries, name, mode, device, data);
        Ok(self)
    }

    fn put(&mut self, inode: u32, name: &str, mode: u32, device: (u32, u32), data: Content) {
        let (links, no_time, no_owner) = (1, 0, 0);
        let fields = [
            inode,
            mode,
            no_owner,
            no_owner,
            links,
            no_time,
            data.len() as u32,
            0,
            0,
            device.0,
            device.1,
            name.len() as u32 + 1,
            0,
        ];
        let fields: String = fields.iter().map(|field| format!("{field:08x}")).collect();
        self.content.append_bytes(format!("070701{fields}{name}\0").as_bytes());
        self.pad(4);
        self.content.append(data);
        self.pad(4);
    }

    /// Adds zeros until the archive's length is a multiple of `bytes`.
    fn pad(&mut self, bytes: u64) {
        self.content.pad_to(self.content.len().next_multiple_of(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stasis_host::archive::Archive;

    #[test]
    fn the_hypervisor_reads_what_is_written() {
        let mut cpio = Cpio::new();
        cpio.file("odd", 0o644, "12345").unwrap();
        cpio.folder("folder").unwrap();
        cpio.file("empty", 0o644, "").unwrap();
        let bytes = cpio.finish().to_bytes().unwrap();
        let archive = Archive::open(&bytes).unwrap();
        assert_eq!(archive.file("odd").unwrap(), b"12345");
        assert_eq!(archive.file("empty").unwrap(), b"");
        assert_eq!(archive.files().count(), 2);
    }

    #[test]
    fn a_file_without_a_name_is_refused() {
        assert!(Cpio::new().file("", 0o644, "").is_err());
    }
}
