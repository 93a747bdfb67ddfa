//! Writes cpio archives in the "new ASCII" format (`070701`): the boot initrd, and the Linux guest's initramfs.
//!
//! cpio(5), "New ASCII Format", describes the format.

use anyhow::{Context, Result, ensure};

const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive that is being written.
#[derive(Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    /// Returns an empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, permissions: u32, data: &[u8]) -> Result<&mut Self> {
        self.entry(name, REGULAR | permissions, (0, 0), data)
    }

    /// Adds a folder.
    pub fn folder(&mut self, name: &str) -> Result<&mut Self> {
        self.entry(name, FOLDER | 0o755, (0, 0), &[])
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &str, to: &str) -> Result<&mut Self> {
        self.entry(name, LINK | 0o777, (0, 0), to.as_bytes())
    }

    /// Adds a character device.
    pub fn device(&mut self, name: &str, major: u32, minor: u32) -> Result<&mut Self> {
        self.entry(name, CHARACTER_DEVICE | 0o600, (major, minor), &[])
    }

    /// Returns the finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.put(0, "TRAILER!!!", 0, (0, 0), &[]);
        // Pad as cpio(1) does, because loaders like whole blocks.
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }

    fn entry(
        &mut self,
        name: &str,
        mode: u32,
        device: (u32, u32),
        data: &[u8],
    ) -> Result<&mut Self> {
        ensure!(!name.is_empty() && !name.contains('\0'), "\"{name}\" is no name for a file");
        u32::try_from(data.len())
            .ok()
            .with_context(|| format!("\"{name}\" is too large for a cpio archive"))?;
        self.entries += 1;
        self.put(self.entries, name, mode, device, data);
        Ok(self)
    }

    fn put(&mut self, inode: u32, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
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
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stasis_host::archive::Archive;

    #[test]
    fn the_hypervisor_reads_what_is_written() {
        let mut cpio = Cpio::new();
        cpio.file("odd", 0o644, b"12345").unwrap();
        cpio.folder("folder").unwrap();
        cpio.file("empty", 0o644, b"").unwrap();
        let bytes = cpio.finish();
        let archive = Archive::open(&bytes).unwrap();
        assert_eq!(archive.file("odd").unwrap(), b"12345");
        assert_eq!(archive.file("empty").unwrap(), b"");
        assert_eq!(archive.files().count(), 2);
    }

    #[test]
    fn a_file_without_a_name_is_refused() {
        assert!(Cpio::new().file("", 0o644, b"").is_err());
    }
}
