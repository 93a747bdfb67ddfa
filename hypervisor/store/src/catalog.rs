//! The catalog: which checkpoints there are, and where. In memory here, on the disk in a slot.
//!
//! What stands in a slot is an allegation: [`Catalog::check`] believes none of it before every rule
//! of `docs/store.md` was seen to hold, and its work is bounded by the size of a slot.

use crate::entry;
use crate::error::{Error, VolumeFault};
use crate::layout::{
    BLOCK, CatalogHeader, Entry, KINDS_IN_ENTRIES, MAPS_IN_ENTRIES, MAX_CHECKPOINTS, MAX_EXTENTS,
    NAME_LEN, SETS_BY_NAME, SETS_IN_ENTRIES, VERSION_OF_MAPS, VERSION_OF_VOLUMES, checksum_by,
};
use crate::map::NodeRef;
use crate::set::{Member, SET_MARK, members_by_name};
use crate::slots::Image;
use crate::space::{Extent, Extents};
use crate::volume::{self, InstantsRef, Volume};
use alloc::collections::BinaryHeap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use arrayvec::ArrayString;
use core::fmt::{Debug, Display};
use core::num::NonZeroU32;
use core::ops::Range;
use zerocopy::{FromBytes, IntoBytes};

/// A checkpoint in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The number, never given out again.
    pub number: u64,
    /// The name. Several may have the same; it then stands for the newest.
    pub name: ArrayString<NAME_LEN>,
    /// Length in bytes.
    pub length: u64,
    /// When it was begun: seconds since 1970, or 0 where the host has no clock.
    pub created: u64,
    /// Pages of memory that are stored in it, where its writer has said so.
    pub pages: Option<NonZeroU32>,
    /// Which member of a set it is, if it is one.
    pub member: Option<Member>,
    /// What its writer has called it by; 0: nothing.
    pub identity: Identity,
    /// The identity of the checkpoint that it was made after; 0: of none.
    pub parent: Identity,
    /// The volumes of its guest at its instant.
    pub(crate) instants: Option<InstantsRef>,
    /// Where it stands.
    pub(crate) place: Location,
}

/// What a checkpoint is called by for ever, on whatever disk it is: random bytes. 0 is nobody.
pub type Identity = [u8; 16];

/// Where the contents of a checkpoint stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// In these runs of blocks, and no other checkpoint does. Up to version 2.
    Extents(Extents),
    /// Where the map with this root says; `None` if there are no contents. Since version 3.
    Map(Option<NodeRef>),
}

impl Location {
    /// Returns the runs of blocks of a checkpoint that has no map.
    pub fn extents(&self) -> &[Extent] {
        match self {
            Self::Extents(extents) => extents,
            Self::Map(_) => &[],
        }
    }
}

impl Checkpoint {
    /// Returns how many blocks its contents have.
    pub(crate) fn blocks(&self) -> u32 {
        // Checked when it was read, and when it was written.
        self.length.div_ceil(BLOCK as u64) as u32
    }
}

/// What a person calls a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// The one with this number.
    Number(u64),
    /// The newest with this name.
    Name(&'a str),
}

impl<'a> From<&'a str> for Which<'a> {
    /// Returns the number that the text is, or else the name: a text of digits alone is no name,
    /// and `+5`, which Rust reads as 5, is one.
    fn from(text: &'a str) -> Self {
        match text.parse() {
            Ok(number) if is_of_digits(text) => Self::Number(number),
            _ => Self::Name(text),
        }
    }
}

impl From<u64> for Which<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl Display for Which<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}

/// Returns whether all of a text is digits.
fn is_of_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns `text` as a name, if it may be one. A name can be typed at a console and printed to it,
/// and is no number.
pub fn valid_name(text: &str) -> Option<ArrayString<NAME_LEN>> {
    let forbidden = |c: char| c.is_control() || c.is_whitespace();
    if text.is_empty() || text.contains(forbidden) || is_of_digits(text) {
        return None;
    }
    ArrayString::from(text).ok()
}

