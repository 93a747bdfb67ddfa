//! Loads a guest: its image, its initial RAM disk and its device tree, where QEMU's `virt` puts them.
//!
//! Bare code gets its device tree twice. `qemu -kernel` boots it like a kernel, with the tree above the image and its address in
//! X0; U-Boot and others look for it at the start of RAM, where QEMU has it for firmware (`-bios`).
//!
//! An arm64 Linux `Image` goes by its header (Documentation/arch/arm64/booting.rst in the kernel), an ELF file by its
//! segments' physical addresses, raw code to RAM + 0x8_0000. Nothing in a file is believed before it is checked against
//! the guest's RAM. Compressed images are refused: EL2 is no place to unpack them.

mod elf;
mod linux;
mod place;

use alloc::vec::Vec;
use core::fmt;
use core::iter;
use core::ops::Range;

use self::place::Layout;
use crate::fdt;
use crate::given::Device;
use crate::magic::{self, Found};
use crate::sysreg::identity::Granule;
use stasis_devices::equipment::Equipment;
use stasis_state::{OutOfRange, WriteRam};

/// Where raw code goes, from the start of RAM.
const RAW_OFFSET: usize = 0x8_0000;

/// How a guest's image is to be loaded.
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
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Linux, Kind::Elf, Kind::Raw];

    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Linux => "linux",
            Kind::Elf => "elf",
            Kind::Raw => "raw",
        }
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// What a guest is made of.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// Where the guest has its RAM.
    pub ram_base: u64,
    /// The kernel or program.
    pub image: &'a [u8],
    /// How to load it; `None`: as it looks.
    pub kind: Option<Kind>,
    /// The initial RAM disk.
    pub initrd: Option<&'a [u8]>,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// Number of vCPUs.
    pub vcpus: u8,
    /// What its counter runs at, in Hz, where CNTFRQ_EL0 may say something else.
    pub counter_frequency: Option<u32>,
    /// What not every guest's machine has.
    pub equipment: Equipment<'a>,
    /// The machine's devices that it was given.
    pub given: &'a [Device],
}

/// A guest that is ready to start. All addresses are guest-physical.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// How the image was loaded.
    pub kind: Kind,
    /// Where the first vCPU starts.
    pub entry: u64,
    /// Its X0: the device tree's address. Its other registers are 0.
    pub x0: u64,
    /// What the image takes, its uninitialised data included where its format tells.
    pub image: Range<u64>,
    /// Where the initial RAM disk is.
    pub initrd: Option<Range<u64>>,
    /// Where the device tree is.
    pub dtb: Range<u64>,
    /// Where it is once more, for code that looks for it at the start of RAM.
    pub dtb_copy: Option<Range<u64>>,
    /// The pages that a kernel says it has.
    pub granule: Option<Granule>,
    /// What is likely not meant.
    pub warning: Option<Warning>,
}

