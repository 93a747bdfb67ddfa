//! A file with a migration stream: [`Stream`].

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use stasis_convert::Error;
use stasis_convert::qemu::ram::{Ram, ReadError};
use stasis_convert::qemu::whole::RAM_NAME;
use stasis_convert::qemu::{Backend, Part, Sections, cpus};

use crate::checkpoint::Opened;

/// A migration stream in a file. Its memory stays there.
#[derive(Debug)]
pub struct Stream {
    file: File,
    len: u64,
    /// The stream's magic, and behind it the last bytes of the stream, which have the devices; the
    /// whole stream if it is short.
    pub bytes: Vec<u8>,
    /// Where in `bytes` the devices begin.
    devices_at: usize,
    /// The sections in `bytes`.
    pub sections: Sections,
    /// Name for messages.
    pub name: String,
}

impl Stream {
    /// Bytes of a stream's magic.
    const MAGIC_LEN: u64 = 8;
    /// Bytes of the end that are read. The devices of a machine `virt` take some hundred KiB.
    const MOST: u64 = 4 << 20;

    /// Opens a stream, and finds its devices.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        let metadata = file.metadata().with_context(|| format!("cannot read {name}"))?;
        ensure!(
            metadata.is_file(),
            "{name} is no regular file, of which the end is read first; write the stream to a file, and name that"
        );
        let len = metadata.len();
        let magic = len.min(Self::MAGIC_LEN);
        let mut bytes = vec![0; len.min(Self::MOST) as usize];
        let (head, tail) = bytes.split_at_mut(magic as usize);
        file.read_exact_at(head, 0)
            .and_then(|()| file.read_exact_at(tail, len - tail.len() as u64))
            .with_context(|| format!("cannot read {name}"))?;
        let sections = Sections::find(&bytes).with_context(|| format!("in {name}"))?;
        let devices_at = bytes.len() - sections.from_end;
        Ok(Self { file, len, bytes, devices_at, sections, name })
    }

    /// Checks that the stream is of a machine that runs by `backend`.
    pub fn check_backend(&mut self, backend: Backend) -> Result<()> {
        let checked = cpus::check_backend(&mut self.part(), backend);
        checked.with_context(|| format!("in {}", self.name))
    }

    /// Finds the memory. It ends where the devices begin.
    pub fn ram(&self) -> Result<Ram> {
        let found = Ram::find(&mut Opened::of(&self.file)?, self.sections.head as u64);
        let found = found.map_err(|error| match error {
            ReadError::Source(error) => error,
            ReadError::Stream(error) => error.into(),
        });
        let ram = found.with_context(|| format!("in {}", self.name))?;
        if ram.end + self.sections.from_end as u64 != self.len {
            let what = "something else than the devices behind it";
            return Err(
                anyhow!(Error::Memory { at: ram.end, what }).context(format!("in {}", self.name))
            );
        }
        Ok(ram)
    }

    /// Returns the end of the stream, from the devices on.
    pub fn devices(&self) -> &[u8] {
        &self.bytes[self.devices_at..]
    }

    /// Returns the file once more, to read it while the stream is converted.
    pub fn file(&self) -> Result<File> {
        Ok(self.file.try_clone()?)
    }

    /// Fills `into` with the bytes of the file at `at`.
    pub fn read_at(&self, at: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.file.read_exact_at(into, at)
    }

    /// Returns the sections, and the bytes that they are in, for a conversion.
    pub fn part(&mut self) -> Part<'_> {
        Part { bytes: &mut self.bytes, sections: &self.sections }
    }

    /// Returns the time at which the stream was written, in seconds since 1970; 0 if that is not
    /// known.
    pub fn written(&self) -> u64 {
        let time = self.file.metadata().and_then(|metadata| metadata.modified()).ok();
        let since = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        since.map_or(0, |since| since.as_secs())
    }
}

/// Checks that a machine has no memory with anything in it but RAM, and tables that QEMU writes for
/// its firmware. Returns the bytes of its RAM.
pub fn check_ram(ram: &Ram) -> Result<u64, Error> {
    let main = ram.block(RAM_NAME)?;
    let is_foreign = |name: &str| name != RAM_NAME && !name.starts_with("/rom@");
    let in_use = ram.blocks.iter().find(|block| is_foreign(&block.name) && block.next(0).is_some());
    match in_use {
        Some(block) if block.name == "pvtime" => Err(Error::StolenTime),
        Some(block) => Err(Error::MemoryInUse { name: block.name.clone() }),
        None => Ok(main.len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_no_file_is_refused_by_name() {
        let error = Stream::open(Path::new("/dev/null")).err().unwrap().to_string();
        assert!(error.starts_with("/dev/null is no regular file"), "{error}");
    }
}