/// Returns `text` as a name, if a new checkpoint may have it: a [valid one](valid_name) that does
/// not collide with what the console's commands take besides, an option or a set, and in which
/// nothing is that nobody sees. Older ones may have others.
pub fn valid_new_name(text: &str) -> Option<ArrayString<NAME_LEN>> {
    let unseen = |c| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    if text.starts_with('-') || text.ends_with(SET_MARK) || text.contains(unseen) {
        return None;
    }
    valid_name(text)
}

/// The checkpoints and volumes of a store in one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Catalog {
    pub generation: u64,
    pub next_number: u64,
    /// In the order of their numbers.
    pub checkpoints: Vec<Checkpoint>,
    /// In the order of their names.
    pub volumes: Vec<Volume>,
}

/// What an entry is about.
#[derive(Clone, Copy)]
enum Item<'a> {
    Checkpoint(&'a Checkpoint),
    Volume(&'a Volume),
}

impl Catalog {
    /// Returns the catalog of a new store.
    pub fn new() -> Self {
        Self { generation: 1, next_number: 1, checkpoints: Vec::new(), volumes: Vec::new() }
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.checkpoints.len() + self.volumes.len()
    }

    /// Returns whether only a store with volumes can say all of it.
    pub fn has_volumes(&self) -> bool {
        !self.volumes.is_empty() || self.checkpoints.iter().any(|one| one.instants.is_some())
    }

    /// Returns every extent in use, of checkpoints that have no maps.
    pub fn extents(&self) -> impl Iterator<Item = Extent> {
        self.checkpoints.iter().flat_map(|checkpoint| checkpoint.place.extents().iter().copied())
    }

    /// Returns the checkpoint that `which` means.
    pub fn find<E: Display + Debug>(&self, which: Which<'_>) -> Result<&Checkpoint, Error<E>> {
        let found = match which {
            Which::Number(number) => self.checkpoints.iter().find(|c| c.number == number),
            Which::Name(name) => {
                let named = self.checkpoints.iter().filter(|c| c.name.as_str() == name);
                named.max_by_key(|c| c.number)
            }
        };
        found.ok_or_else(|| Error::NoSuchCheckpoint { which: format!("{which}") })
    }

    /// Returns whether version 1 can say all of it: names, numbers and times must tell who is in
    /// which set.
    pub fn fits_version_1(&self) -> bool {
        let by_name = members_by_name(&self.checkpoints);
        self.checkpoints.iter().zip(by_name).all(|(one, by_name)| one.member == by_name)
    }

    /// Returns what to write to a slot that holds `before`: header and entries, to a whole number
    /// of sectors. What is in both keeps its place.
    pub(crate) fn encode(
        &self,
        version: u32,
        before: Option<&Image>,
        crc32c: impl Fn(&[u8]) -> u32,
    ) -> Image {
        let used = size_of::<CatalogHeader>() + self.len() * size_of::<Entry>();
        let mut bytes = vec![0; used.next_multiple_of(crate::block::SECTOR)];
        let sets = match version {
            ..2 => SETS_BY_NAME,
            2 => SETS_IN_ENTRIES,
            3 => MAPS_IN_ENTRIES,
            4.. => KINDS_IN_ENTRIES,
        };
        let mut header = CatalogHeader {
            magic: CatalogHeader::MAGIC,
            crc: 0.into(),
            count: (self.len() as u32).into(),
            generation: self.generation.into(),
            next_number: self.next_number.into(),
            sets: sets.into(),
            reserved: [0; 92],
        };
        let (head, entries) = bytes.split_at_mut(size_of::<CatalogHeader>());
        head.copy_from_slice(header.as_bytes());
        let items = self.placed(before.map_or(&[], Image::entries));
        for (bytes, item) in entries.chunks_exact_mut(size_of::<Entry>()).zip(items) {
            let entry = match item {
                Item::Checkpoint(checkpoint) => entry::encode(checkpoint, sets),
                Item::Volume(volume) => volume.encode(),
            };
            bytes.copy_from_slice(entry.as_bytes());
        }
        header.crc = checksum_by(crc32c, &bytes[..used]).into();
        bytes[..size_of::<CatalogHeader>()].copy_from_slice(header.as_bytes());
        Image::new(bytes)
    }

    /// What the entries are about, in their order: each where it stands in `before`, and others in
    /// the places that are left.
    fn placed(&self, before: &[Entry]) -> Vec<Item<'_>> {
        let checkpoints = self.checkpoints.iter().map(Item::Checkpoint);
        let items: Vec<Item> = checkpoints.chain(self.volumes.iter().map(Item::Volume)).collect();
        let mut places = vec![None; items.len()];
        let mut is_placed = vec![false; items.len()];
        for (place, entry) in places.iter_mut().zip(before) {
            if let Some(at) = self.index_of(entry).filter(|at| !is_placed[*at]) {
                *place = Some(items[at]);
                is_placed[at] = true;
            }
        }
        let mut others = items.into_iter().zip(is_placed).filter(|(_, placed)| !placed);
        let fill = |place: Option<_>| place.or_else(|| others.next().map(|(other, _)| other));
        places.into_iter().filter_map(fill).collect()
    }

    /// Returns the index of what an older entry was about, among the checkpoints, and then the
    /// volumes.
    fn index_of(&self, entry: &Entry) -> Option<usize> {
        let number = entry.number.get();
        if number != 0 {
            return self.checkpoints.binary_search_by_key(&number, |one| one.number).ok();
        }
        let name = entry::stored_name(&entry.name)?;
        let found = self.volumes.binary_search_by_key(&name, |one| one.name).ok();
        found.map(|at| self.checkpoints.len() + at)
    }
}

