//! Reads a checkpoint in two passes: [`read`] checks all of it, [`read_memory`] then copies the
//! guest's memory to its place.
//!
//! Neither pass needs more memory than a buffer and the registers. Nothing of the guest needs to
//! exist before [`read`] has returned, so a file that is refused has changed nothing.

mod load;
pub(crate) mod pieces;
mod sound;

use alloc::{vec, vec::Vec};
use core::fmt;

use zerocopy::{FromZeros, IntoBytes};

use crate::{
    RecordHeader, RecordType,
    decode::{decode, decode_into},
    directory::Directory,
    envelope::{Name, RecordPlace, Scope},
    error::{Error, LoadError},
    header::Header,
    input::Source,
    invariants,
    memory::{Coverage, Extent, Kind},
    records::{GuestState, VcpuState},
    routines::{PAGE_SIZE, Routines},
    vgic::MAX_VCPUS,
    walk::{Open, Walk},
};

pub use load::{Target, read_memory};
use pieces::Pieces;
use sound::Sound;

type Result<T, S> = core::result::Result<T, LoadError<<S as Source>::Error>>;

/// Bytes read at once in the first pass.
const BUFFER: usize = 128 * 1024;
/// Bytes of the longest body of a PAD record: one that has no room before the next multiple of 4096
/// reaches up to the one behind it.
const MAX_PAD: usize = PAGE_SIZE;
/// Bytes of the longest body that a record of registers may have.
pub(crate) const MAX_REGISTERS_LEN: u32 = 64 * 1024;

/// A checkpoint that [`read`] has found whole and sound. The content of the guest's memory stays in
/// the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The file's header.
    pub header: Header,
    /// The guest's registers.
    pub state: GuestState,
    /// The number of pages that are stored in the file, the number of those that are zero, and the
    /// file's length.
    pub stats: crate::Stats,
    /// What this version of the reader did not know, and skipped because the file allows that.
    pub skipped: Skipped,
}

/// What the reader did not know, and skipped because the file allows that. A guest that is resumed
/// from the file continues without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Number of unknown records.
    pub records: u32,
    /// Number of unknown registers in known records. A register whose value is 0 does not count:
    /// nothing is lost with it.
    pub registers: u32,
}

impl Skipped {
    /// Returns whether nothing was skipped.
    pub const fn is_empty(&self) -> bool {
        self.records == 0 && self.registers == 0
    }
}

/// Writes, for example, `2 records and 1 register that this version does not know`.
impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, registers } = *self;
        let plural = |count| if count == 1 { "" } else { "s" };
        if records > 0 {
            write!(f, "{records} record{}", plural(records))?;
        }
        if records > 0 && registers > 0 {
            f.write_str(" and ")?;
        }
        if registers > 0 {
            write!(f, "{registers} register{}", plural(registers))?;
        }
        f.write_str(" that this version does not know")
    }
}

