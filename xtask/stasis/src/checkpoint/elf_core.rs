//! Writes a checkpoint as an ELF core file for debuggers: a thread for each vCPU, and memory at the
//! addresses at which the guest sees it.
//!
//! The file has the guest's RAM once, with holes where it is zero. Segments show the RAM at its
//! physical addresses and, if the guest has its MMU on, also at the addresses in its page tables.
//! Both kinds of segments point to the same bytes. The layouts are those of Linux on arm64: `struct
//! elf_prstatus`, `user_fpsimd_state` (asm/ptrace.h), and notes as in elf(5).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use stasis_state::{Checkpoint, Extents, PAGE_SIZE, VcpuState};

use super::elf::{Bytes, EM_AARCH64, HEADER_LEN, LITTLE_ENDIAN_64, SECTION_LEN};
use super::memory::{Index, Memory, ram};
use super::source::{Loaded, Opened, anyhow_of, routines};
use super::symbol_file;
use super::symbols::CRASH_NOTES;
use super::translation::{Mapping, Tables, Virtual};
use crate::output::{self, Output};
use crate::report;

const SEGMENT_LEN: usize = 56;
const ET_CORE: u16 = 4;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const NT_PRSTATUS: u32 = 1;
const NT_FPREGSET: u32 = 2;
/// The flags of a segment: read, write, execute. What the page tables allow is not looked up.
const ALL_RIGHTS: u32 = 7;
/// The value of e_phnum if the number of segments is in sh_info of the first section's header
/// instead.
const PN_XNUM: usize = 0xffff;

/// What [`write()`] has written.
pub struct Written {
    /// What is in the file, in words for a person.
    pub summary: String,
    /// The path of the file with the guest's symbols, if it has any.
    pub symbols: Option<PathBuf>,
}

/// Writes the core file to `path`. The page tables are those of the vCPU `vcpu`.
pub fn write(loaded: &mut Loaded, vcpu: usize, path: &Path) -> Result<Written> {
    let name = loaded.name.clone();
    let cannot_read = || format!("cannot read {name}");
    let (mut opened, checkpoint) = loaded.open()?;
    let vcpus = &checkpoint.state.vcpus;
    let of_vcpu = vcpus.get(vcpu);
    let of_vcpu = of_vcpu.with_context(|| format!("there is no vCPU {vcpu}; the first is 0"))?;
    let mut notes = None;
    let index = Index::new(&mut opened, checkpoint, |page| {
        if notes.is_none() && page.starts_with(CRASH_NOTES) {
            notes = Some(Box::new(*page));
        }
    })
    .with_context(cannot_read)?;
    let memory = Memory::new(opened, checkpoint, index);
    let tables = Tables::of(&of_vcpu.system);
    let mut symbols = None;
    if let Some(notes) = notes {
        let translate = |page| tables.translate(&memory, page);
        // Write the symbols first: gdb warns of a program that is newer than the core file.
        symbols = symbol_file::write(vcpus, &notes, &Virtual::new(&memory, &translate), path)?;
    }
    let plan = Plan::new(vcpus, memory.ram.clone(), |each| tables.each(&memory, each));

    let mut output = Output::create(path)?;
    let start = plan
        .write_head(output.file())
        .with_context(|| format!("cannot write {}", path.display()))?;
    let summary = plan.summary(vcpu);
    memory.finish().with_context(cannot_read)?;
    let (opened, checkpoint) = loaded.open()?;
    let ram = Ram { file: output.file(), path, start };
    ram.write(opened, checkpoint, cannot_read)?;
    let (symbols, symbols_output) = symbols.unzip();
    output::finish_together_and_tell(symbols_output.into_iter().chain([output]))?;
    Ok(Written { summary, symbols })
}

/// Place in the core file for the RAM.
struct Ram<'f> {
    file: &'f File,
    /// The file's name, for errors.
    path: &'f Path,
    /// The offset of the RAM's first byte.
    start: u64,
}

impl Ram<'_> {
    /// Writes the RAM, with holes where it is zero. Errors say which of the two files cannot be
    /// read or written.
    fn write(
        &self,
        mut opened: Opened<'_>,
        checkpoint: &Checkpoint,
        cannot_read: impl Fn() -> String,
    ) -> Result<()> {
        let cannot_write = || format!("cannot write {}", self.path.display());
        let ram = ram(checkpoint);
        let len = self.start.checked_add(ram.end - ram.start);
        let len = len.context("so much RAM is too much for a file")?;
        self.file.set_len(len).with_context(cannot_write)?;
        let mut extents = Extents::new(&mut opened, checkpoint, routines())
            .map_err(anyhow_of)
            .with_context(&cannot_read)?;
        while let Some(extent) =
            extents.read_next().map_err(anyhow_of).with_context(&cannot_read)?
        {
            if ram.contains(&extent.address) {
                let at = self.start + (extent.address - ram.start);
                let written = self.file.write_all_at(extents.pages().as_flattened(), at);
                written.with_context(cannot_write)?;
            }
        }
        Ok(())
    }
}