/// A slot whose checksum is right: written whole, but not yet believed.
#[derive(Debug)]
pub(crate) struct IntactSlot<'a> {
    header: CatalogHeader,
    entries: &'a [Entry],
    /// The bytes of both, to a whole number of sectors.
    bytes: &'a [u8],
}

/// Returns the generation that a slot claims to have, whole or not.
pub(crate) fn claimed_generation(bytes: &[u8]) -> Option<u64> {
    let (header, _) = CatalogHeader::read_from_prefix(bytes).ok()?;
    (header.magic == CatalogHeader::MAGIC).then_some(header.generation.get())
}

impl<'a> IntactSlot<'a> {
    /// Returns the catalog that stands in a slot, unchecked. None if the slot was never written, or
    /// not wholly.
    pub fn parse(bytes: &'a [u8], crc32c: impl Fn(&[u8]) -> u32) -> Option<Self> {
        let (header, rest) = CatalogHeader::read_from_prefix(bytes).ok()?;
        if header.magic != CatalogHeader::MAGIC {
            return None;
        }
        let count = header.count.get() as usize;
        let (entries, _) = <[Entry]>::ref_from_prefix_with_elems(rest, count).ok()?;
        let used = size_of::<CatalogHeader>() + size_of_val(entries);
        let intact = checksum_by(crc32c, bytes.get(..used)?) == header.crc.get();
        let bytes = bytes.get(..used.next_multiple_of(crate::block::SECTOR))?;
        intact.then_some(Self { header, entries, bytes })
    }

    /// Returns what stands in the slot. The catalog keeps every rule.
    pub fn image(&self) -> Image {
        Image::new(self.bytes.to_vec())
    }

    /// Returns the generation. Of two intact slots, the one with the larger generation holds.
    pub fn generation(&self) -> u64 {
        self.header.generation.get()
    }

