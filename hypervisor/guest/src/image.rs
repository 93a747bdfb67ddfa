//! Loads a guest: its image, its initial RAM disk and its device tree, at the addresses where
//! QEMU's `virt` puts them.
//!
//! Bare code gets its device tree twice. `qemu -kernel` boots it like a kernel, with the tree above
//! the image and its address in X0. U-Boot and others look for the tree at the start of RAM, where
//! QEMU has it for firmware (`-bios`).
//!
//! An arm64 Linux `Image` is placed by its header (Documentation/arch/arm64/booting.rst in the
//! kernel), an ELF file by its segments' physical addresses, raw code at RAM + 0x8_0000. Every
//! number in a file is checked against the guest's RAM before it is used. Compressed images are
//! refused, because EL2 is no place to unpack them.

mod elf;
mod error;
mod linux;
mod place;

use alloc::vec::Vec;
use core::fmt;
use core::iter;
use core::ops::Range;

pub use self::error::{ImageError, Warning};
use self::place::Layout;
use crate::fdt;
use crate::given::Device;
use crate::magic::{self, Found};
use crate::sysreg::identity::Granule;
use stasis_devices::equipment::Equipment;
use stasis_state::WriteRam;

/// Bytes from the start of RAM to raw code.
const RAW_OFFSET: usize = 0x8_0000;

/// The format of a guest's image, which decides how it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An arm64 Linux `Image`.
    Linux,
    /// An ELF file for AArch64.
    Elf,
    /// Bare code, entered at its first byte.
    Raw,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 3] = [Kind::Linux, Kind::Elf, Kind::Raw];

    /// Returns the kind's name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Linux => "linux",
            Kind::Elf => "elf",
            Kind::Raw => "raw",
        }
    }

    /// Returns the kind with this name in a configuration, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The parts from which a guest is loaded.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// Guest-physical address of the RAM.
    pub ram_base: u64,
    /// The kernel or program.
    pub image: &'a [u8],
    /// Kind of the image. None: the image's first bytes decide.
    pub kind: Option<Kind>,
    /// The initial RAM disk.
    pub initrd: Option<&'a [u8]>,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// Number of vCPUs.
    pub vcpus: u8,
    /// Frequency of the guest's counter, in Hz, if CNTFRQ_EL0 may say something else.
    pub counter_frequency: Option<u32>,
    /// The parts of the guest's machine that not every guest has.
    pub equipment: Equipment<'a>,
    /// The machine's devices that the guest was given.
    pub given: &'a [Device],
}

/// A guest that is ready to start. All addresses are guest-physical.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Kind as which the image was loaded.
    pub kind: Kind,
    /// Address at which the first vCPU starts.
    pub entry: u64,
    /// X0 of the first vCPU: the device tree's address. Its other registers are 0.
    pub x0: u64,
    /// Addresses of the image, with its uninitialised data if its format tells their size.
    pub image: Range<u64>,
    /// Addresses of the initial RAM disk.
    pub initrd: Option<Range<u64>>,
    /// Addresses of the device tree.
    pub dtb: Range<u64>,
    /// Addresses of the second device tree, for code that looks for it at the start of RAM.
    pub dtb_copy: Option<Range<u64>>,
    /// Size of the pages that the kernel says it uses.
    pub granule: Option<Granule>,
    /// Something that the configuration likely does not mean.
    pub warning: Option<Warning>,
}

/// The place of an image, as offsets from the start of RAM.
#[derive(Debug)]
struct Loaded {
    image: Range<usize>,
    entry: usize,
}

/// The places of all parts of a guest, as offsets from the start of RAM.
struct Placed {
    kind: Kind,
    loaded: Loaded,
    initrd: Option<Range<usize>>,
    dtb: Range<usize>,
    dtb_copy: Option<Range<usize>>,
    /// Bytes of the device tree.
    tree: Vec<u8>,
}

impl Placed {
    fn new(ram_size: usize, parts: &Parts<'_>) -> Result<Self, ImageError> {
        let kind = kind_of(parts)?;
        let loaded = match kind {
            Kind::Linux => linux::place(ram_size, parts.image)?,
            Kind::Elf => elf::place(ram_size, parts.ram_base, parts.image)?,
            Kind::Raw => place_raw(ram_size, parts.image)?,
        };
        let mut layout = Layout::new(ram_size, loaded.image.clone());
        let initrd = match parts.initrd {
            Some([]) => return Err(ImageError::Empty("the initrd")),
            Some(initrd) => Some(layout.initrd(initrd.len())?),
            None => None,
        };
        let tree = fdt::generate(&fdt::Machine {
            ram_base: parts.ram_base,
            ram_size: ram_size as u64,
            vcpus: parts.vcpus,
            bootargs: parts.cmdline,
            initrd: initrd.clone().map(|offsets| parts.addresses(offsets)),
            counter_frequency: parts.counter_frequency,
            equipment: parts.equipment,
            given: parts.given,
        });
        let dtb = layout.device_tree(tree.len(), kind)?;
        let dtb_copy = layout.device_tree_copy(&dtb, kind);
        Ok(Self { kind, loaded, initrd, dtb, dtb_copy, tree })
    }