/// What can be wrong with a guest's image, or with the room for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// No bytes at all.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// It is in a format that cannot be loaded.
    #[error("it is {0}; an arm64 Image, an ELF file or raw code is needed, not compressed")]
    Foreign(&'static str),
    /// It does not look like anything.
    #[error(
        "it is no arm64 Image and no ELF file: it begins with {0} (say kind = \"raw\" if it is bare code)"
    )]
    Unknown(Found),
    /// It is not of the kind that was asked for.
    #[error("it is not of kind \"{kind}\": found {found}")]
    OtherKind {
        /// What was asked for.
        kind: Kind,
        /// What it looks like.
        found: Found,
    },
    /// It is for a processor in big-endian mode.
    #[error("it is big-endian; only little-endian guests are loaded")]
    BigEndian,
    /// An ELF file for another architecture.
    #[error(
        "it is an ELF file for machine {machine} of {bits} bits, not for AArch64 (183, 64 bits)"
    )]
    OtherMachine {
        /// Its `e_machine`.
        machine: u16,
        /// 32 or 64.
        bits: u8,
    },
    /// An ELF file that is no program.
    #[error("it is an ELF file of type {0}, not an executable (2 or 3)")]
    NotExecutable(u16),
    /// A header or a segment points behind the end of the file, or contradicts itself.
    #[error("the ELF file is damaged or cut short: {0}")]
    Elf(&'static str),
    /// There are more segments than any linker makes.
    #[error("the ELF file has {found} segments, {limit} at most are loaded")]
    TooManySegments {
        /// How many there are.
        found: usize,
        /// How many may be.
        limit: usize,
    },
    /// A segment that is not in the guest's RAM.
    #[error(
        "its segment at {start:#x} of {size:#x} bytes is outside the guest's RAM, {ram_start:#x} to {ram_end:#x}"
    )]
    SegmentOutsideRam {
        /// Its physical address.
        start: u64,
        /// Its size in memory.
        size: u64,
        /// The first address of RAM.
        ram_start: u64,
        /// The first address behind it.
        ram_end: u64,
    },
    /// An entry point that is not in the guest's RAM.
    #[error(
        "its entry point {entry:#x} is outside the guest's RAM, {ram_start:#x} to {ram_end:#x}"
    )]
    EntryOutsideRam {
        /// The entry point.
        entry: u64,
        /// The first address of RAM.
        ram_start: u64,
        /// The first address behind it.
        ram_end: u64,
    },
    /// Something is placed where there is no RAM: a mistake of this module's.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// The guest's RAM has no room for it.
    #[error("{what} does not fit: it needs {needed} bytes of RAM, and {available} are there")]
    DoesNotFit {
        /// The image, the initrd or the device tree.
        what: &'static str,
        /// Bytes it needs; for an image, from the start of RAM.
        needed: u64,
        /// Bytes that are there in one piece.
        available: u64,
    },
}

/// Something in a guest's parts that is possible, and likely not meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// An initial RAM disk for something that is no Linux.
    #[error(
        "initrd is for Linux, and the image is of kind \"{0}\": its code finds the RAM disk only if it reads /chosen of its device tree"
    )]
    InitrdOfBareCode(Kind),
}

/// An image in RAM: offsets from its start.
#[derive(Debug)]
struct Loaded {
    image: Range<usize>,
    entry: usize,
}

/// Where all parts of a guest go: offsets from the start of RAM.
struct Placed {
    kind: Kind,
    loaded: Loaded,
    initrd: Option<Range<usize>>,
    dtb: Range<usize>,
    dtb_copy: Option<Range<usize>>,
    /// The device tree itself.
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
    /// Offsets from the start of RAM, as the guest's addresses.
    fn addresses(&self, offsets: Range<usize>) -> Range<u64> {
        self.ram_base + offsets.start as u64..self.ram_base + offsets.end as u64
    }
}

/// Checks whether [`load`] can load a guest into `ram_size` bytes of RAM, without that RAM. Returns what is likely not meant.
pub fn check(ram_size: usize, parts: &Parts<'_>) -> Result<Option<Warning>, ImageError> {
    Ok(Placed::new(ram_size, parts)?.warning())
}

/// Loads a guest into its RAM, which must be all zeros.
///
/// # Errors
///
/// What is wrong with the image, or what does not fit; the RAM is as it was then.
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

/// Which way to load the image: as it was asked for, unless the file says it cannot be that.
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
        // An Image is bare code too: its header begins with a branch.
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

/// The range of an image that goes to `offset`, if the RAM is large enough.
fn in_ram(ram_size: usize, offset: u64, size: u64) -> Result<Range<usize>, ImageError> {
    let needed = offset.saturating_add(size);
    if needed > ram_size as u64 {
        let available = ram_size as u64;
        return Err(ImageError::DoesNotFit { what: "the image", needed, available });
    }
    // Both are at most `ram_size`, and so are within a usize.
    Ok(offset as usize..needed as usize)
}

#[cfg(test)]
mod tests;