    /// Returns the catalog of a store of this version, if it keeps every rule. `data` are the
    /// blocks that checkpoints may stand in.
    pub fn check<E: Display + Debug>(
        &self,
        version: u32,
        data: Range<u32>,
    ) -> Result<Catalog, Error<E>> {
        let next_number = self.header.next_number.get();
        if next_number == 0 {
            // The number would be given to a checkpoint that nothing would then read.
            return Err(Error::NumberNotIssued { number: 0, next: 0 });
        }
        let sets = match (version, self.header.sets.get()) {
            (_, SETS_BY_NAME) => SETS_BY_NAME,
            (2.., SETS_IN_ENTRIES) => SETS_IN_ENTRIES,
            (VERSION_OF_MAPS.., MAPS_IN_ENTRIES) => MAPS_IN_ENTRIES,
            (VERSION_OF_VOLUMES.., KINDS_IN_ENTRIES) => KINDS_IN_ENTRIES,
            (_, found) => return Err(Error::UnknownSets { found }),
        };
        let mut checkpoints: Vec<Checkpoint> = Vec::with_capacity(self.entries.len());
        let mut volumes: Vec<Volume> = Vec::new();
        for entry in self.entries {
            if sets == KINDS_IN_ENTRIES && volume::is_volume(entry) {
                let volume = Volume::decode(entry, &data)?;
                match volumes.binary_search_by_key(&volume.name, |other| other.name) {
                    Ok(_) => {
                        return Err(VolumeFault::Duplicate { name: volume.name.to_string() }.into());
                    }
                    Err(place) => volumes.insert(place, volume),
                }
                continue;
            }
            let checkpoint = entry::decode(entry, sets, next_number, &data)?;
            let number = checkpoint.number;
            match checkpoints.binary_search_by_key(&number, |other| other.number) {
                Ok(_) => return Err(Error::DuplicateNumber { number }),
                Err(place) => checkpoints.insert(place, checkpoint),
            }
        }
        check_overlaps(&checkpoints)?;
        if sets == SETS_BY_NAME {
            let members = members_by_name(&checkpoints);
            checkpoints.iter_mut().zip(members).for_each(|(one, member)| one.member = member);
        } else {
            check_sets(&checkpoints)?;
        }
        Ok(Catalog { generation: self.generation(), next_number, checkpoints, volumes })
    }
}

/// The members of a set must agree about it, and two sets can't share a number. `checkpoints` are
/// in the order of their numbers.
fn check_sets<E: Display + Debug>(checkpoints: &[Checkpoint]) -> Result<(), Error<E>> {
    // The last set so far, and the number behind it.
    let mut last: Option<(&str, u64)> = None;
    let mut end = 0;
    for checkpoint in checkpoints {
        let number = checkpoint.number;
        let Some(Member { index, count }) = checkpoint.member else {
            if number < end {
                // A checkpoint whose number lies within a set would have to be a member of it.
                return Err(Error::MemberInvalid { number, index: 0, count: 0 });
            }
            continue;
        };
        let invalid = Error::MemberInvalid { number, index, count };
        let Some(set) = checkpoint.set() else { return Err(invalid) };
        let end_of_set = set.1.saturating_add(count.into());
        if last != Some(set) && set.1 < end || last == Some(set) && end_of_set != end {
            return Err(invalid);
        }
        (last, end) = (Some(set), end_of_set);
    }
    Ok(())
}

fn check_overlaps<E: Display + Debug>(checkpoints: &[Checkpoint]) -> Result<(), Error<E>> {
    let claims = checkpoints.iter().flat_map(|checkpoint| {
        checkpoint.place.extents().iter().map(|&extent| (extent, checkpoint.number))
    });
    // A heap's sorting is a tenth of the code of a slice's.
    for pair in BinaryHeap::from_iter(claims).into_sorted_vec().windows(2) {
        let ((before, number), (after, other)) = (pair[0], pair[1]);
        // Both lie within the store, so the sum does not overflow.
        if before.first + before.blocks > after.first {
            return Err(Error::ExtentsOverlap { number, other, block: after.first });
        }
    }
    Ok(())
}

/// Returns a name as [`Error::NameInvalid`] shows it: cut short, for it may be anything.
pub(crate) fn shown(name: &str) -> String {
    let cut: String = name.chars().take(40).collect();
    if cut.len() < name.len() { cut + "..." } else { name.to_string() }
}

const _: () = assert!(MAX_CHECKPOINTS * MAX_EXTENTS < u16::MAX as usize);
