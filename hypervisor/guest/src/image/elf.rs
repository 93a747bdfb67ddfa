//! Loads a 64-bit little-endian ELF file for AArch64: its loadable segments go to their physical
//! addresses.

use core::ops::Range;

use object::LittleEndian;
use object::elf::{self, FileHeader64, Ident, ProgramHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use super::{ImageError, Loaded};
use stasis_state::WriteRam;

/// Most segments that are loaded. A linker makes a handful; the limit bounds the work that a
/// crafted file can cause.
const MAX_SEGMENTS: usize = 64;

const CLASS: usize = 4;
const DATA: usize = 5;
const MACHINE: Range<usize> = 18..20;

pub(super) fn is_elf(file: &[u8]) -> bool {
    file.starts_with(&elf::ELFMAG)
}

/// Returns the place of the table of segments in an ELF file that begins with these bytes, if its
/// header is among them.
pub(super) fn table(beginning: &[u8]) -> Option<Range<usize>> {
    let header = header(beginning).ok()?;
    let start = usize::try_from(header.e_phoff(LittleEndian)).ok()?;
    let entries = usize::from(header.e_phnum(LittleEndian));
    Some(start..start.checked_add(entries * size_of::<Segment>())?)
}

/// Returns the place of the segments and the entry point of a file that [`is_elf`]; nothing is
/// written.
pub(super) fn place(ram_size: usize, ram_start: u64, file: &[u8]) -> Result<Loaded, ImageError> {
    let (header, segments) = loadable(file)?;
    let (mut low, mut high) = (usize::MAX, 0);
    let mut entry = header.e_entry(LittleEndian);
    for segment in segments {
        let (range, _) = contents(ram_size, ram_start, file, segment)?;
        (low, high) = (low.min(range.start), high.max(range.end));
        // A kernel that is linked at virtual addresses has a virtual entry point, but starts with
        // the MMU off. QEMU converts it in the same way.
        let into = header.e_entry(LittleEndian).checked_sub(segment.p_vaddr(LittleEndian));
        if let Some(into) = into.filter(|&into| into < segment.p_memsz(LittleEndian)) {
            entry = segment.p_paddr(LittleEndian) + into;
        }
    }
    let ram_end = ram_start + ram_size as u64;
    if !(ram_start..ram_end).contains(&entry) {
        return Err(ImageError::EntryOutsideRam { entry, ram_start, ram_end });
    }
    Ok(Loaded { image: low..high, entry: (entry - ram_start) as usize })
}

/// Copies the segments of a file that [`place`] has accepted into the RAM, which is all zeros
/// before.
pub(super) fn copy(ram: &mut dyn WriteRam, ram_start: u64, file: &[u8]) -> Result<(), ImageError> {
    for segment in loadable(file)?.1 {
        let (range, data) = contents(ram.len(), ram_start, file, segment)?;
        ram.write(range.start, data)?;
        // RAM is all zeros, so this clears only what an earlier segment has written here.
        ram.zero(range.start + data.len()..range.end)?;
    }
    Ok(())
}

type Header = FileHeader64<LittleEndian>;
type Segment = ProgramHeader64<LittleEndian>;

/// Returns the header, and the segments that take memory: at least one, at most [`MAX_SEGMENTS`].
fn loadable(file: &[u8]) -> Result<(&Header, impl Iterator<Item = &Segment>), ImageError> {
    let header = header(file)?;
    let segments = header
        .program_headers(LittleEndian, file)
        .map_err(|_| ImageError::Elf("its program headers are not all there"))?;
    let loadable = segments.iter().filter(|segment| {
        segment.p_type(LittleEndian) == elf::PT_LOAD && segment.p_memsz(LittleEndian) > 0
    });
    match loadable.clone().count() {
        0 => Err(ImageError::Elf("it has no segment to load")),
        found if found > MAX_SEGMENTS => {
            Err(ImageError::TooManySegments { found, limit: MAX_SEGMENTS })
        }
        _ => Ok((header, loadable)),
    }
}

fn header(file: &[u8]) -> Result<&FileHeader64<LittleEndian>, ImageError> {
    let damaged = ImageError::Elf("its header is not all there");
    if file.len() < size_of::<Ident>() + 4 {
        return Err(damaged);
    }
    if file[DATA] == elf::ELFDATA2MSB.0 {
        return Err(ImageError::BigEndian);
    }
    let bits = if file[CLASS] == elf::ELFCLASS64.0 { 64 } else { 32 };
    let machine = u16::from_le_bytes([file[MACHINE.start], file[MACHINE.start + 1]]);
    if bits != 64 || machine != elf::EM_AARCH64.0 {
        return Err(ImageError::OtherMachine { machine, bits });
    }
    let header = FileHeader64::parse(file).map_err(|_| damaged)?;
    match header.e_type(LittleEndian) {
        elf::ET_EXEC | elf::ET_DYN => Ok(header),
        other => Err(ImageError::NotExecutable(other.0)),
    }
}

/// Returns the place of a segment, as offsets from the start of RAM, and the bytes that the file
/// has for its beginning.
fn contents<'f>(
    ram_size: usize,
    ram_start: u64,
    file: &'f [u8],
    segment: &Segment,
) -> Result<(Range<usize>, &'f [u8]), ImageError> {
    let data = segment
        .data(LittleEndian, file)
        .map_err(|_| ImageError::Elf("a segment lies behind the end of the file"))?;
    let (start, size) = (segment.p_paddr(LittleEndian), segment.p_memsz(LittleEndian));
    if data.len() as u64 > size {
        return Err(ImageError::Elf("a segment is larger in the file than in memory"));
    }
    let ram_end = ram_start + ram_size as u64;
    if start < ram_start || start.checked_add(size).is_none_or(|end| end > ram_end) {
        return Err(ImageError::SegmentOutsideRam { start, size, ram_start, ram_end });
    }
    let start = (start - ram_start) as usize;
    Ok((start..start + size as usize, data))
}