/// What stands in the file before the RAM.
struct Plan<F> {
    ram: Range<u64>,
    /// Passes the guest's mappings to its argument, in ascending order of addresses.
    mapped: F,
    notes: Vec<u8>,
    /// Number of segments that [`segments`] passes on.
    segments: u32,
    /// Number of runs in the guest's mappings, and of bytes in them.
    runs: u64,
    mapped_len: u64,
}

impl<F: Fn(&mut dyn FnMut(Mapping))> Plan<F> {
    fn new(vcpus: &[VcpuState], ram: Range<u64>, mapped: F) -> Self {
        let notes = (1..).zip(vcpus).flat_map(|(id, vcpu)| thread(id, vcpu)).collect();
        let mut plan = Self { ram, mapped, notes, segments: 0, runs: 0, mapped_len: 0 };
        let (mut count, mut runs, mut len) = (0, 0, 0u64);
        segments(&plan.ram, &plan.mapped, &mut |_| count += 1);
        (plan.mapped)(&mut |mapping| {
            runs += 1;
            len = len.saturating_add(mapping.len);
        });
        (plan.segments, plan.runs, plan.mapped_len) = (count, runs, len);
        plan
    }

    fn summary(&self, vcpu: usize) -> String {
        let ram = report::size(self.ram.end - self.ram.start);
        let mapped = report::size(self.mapped_len);
        match self.runs {
            0 => format!("{ram} of RAM at its physical addresses; vCPU {vcpu} has its MMU off"),
            runs => format!("{ram} of RAM, and {mapped} in {runs} runs of virtual addresses"),
        }
    }

    /// Writes the headers and the notes. Returns the offset in the file at which the RAM begins,
    /// which is a multiple of the page size.
    fn write_head(&self, out: impl Write) -> std::io::Result<u64> {
        let count = self.segments as usize + 1;
        let is_long = count >= PN_XNUM;
        let sections = usize::from(is_long);
        let notes_at = HEADER_LEN + sections * SECTION_LEN + count * SEGMENT_LEN;
        let notes_end = notes_at + self.notes.len();
        let start = notes_end.next_multiple_of(PAGE_SIZE);

        let mut head = Bytes::default();
        head.bytes(LITTLE_ENDIAN_64);
        head.u16(ET_CORE).u16(EM_AARCH64).u32(1);
        // Entry point, offsets of the segments' and the sections' headers, flags.
        head.u64(0).u64((HEADER_LEN + sections * SECTION_LEN) as u64);
        head.u64(if is_long { HEADER_LEN as u64 } else { 0 }).u32(0);
        head.u16(HEADER_LEN as u16).u16(SEGMENT_LEN as u16).u16(count.min(PN_XNUM) as u16);
        head.u16(if is_long { SECTION_LEN as u16 } else { 0 }).u16(sections as u16).u16(0);
        if is_long {
            // sh_info is the number of segments.
            head.zero(44).u32(count as u32).zero(16);
        }
        head.u32(PT_NOTE).u32(0).u64(notes_at as u64).u64(0).u64(0);
        head.u64(self.notes.len() as u64).u64(0).u64(4);

        let mut out = BufWriter::new(out);
        out.write_all(&head.0)?;
        let mut written = Ok(());
        segments(&self.ram, &self.mapped, &mut |segment| {
            if written.is_ok() {
                written = out.write_all(&self.segment(start as u64, segment).0);
            }
        });
        written?;
        out.write_all(&self.notes)?;
        out.write_all(&vec![0; start - notes_end])?;
        out.flush()?;
        Ok(start as u64)
    }

    /// Returns the program header of a segment of the RAM, which begins in the file at the offset
    /// `start`.
    fn segment(&self, start: u64, segment: Mapping) -> Bytes {
        let Mapping { address, physical, len } = segment;
        let mut header = Bytes::default();
        header.u32(PT_LOAD).u32(ALL_RIGHTS).u64(start + (physical - self.ram.start));
        header.u64(address).u64(physical).u64(len).u64(len).u64(PAGE_SIZE as u64);
        header
    }
}

/// Passes to `each`, in ascending order of addresses, the guest's mappings, and its RAM at physical
/// addresses at which it has no mapping.
fn segments(
    ram: &Range<u64>,
    mapped: impl Fn(&mut dyn FnMut(Mapping)),
    each: &mut dyn FnMut(Mapping),
) {
    let physical = |from, to| Mapping { address: from, physical: from, len: to - from };
    let mut from = ram.start;
    mapped(&mut |mapping| {
        let to = mapping.address.min(ram.end);
        if from < to {
            each(physical(from, to));
            from = to;
        }
        each(mapping);
        from = from.max(mapping.address.saturating_add(mapping.len));
    });
    if from < ram.end {
        each(physical(from, ram.end));
    }
}

