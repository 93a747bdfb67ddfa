//! What a person says about the guests: which image, how much memory, how many vCPUs.
//!
//! It travels as `stasis.dtb` in the boot archive: a device tree whose root is compatible with
//! `stasis,config-1` and has a child `guest@<n>` for each guest, whose properties stand in `blob.rs`. The host tool writes it ([`compile`]) and the
//! hypervisor reads it ([`parse`]) by one definition, and under the same rules ([`check`]).

mod blob;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use stasis_state::guest::NAME_LEN;

pub use self::blob::{compile, parse};
use crate::machine;
use crate::text::quoted;

/// The configuration's name in the boot archive.
pub const FILE_NAME: &str = "stasis.dtb";
/// What its root is compatible with.
pub const COMPATIBLE: &str = "stasis,config-1";

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

/// One guest's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestConfig {
    /// Its name, by which the console knows it.
    pub name: String,
    /// Its image's name in the archive.
    pub image: String,
    /// How to load it; `None`: as it looks.
    pub kind: Option<Kind>,
    /// Its initial RAM disk's name in the archive.
    pub initrd: Option<String>,
    /// The kernel's command line; may be empty.
    pub cmdline: String,
    /// Bytes of RAM.
    pub memory: u64,
    /// Number of vCPUs.
    pub vcpus: u8,
    /// The physical core of its first vCPU. Whether the machine has it, the caller knows.
    pub core: Option<u32>,
    /// Whether it starts by itself.
    pub autostart: bool,
}

/// What can be wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is no device tree, or a damaged one.
    #[error("{FILE_NAME}: {0}")]
    DeviceTree(dtoolkit::error::FdtParseError),
    /// It is another device tree, or one of a newer Stasis.
    #[error("{FILE_NAME}: its root is not compatible with \"{COMPATIBLE}\"")]
    NotAConfiguration,
    /// A child of the root is no guest.
    #[error("{FILE_NAME}: node \"{0}\" is not known; guests are called guest@<n>")]
    UnknownNode(String),
    /// There is no guest in it.
    #[error("{FILE_NAME}: no guest is configured")]
    NoGuests,
    /// A guest's configuration breaks a rule.
    #[error("{FILE_NAME}: guest {guest}: {problem}")]
    Guest {
        /// The guest: its name in quotes, or its node where the name is unusable.
        guest: String,
        /// The rule.
        problem: Problem,
    },
}

/// What can be wrong with one guest's configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A property that every guest needs is not there.
    #[error("property \"{0}\" is missing")]
    Missing(&'static str),
    /// A property nobody knows: a misspelt one.
    #[error("property \"{0}\" is not known")]
    Unknown(String),
    /// A property's value is of another type.
    #[error("property \"{property}\" is not {expected}")]
    Type {
        /// The property.
        property: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A string that must say something is empty.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// The name is longer than the checkpoint format holds.
    #[error("the name has {len} bytes, {NAME_LEN} at most are possible")]
    NameTooLong {
        /// Its length.
        len: usize,
    },
    /// The name has a character that could not be typed or told apart at the console.
    #[error(
        "the name has the character {0:?}; letters, digits, '-', '_' and '.' are possible, and a letter first"
    )]
    NameCharacter(char),
    /// Two guests have the same name.
    #[error("another guest has the same name")]
    Duplicate,
    /// A string holds a character that ends strings.
    #[error("{0} has a NUL character in it")]
    Nul(&'static str),
    /// No such kind of image.
    #[error("kind \"{0}\" is none of \"linux\", \"elf\", \"raw\"")]
    Kind(String),
    /// Memory that stage 2 cannot map in whole blocks, or none.
    #[error("memory of {0} bytes is not a multiple of 2 MiB, from 2 MiB to 255 GiB")]
    Memory(u64),
    /// More vCPUs than a GICv2 has targets for, or none.
    #[error("{0} vCPUs are not possible; 1 to 8 are")]
    Vcpus(u32),
}

/// Checks what one definition cannot say by its types, for each guest and for all together.
pub fn check(guests: &[GuestConfig]) -> Result<(), ConfigError> {
    if guests.is_empty() {
        return Err(ConfigError::NoGuests);
    }
    for (index, guest) in guests.iter().enumerate() {
        let twin = guests[..index].iter().any(|other| other.name == guest.name);
        let checked = check_guest(guest).and(if twin { Err(Problem::Duplicate) } else { Ok(()) });
        checked.map_err(|problem| ConfigError::Guest { guest: quoted(&guest.name), problem })?;
    }
    Ok(())
}

/// Checks a guest's name: it must fit the checkpoint format, be typed at the console, and not be taken for a number.
pub fn check_name(name: &str) -> Result<(), Problem> {
    let Some(first) = name.chars().next() else {
        return Err(Problem::Empty("name"));
    };
    if name.len() > NAME_LEN {
        return Err(Problem::NameTooLong { len: name.len() });
    }
    if !first.is_ascii_alphabetic() {
        return Err(Problem::NameCharacter(first));
    }
    let odd = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    match name.chars().find(odd) {
        Some(character) => Err(Problem::NameCharacter(character)),
        None => Ok(()),
    }
}

fn check_guest(guest: &GuestConfig) -> Result<(), Problem> {
    check_name(&guest.name)?;
    check_file("image", &guest.image)?;
    if let Some(initrd) = &guest.initrd {
        check_file("initrd", initrd)?;
    }
    if guest.cmdline.contains('\0') {
        return Err(Problem::Nul("cmdline"));
    }
    let whole = guest.memory.is_multiple_of(machine::RAM_UNIT);
    if !whole || !(machine::RAM_UNIT..=machine::RAM_MAX).contains(&guest.memory) {
        return Err(Problem::Memory(guest.memory));
    }
    if !(1..=machine::MAX_VCPUS).contains(&guest.vcpus) {
        return Err(Problem::Vcpus(guest.vcpus.into()));
    }
    Ok(())
}

fn check_file(what: &'static str, name: &str) -> Result<(), Problem> {
    match name {
        "" => Err(Problem::Empty(what)),
        name if name.contains('\0') => Err(Problem::Nul(what)),
        _ => Ok(()),
    }
}

/// All the names that a [`check`]ed configuration needs the archive to have.
pub fn files(guests: &[GuestConfig]) -> Vec<&str> {
    let mut files: Vec<&str> = Vec::new();
    for name in guests.iter().flat_map(|guest| [Some(&guest.image), guest.initrd.as_ref()]) {
        if let Some(name) = name.map(String::as_str).filter(|name| !files.contains(name)) {
            files.push(name);
        }
    }
    files
}

#[cfg(test)]
mod tests;
