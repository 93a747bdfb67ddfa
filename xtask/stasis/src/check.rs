//! `stasis check`: what Stasis would say of a configuration, and, with a board's device tree, what
//! it would say on that board.
//!
//! The rules are Stasis's own: those of the configuration and of images as for `pack`, those of a
//! board by [`rehearse`].

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use dtoolkit::fdt::Fdt;
use stasis_host::rehearsal::{Complaint, Finding, Loaded, Rehearsed, Subject, rehearse};

use crate::archive;
use crate::checkout::Checkout;
use crate::config::{Config, Written};
use crate::content::Content;
use crate::report;

/// The text behind the command's help.
pub const DETAILS: &str = "\
With --dtb all that the board would say is said: cores, devices and memory that are not there. QEMU writes its own tree
by `-M virt,virtualization=on,gic-version=2,dumpdtb=board.dtb`. Whether a disk has a store, only the board knows.";

/// Bytes that the image takes with its heap and stacks, where nobody gives it: somewhat more than
/// any has taken so far.
const IMAGE_BYTES: u64 = 8 << 20;
/// The greatest device tree that is read, in bytes.
const MAX_TREE: u64 = 2 << 20;

/// The words of the command.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The guests' configuration
    #[arg(value_name = "CONFIG.toml")]
    config: PathBuf,
    /// The board's device tree: say also what the board would say
    #[arg(long, value_name = "BOARD.dtb")]
    dtb: Option<PathBuf>,
    /// Stasis's image, which takes memory of the board's; else 8 MiB are assumed
    #[arg(long, value_name = "IMAGE", requires = "dtb")]
    image: Option<PathBuf>,
    /// How much RAM the board has, if its firmware alone says so to Stasis, as a Raspberry Pi's
    /// does
    #[arg(long, value_name = "SIZE", requires = "dtb", value_parser = report::size_from, default_value = "0M")]
    ram: u64,
}

/// Checks a configuration, its files, and what a board makes of it.
pub fn main(checkout: &dyn Checkout, arguments: &Arguments) -> Result<()> {
    let path = &arguments.config;
    let written = Written::read(path)?;
    let config = written.config(checkout, path)?;
    let archive = archive::from_config(checkout, &config)?;
    if let Some(dtb) = &arguments.dtb {
        let image = arguments.image.as_deref().map_or(Ok(IMAGE_BYTES), image_bytes)?;
        let loaded = Loaded { image, archive: archive.len(), ram: arguments.ram };
        on_board(path, &config, &written, dtb, loaded)?;
    }
    report::step(format_args!("{}: good", path.display()));
    Ok(())
}

/// Says what a board would say of a configuration. Fails if something of it comes to nothing there.
fn on_board(
    path: &Path,
    config: &Config,
    written: &Written,
    dtb: &Path,
    loaded: Loaded,
) -> Result<()> {
    let tree = read_tree(dtb)?;
    let fdt = Fdt::new(&tree).with_context(|| format!("{} is no device tree", dtb.display()))?;
    let board = || format!("Stasis can't boot on {}", dtb.display());
    let rehearsed = rehearse(&config.configuration, fdt, loaded).with_context(board)?;
    if rehearsed.free_at_first == 0 {
        bail!("{} says nothing of RAM: say how much the board has by --ram SIZE", dtb.display());
    }
    let Rehearsed { model, cores, free_at_first, free_at_last, findings } = rehearsed;
    report::step(format_args!(
        "{model}: {cores} cores, {} of RAM free; {} when all guests are made",
        report::size(free_at_first),
        report::size(free_at_last)
    ));
    for Finding { place, complaint } in &findings {
        let said = format!("{}: {}", path.display(), said(config, written, *place, complaint));
        match complaint.is_error() {
            true => report::error(said),
            false => report::warn(said),
        }
    }
    match findings.iter().filter(|finding| finding.complaint.is_error()).count() {
        0 => Ok(()),
        1 => bail!("one thing of the configuration comes to nothing on {}", dtb.display()),
        many => bail!("{many} things of the configuration come to nothing on {}", dtb.display()),
    }
}

/// Returns what the board says of a place, behind its line and key.
fn said(config: &Config, written: &Written, place: Subject, complaint: &Complaint) -> String {
    let at = written.at(place);
    let configuration = &config.configuration;
    match place {
        Subject::Core(_) => format!("{at}: {complaint}"),
        Subject::Shared(index) => {
            format!("{at}: shared memory \"{}\": {complaint}", configuration.shared[index].name)
        }
        Subject::Network(index) => {
            format!("{at}: network \"{}\": {complaint}", configuration.networks[index].name)
        }
        Subject::Guest(index, _) => {
            let colon = if complaint.is_error() { ": " } else { "" };
            format!("{at}: guest \"{}\"{colon}{complaint}", configuration.guests[index].name)
        }
    }
}

/// Returns the bytes of a device tree.
fn read_tree(path: &Path) -> Result<Vec<u8>> {
    let content = Content::open(path)?;
    if content.len() > MAX_TREE {
        bail!("{} has {}, and is no device tree", path.display(), report::size(content.len()));
    }
    content.to_bytes()
}

/// Returns how many bytes of memory an arm64 `Image` takes, by its header (Linux,
/// Documentation/arch/arm64/booting.rst).
fn image_bytes(path: &Path) -> Result<u64> {
    let content = Content::open(path)?;
    let mut header = [0; 64];
    let read = content.read_at(0, &mut header);
    read.with_context(|| format!("{} is no arm64 Image", path.display()))?;
    if header[56..60] != *b"ARM\x64" {
        bail!("{} is no arm64 Image, as `cargo xtask build` makes it", path.display());
    }
    let size = u64::from_le_bytes(header.as_chunks().0[2]);
    Ok(size.max(content.len()))
}