/// Returns the notes of a vCPU.
fn thread(id: u32, vcpu: &VcpuState) -> Vec<u8> {
    let mut status = Bytes::default();
    // The signal, then the masks of signals.
    status.zero(12).u16(0).zero(2).u64(0).u64(0);
    // The ids of the process, its parent, its group and its session, then four times.
    status.u32(id).u32(0).u32(0).u32(0).zero(4 * 16);
    for x in *vcpu.core.x {
        status.u64(x);
    }
    status.u64(stack_pointer(vcpu)).u64(*vcpu.core.pc).u64(*vcpu.core.pstate);
    // 1: there are FP registers.
    status.u32(1).zero(4);

    let mut fp = Bytes::default();
    for [low, high] in *vcpu.fp.v {
        fp.u64(low).u64(high);
    }
    fp.u32(*vcpu.fp.fpsr).u32(*vcpu.fp.fpcr).zero(8);

    let mut notes = Bytes::default();
    for (kind, content) in [(NT_PRSTATUS, status), (NT_FPREGSET, fp)] {
        notes.u32(5).u32(content.0.len() as u32).u32(kind).bytes(b"CORE\0\0\0\0").bytes(&content.0);
    }
    notes.0
}

/// Returns the stack pointer that PSTATE's exception level and SP select.
fn stack_pointer(vcpu: &VcpuState) -> u64 {
    const EL1H: u64 = 5;
    match *vcpu.core.pstate & 0x1f {
        EL1H => *vcpu.system.sp_el1,
        _ => *vcpu.system.sp_el0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::source::tests::loaded;
    use crate::checkpoint::symbols::tests::{NOTES, tables};

    /// A guest with its notes for crash dumps, its symbols, and its translation table, in its four
    /// pages of RAM.
    fn guest_with_symbols(path: &Path) -> Loaded {
        let mut ram = vec![0; 4 * PAGE_SIZE];
        let notes = NOTES.replace("ffff800008000", "40001");
        ram[..notes.len()].copy_from_slice(notes.as_bytes());
        ram[PAGE_SIZE..][..PAGE_SIZE].copy_from_slice(&*tables(2));
        // A block of 1 GiB at 0x4000_0000, by the second entry of a table of level 1.
        let block = 0x4000_0000u64 | 1 << 10 | 1;
        ram[3 * PAGE_SIZE + 8..][..8].copy_from_slice(&block.to_le_bytes());
        loaded(path, &ram, |state| {
            let system = &mut state.vcpus[0].system;
            *system.sctlr_el1 |= 1;
            // 39 bits, pages of 4 KiB.
            *system.tcr_el1 = 25 | 25 << 16 | 2 << 30;
            *system.ttbr0_el1 = 0x4000_3000;
            *system.ttbr1_el1 = 0x4000_2000;
        })
    }

    #[test]
    fn a_core_file_that_cannot_be_written_leaves_no_symbols_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut loaded = guest_with_symbols(&path("it.stasis"));
        std::fs::create_dir(path("folder")).unwrap();
        assert!(write(&mut loaded, 0, &path("folder")).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        let written = write(&mut loaded, 0, &path("core")).unwrap();
        assert_eq!(written.symbols, Some(path("core.symbols")));
        assert!(path("core").is_file() && path("core.symbols").is_file());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[test]
    fn the_notes_have_the_lengths_that_linux_gives_them() {
        let notes = thread(1, &VcpuState::default());
        assert_eq!(notes.len(), 20 + 392 + 20 + 528);
        assert_eq!(u32::from_le_bytes(notes[4..8].try_into().unwrap()), 392);
    }

    const RAM: Range<u64> = 0x4000_0000..0x4001_0000;

    #[test]
    fn physical_addresses_are_there_where_the_guest_has_nothing_else() {
        let all = |mapped: &[Mapping]| {
            let mut all = Vec::new();
            segments(&RAM, |each| mapped.iter().copied().for_each(each), &mut |one| all.push(one));
            all
        };
        let physical = |address, len| Mapping { address, physical: address, len };
        let at = |address| Mapping { address, physical: 0x4000_8000, len: 0x1000 };
        let guest = at(0x4000_2000);
        let around = [physical(0x4000_0000, 0x2000), guest, physical(0x4000_3000, 0xd000)];
        assert_eq!(all(&[guest]), around);
        assert_eq!(all(&[]), [physical(0x4000_0000, 0x1_0000)]);
        let outside = [at(0), at(0xffff_8000_0000_0000)];
        let expected = [outside[0], physical(0x4000_0000, 0x1_0000), outside[1]];
        assert_eq!(all(&outside), expected);
    }

    #[test]
    fn more_segments_than_the_header_can_count_are_counted_in_a_section() {
        let one = Mapping { address: 0, physical: RAM.start, len: 4096 };
        let plan = Plan::new(&[], RAM, |each| (0..70_000).for_each(|_| each(one)));
        let mut head = Vec::new();
        let start = plan.write_head(&mut head).unwrap();
        assert_eq!(head.len() as u64, start);
        assert_eq!(head[56..58], [0xff, 0xff]);
        // With the RAM, and the notes.
        assert_eq!(u32::from_le_bytes(head[64 + 44..][..4].try_into().unwrap()), 70_002);
    }
}
