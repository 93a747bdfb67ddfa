//! A folder for each test, and what is shown of it when the test fails.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use stasis_store::Store;
use xtask::workspace::{Workspace, read};
use xtask::{build, disk, setup};

/// Lines of each transcript that a failure shows.
const TAIL_LINES: usize = 60;
/// Bytes of a disk, where a test does not care.
const DISK_SIZE: u64 = 256 << 20;

/// What all tests boot.
pub struct Built {
    /// The project.
    pub workspace: Workspace,
    /// The hypervisor.
    pub image: PathBuf,
    /// The ELF file of the image, which has symbols.
    pub elf: PathBuf,
    /// The folder with the bare-metal guests.
    pub guests: PathBuf,
}

impl Built {
    /// Builds it, once in a run.
    pub fn get() -> Result<&'static Self> {
        static BUILT: OnceLock<Result<Built, String>> = OnceLock::new();
        BUILT
            .get_or_init(|| Self::build().map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow!("what the tests boot could not be built: {error}"))
    }

    fn build() -> Result<Self> {
        let workspace = Workspace::find()?;
        setup::qemu::ensure(&workspace)?;
        let build::Hypervisor { image, elf } = build::hypervisor(&workspace)?;
        let guests = build::guests(&workspace)?;
        Ok(Self { workspace, image, elf, guests })
    }
}

/// A test's own folder.
pub struct Lab {
    folder: PathBuf,
}

impl Lab {
    /// Runs a test in a folder of its own, which is kept if it fails.
    pub fn run(name: &str, test: fn(&Lab) -> Result<()>) -> Result<(), String> {
        let lab = Self::new(name).map_err(|error| format!("{error:#}"))?;
        match test(&lab) {
            Ok(()) => {
                // What can't be removed is overwritten by the next run.
                let _ = std::fs::remove_dir_all(&lab.folder);
                Ok(())
            }
            Err(error) => Err(format!("{error:#}\n{}", lab.transcripts())),
        }
    }

    fn new(name: &str) -> Result<Self> {
        let folder = Built::get()?.workspace.folder("qemu-tests")?.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// Returns a file in the test's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Returns the path of a transcript that is not there yet.
    pub fn next_transcript(&self) -> PathBuf {
        let number = (1..).find(|n| !self.path(&format!("{n}.log")).exists());
        self.path(&format!("{}.log", number.unwrap_or(0)))
    }

    /// Returns the ELF file of a bare-metal guest.
    pub fn guest(&self, name: &str) -> Result<Vec<u8>> {
        read(&Built::get()?.guests.join(name))
    }

    /// Returns a disk with an empty store.
    pub fn disk(&self) -> Result<PathBuf> {
        self.disk_of(DISK_SIZE)
    }

    /// Returns a disk of `size` bytes with an empty store.
    pub fn disk_of(&self, size: u64) -> Result<PathBuf> {
        let path = self.path("disk.img");
        disk::create(&path, size)?;
        Ok(path)
    }

    /// Returns a disk with an empty store of an older version.
    pub fn disk_of_version(&self, name: &str, version: u32) -> Result<PathBuf> {
        let path = self.path(name);
        disk::create(&path, DISK_SIZE)?;
        let (device, partition) = disk::stasis_partition(&path, true, true)?;
        Store::format_as(device, partition, version)?;
        Ok(path)
    }

    /// Returns the ends of all that was said.
    fn transcripts(&self) -> String {
        let mut text = format!("(kept in {})\n", self.folder.display());
        for number in 1.. {
            let path = self.path(&format!("{number}.log"));
            let Ok(transcript) = std::fs::read(&path) else { break };
            // Writing to a String does not fail.
            let _ = writeln!(text, "--- the end of {}:\n{}", path.display(), tail(&transcript));
        }
        text
    }
}

fn tail(transcript: &[u8]) -> String {
    let text = String::from_utf8_lossy(transcript);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Copies a disk image. The copy is as sparse as it is.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = std::process::Command::new("cp")
        .args(["--sparse=always", "--"])
        .args([from, to])
        .status()
        .context("cannot start cp")?;
    anyhow::ensure!(status.success(), "cp {} {} failed", from.display(), to.display());
    Ok(())
}