    fn warning(&self) -> Option<Warning> {
        (self.initrd.is_some() && self.kind != Kind::Linux)
            .then_some(Warning::InitrdOfBareCode(self.kind))
    }
}

impl Parts<'_> {
    /// Returns offsets from the start of RAM as guest-physical addresses.
    fn addresses(&self, offsets: Range<usize>) -> Range<u64> {
        self.ram_base + offsets.start as u64..self.ram_base + offsets.end as u64
    }
}

/// Returns the place of the table of segments in an image that begins with these bytes, if it is an
/// ELF file with its header among them. Beside these and the image's length, [`check`] looks at the
/// first KiB only.
pub fn table_of_segments(beginning: &[u8]) -> Option<Range<usize>> {
    elf::is_elf(beginning).then(|| elf::table(beginning)).flatten()
}

/// Checks, without the RAM, that [`load`] can load a guest into `ram_size` bytes of RAM. Returns
/// what is possible but likely not meant.
///
/// # Errors
///
/// What is wrong with the image, or what does not fit.
pub fn check(ram_size: usize, parts: &Parts<'_>) -> Result<Option<Warning>, ImageError> {
    Ok(Placed::new(ram_size, parts)?.warning())
}

/// Loads a guest into its RAM, which must be all zeros. Returns where each part is, and where the
/// guest starts.
///
/// # Errors
///
/// What is wrong with the image, or what does not fit: then the RAM is unchanged.
pub fn load(ram: &mut dyn WriteRam, parts: &Parts<'_>) -> Result<Boot, ImageError> {
    let placed = Placed::new(ram.len(), parts)?;
    let warning = placed.warning();
    let Placed { kind, loaded: Loaded { image, entry }, initrd, dtb, dtb_copy, tree } = placed;
    match kind {
        Kind::Elf => elf::copy(ram, parts.ram_base, parts.image)?,
        Kind::Linux | Kind::Raw => {
            ram.write(image.start, parts.image)?;
        }
    }
    if let (Some(range), Some(initrd)) = (initrd.clone(), parts.initrd) {
        ram.write(range.start, initrd)?;
    }
    for range in iter::once(&dtb).chain(&dtb_copy) {
        ram.write(range.start, &tree)?;
    }
    let dtb = parts.addresses(dtb);
    Ok(Boot {
        kind,
        entry: parts.ram_base + entry as u64,
        x0: dtb.start,
        image: parts.addresses(image),
        initrd: initrd.map(|offsets| parts.addresses(offsets)),
        dtb,
        dtb_copy: dtb_copy.map(|offsets| parts.addresses(offsets)),
        granule: linux::is_image(parts.image).then(|| linux::granule(parts.image)).flatten(),
        warning,
    })
}

/// Returns the kind as which to load the image: the one that was asked for, unless the file
/// contradicts it.
fn kind_of(parts: &Parts<'_>) -> Result<Kind, ImageError> {
    let Parts { image, kind, .. } = *parts;
    if image.is_empty() {
        return Err(ImageError::Empty("the image"));
    }
    let found = magic::identify(image);
    let looks_like = if linux::is_image(image) {
        Some(Kind::Linux)
    } else if elf::is_elf(image) {
        Some(Kind::Elf)
    } else {
        None
    };
    match (kind, looks_like) {
        (None, Some(kind)) => Ok(kind),
        (None, None) => Err(match found {
            Found::Known(name) => ImageError::Foreign(name),
            Found::Unknown(..) => ImageError::Unknown(found),
        }),
        // An Image is bare code, too: its header begins with a branch.
        (Some(Kind::Raw), Some(Kind::Linux)) => Ok(Kind::Raw),
        (Some(Kind::Raw), None) if matches!(found, Found::Unknown(..)) => Ok(Kind::Raw),
        (Some(kind), Some(other)) if kind == other => Ok(kind),
        (Some(kind), Some(Kind::Linux)) => {
            Err(ImageError::OtherKind { kind, found: Found::Known("an arm64 Image") })
        }
        (Some(kind), _) => Err(ImageError::OtherKind { kind, found }),
    }
}

fn place_raw(ram_size: usize, image: &[u8]) -> Result<Loaded, ImageError> {
    let range = in_ram(ram_size, RAW_OFFSET as u64, image.len() as u64)?;
    Ok(Loaded { entry: range.start, image: range })
}

/// Returns the range of `size` bytes at `offset` for an image, if the RAM is large enough.
fn in_ram(ram_size: usize, offset: u64, size: u64) -> Result<Range<usize>, ImageError> {
    let needed = offset.saturating_add(size);
    if needed > ram_size as u64 {
        let available = ram_size as u64;
        return Err(ImageError::DoesNotFit { what: "the image", needed, available });
    }
    // Both are at most `ram_size`, so they fit into a usize.
    Ok(offset as usize..needed as usize)
}

#[cfg(test)]
mod tests;