/// Reads and checks the whole file, and returns what is in it. Calls `progress` with the bytes read
/// so far, and the length of the file.
///
/// # Errors
///
/// [`LoadError::Source`] if the source fails, [`LoadError::Format`] if the file breaks a rule of
/// the format or an invariant.
pub fn read<S: Source>(
    source: &mut S,
    routines: Routines,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Checkpoint, S> {
    read_if(source, routines, &mut |_| Ok(()), progress)
}

/// Reads and checks the whole file, unless `admits` refuses its guest. Calls `progress` with the
/// bytes read so far, and the length of the file.
///
/// `admits` is called once, before the first record of memory that comes behind every record that
/// each guest must have. If there is no such record of memory, it is not called. The invariants of
/// the state that it gets are not checked yet, except for the number of vCPUs, and the state may
/// still lack the records that not every guest has.
///
/// # Errors
///
/// The errors of [`read`], and [`LoadError::Refused`] with the error of `admits`.
// This is not inlined: `cargo xtask bench` finds it in the image by its name.
#[inline(never)]
pub fn read_if<S: Source>(
    source: &mut S,
    routines: Routines,
    admits: &mut dyn FnMut(&GuestState) -> core::result::Result<(), S::Error>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Checkpoint, S> {
    let mut walk = Walk::new(source, routines.crc32c, BUFFER)?;
    let header = walk.header();
    let mut draft = Draft::default();
    let mut asked = false;
    while let Some(open) = walk.next()? {
        let is_memory = open.place.record_type().is_some_and(is_of_memory);
        if is_memory && !asked && draft.missing().is_none() {
            admits(&draft.state).map_err(LoadError::Refused)?;
            asked = true;
        }
        draft.record(&mut walk, open)?;
        progress(walk.at(), header.total_len);
    }
    Ok(draft.finish(header, walk.directory())?.0)
}

/// Returns whether a record of this kind holds memory, or says where it is.
const fn is_of_memory(kind: RecordType) -> bool {
    use RecordType::{Memory, RamBlock, RamDirectory, RamPages};
    matches!(kind, Memory | RamBlock | RamPages | RamDirectory)
}

/// The part of a checkpoint that was read so far.
#[derive(Default)]
pub(crate) struct Draft {
    state: GuestState,
    seen: Vec<(RecordType, u16)>,
    coverage: Coverage,
    /// The memory in blocks, from the first record of such memory on.
    pieces: Option<Pieces>,
    pages_stored: u64,
    pages_zero: u64,
    skipped: Skipped,
    last_vcpu: Option<RecordPlace>,
    ended: bool,
}

impl Draft {
    /// Reads a record whose header was read, and checks it.
    pub(crate) fn record<S: Source>(
        &mut self,
        walk: &mut Walk<'_, S>,
        mut open: Open,
    ) -> Result<(), S> {
        let place = open.place;
        if place.record_type() != Some(RecordType::RamPages)
            && let Some(pieces) = &self.pieces
        {
            pieces.check_closed()?;
        }
        let Some(kind) = place.record_type() else {
            walk.digest(&mut open)?;
            walk.finish(&open)?;
            if !place.is_optional() {
                let version = walk.header().version();
                return Err(Error::UnknownRecord { place, version }.into());
            }
            self.skipped.records += 1;
            return Ok(());
        };
        match kind {
            RecordType::Memory => return self.memory(walk, open),
            RecordType::RamBlock => return self.pieces(walk, place)?.block(walk, open),
            RecordType::RamPages => return self.pieces(walk, place)?.pages(walk, open),
            RecordType::RamDirectory => return self.pieces(walk, place)?.directory(walk, open),
            RecordType::Pad => return pad(walk, open),
            RecordType::End => {}
            _ if self.pieces.is_some() => return Err(Error::RecordLate { place }.into()),
            _ => {}
        }
        let length = open.length;
        if length > MAX_REGISTERS_LEN {
            // Check the CRC first: a bit that flipped in the length is reported as a wrong CRC.
            walk.digest(&mut open)?;
            walk.finish(&open)?;
            return Err(Error::RecordTooLong { place, length, limit: MAX_REGISTERS_LEN }.into());
        }
        let mut body = vec![0; open.padded_len()];
        walk.read(&mut open, &mut body)?;
        walk.finish(&open)?;
        let (body, padding) = body.split_at(length as usize);
        if padding.iter().any(|&byte| byte != 0) {
            return Err(Error::RecordReserved { place }.into());
        }
        self.registers(kind, place, body)?;
        if self.ended && walk.left() > 0 {
            let left = walk.left();
            return Err(Error::AfterEnd { place, left }.into());
        }
        Ok(())
    }

    fn registers(
        &mut self,
        kind: RecordType,
        place: RecordPlace,
        body: &[u8],
    ) -> core::result::Result<(), Error> {
        let instance = usize::from(place.instance);
        let possible = match kind.scope() {
            Scope::Vcpu => instance < MAX_VCPUS,
            Scope::Guest | Scope::AtMostOne | Scope::Any => instance == 0,
        };
        if !possible {
            return Err(Error::Instance { place });
        }
        if self.seen.contains(&(kind, place.instance)) {
            return Err(Error::RecordTwice { place });
        }
        self.seen.push((kind, place.instance));
        if kind.scope() == Scope::Vcpu && self.state.vcpus.len() <= instance {
            self.state.vcpus.resize_with(instance + 1, VcpuState::default);
            self.last_vcpu = Some(place);
        }
        let state = &mut self.state;
        if let Some((record, registers)) = state.devices.body(kind) {
            self.skipped.registers += decode_into(record, registers, place, body)?;
            return Ok(());
        }
        let skipped = match kind {
            RecordType::Guest => decode(&mut state.guest, place, body),
            RecordType::Clock => decode(&mut state.clock, place, body),
            RecordType::GuestPower => decode(state.power.get_or_insert_default(), place, body),
            RecordType::Checkpoint => decode(state.lineage.get_or_insert_default(), place, body),
            RecordType::Machine => {
                decode(&mut **state.machine.get_or_insert_default(), place, body)
            }
            RecordType::VgicDistributor => decode(&mut *state.distributor, place, body),
            RecordType::VgicCpu => decode(&mut state.vcpus[instance].cpu_interface, place, body),
            RecordType::VcpuCore => decode(&mut state.vcpus[instance].core, place, body),
            RecordType::VcpuSystem => decode(&mut state.vcpus[instance].system, place, body),
            RecordType::VcpuFp => decode(&mut state.vcpus[instance].fp, place, body),
            RecordType::VcpuDebug => decode(&mut state.vcpus[instance].debug, place, body),
            RecordType::VcpuPower => decode(&mut state.vcpus[instance].power, place, body),
            RecordType::VcpuIdentity => decode(&mut state.vcpus[instance].identity, place, body),
            RecordType::End => {
                self.ended = true;
                match body.len() {
                    0 => Ok(0),
                    _ => Err(Error::RecordTooLong { place, length: body.len() as u32, limit: 0 }),
                }
            }
            // The records of devices are read above. Those of memory never come here.
            _ => Ok(0),
        };
        self.skipped.registers += skipped?;
        if kind == RecordType::Guest {
            invariants::check_nr_vcpus(&self.state.guest)?;
        }
        Ok(())
    }

    fn memory<S: Source>(&mut self, walk: &mut Walk<'_, S>, mut open: Open) -> Result<(), S> {
        let place = open.place;
        if open.length < Extent::LEN as u32 {
            let length = open.length;
            walk.digest(&mut open)?;
            walk.finish(&open)?;
            return Err(Error::ExtentCut { place, length }.into());
        }
        let mut extent = Extent::new_zeroed();
        walk.read(&mut open, extent.as_mut_bytes())?;
        walk.digest(&mut open)?;
        walk.finish(&open)?;
        if place.instance != 0 {
            return Err(Error::Instance { place }.into());
        }
        if self.pieces.is_some() {
            return Err(Error::MemoryTwice { place }.into());
        }
        let kind = extent.check(place, open.length)?;
        self.coverage.add(place, &extent)?;
        *match kind {
            Kind::Raw => &mut self.pages_stored,
            Kind::Zero => &mut self.pages_zero,
        } += u64::from(extent.pages);
        Ok(())
    }

    /// Returns the first record of registers that every guest must have and that was not read yet,
    /// or `None` if there is no such record.
    fn missing(&self) -> Option<Name> {
        let seen = |kind, instance| self.seen.contains(&(kind, instance));
        if !seen(RecordType::Guest, 0) {
            return Some(Name(RecordType::Guest, 0));
        }
        let nr_vcpus = u16::from(*self.state.guest.nr_vcpus).min(MAX_VCPUS as u16);
        let mut needed = RecordType::ALL.iter().flat_map(|&kind| {
            let instances = match kind.scope() {
                Scope::Guest if kind != RecordType::End && !kind.is_absent_at_reset() => 1,
                Scope::Vcpu => nr_vcpus,
                Scope::Guest | Scope::AtMostOne | Scope::Any => 0,
            };
            (0..instances).map(move |instance| Name(kind, instance))
        });
        needed.find(|name| !seen(name.0, name.1))
    }

    /// Returns the pieces of the file, of which the record at `place` is one, or the directory. All
    /// records of registers must have been read.
    pub(crate) fn pieces<S: Source>(
        &mut self,
        walk: &Walk<'_, S>,
        place: RecordPlace,
    ) -> core::result::Result<&mut Pieces, Error> {
        if !self.coverage.is_empty() {
            return Err(Error::MemoryTwice { place });
        }
        if self.pieces.is_none() {
            let sound = self.check(walk.header())?;
            self.pieces = Some(Pieces::new(sound, walk.at() - RecordHeader::LEN as u64));
        }
        // The pieces were made just now if there were none.
        self.pieces.as_mut().ok_or(Error::NoDirectory)
    }

    /// Checks that all records of registers are there, and their invariants.
    fn check(&self, header: Header) -> core::result::Result<Sound, Error> {
        if let Some(name) = self.missing() {
            return Err(Error::RecordMissing(name));
        }
        let nr_vcpus = *self.state.guest.nr_vcpus;
        if let Some(place) = self.last_vcpu
            && self.state.vcpus.len() > usize::from(nr_vcpus)
        {
            return Err(Error::RecordOfNoVcpu { place, nr_vcpus });
        }
        Sound::check(&self.state.records(), header.version())
    }

    /// Returns whether RAM_DIRECTORY was read.
    pub(crate) fn has_directory(&self) -> bool {
        self.pieces.as_ref().is_some_and(Pieces::has_directory)
    }

    /// Returns the checkpoint, and its directory if it has one. `directory_at` is where the header
    /// says that the directory is.
    pub(crate) fn finish(
        self,
        header: Header,
        directory_at: u64,
    ) -> core::result::Result<(Checkpoint, Directory), Error> {
        if !self.ended {
            return Err(Error::NoEnd);
        }
        let mut stats = crate::Stats {
            pages_stored: self.pages_stored,
            pages_zero: self.pages_zero,
            pages_word: 0,
            bytes: header.total_len,
            bytes_shared: 0,
        };
        let mut directory = Directory::default();
        if let Some(pieces) = self.pieces {
            let name = Name(RecordType::RamDirectory, 0);
            let (sound, found) = pieces.finish().ok_or(Error::RecordMissing(name))?;
            let all =
                sound.memory().iter().map(|range| (range.end - range.start) / PAGE_SIZE as u64);
            (stats.pages_stored, stats.pages_word) = found.counts();
            stats.pages_zero =
                all.sum::<u64>().saturating_sub(stats.pages_stored + stats.pages_word);
            directory = found;
        } else {
            let sound = self.check(header)?;
            if directory_at != 0 {
                return Err(Error::HeaderDirectory { found: directory_at });
            }
            self.coverage.check(sound.memory())?;
        }
        Ok((Checkpoint { header, state: self.state, stats, skipped: self.skipped }, directory))
    }
}

/// Reads a PAD record: zeros.
fn pad<S: Source>(walk: &mut Walk<'_, S>, mut open: Open) -> Result<(), S> {
    let (place, length) = (open.place, open.length);
    if length as usize > MAX_PAD {
        walk.digest(&mut open)?;
        walk.finish(&open)?;
        return Err(Error::RecordTooLong { place, length, limit: MAX_PAD as u32 }.into());
    }
    let mut body = vec![0; open.padded_len()];
    walk.read(&mut open, &mut body)?;
    walk.finish(&open)?;
    if place.instance != 0 {
        return Err(Error::Instance { place }.into());
    }
    if body.iter().any(|&byte| byte != 0) {
        return Err(Error::RecordReserved { place }.into());
    }
    Ok(())
}
