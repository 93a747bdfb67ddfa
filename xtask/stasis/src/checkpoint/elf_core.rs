//! A checkpoint as an ELF core file, for debuggers: a thread for each vCPU, and memory at the addresses at which the
//! guest sees it.
//!
//! The guest's RAM is in the file once, with holes where it is zero. It is there at its physical addresses, and,
//! where the guest has its MMU on, at those of its page tables; both kinds of segments point to the same bytes.
//! Layouts are those of Linux on arm64: `struct elf_prstatus`, `user_fpsimd_state` (asm/ptrace.h), and notes as in elf(5).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use stasis_state::VcpuState;

use super::elf::{Bytes, EM_AARCH64, HEADER_LEN, LITTLE_ENDIAN_64, SECTION_LEN};
use super::memory::Memory;
use super::source::Loaded;
use super::symbol_file;
use super::translation::{Mapping, mappings};
use crate::output::Output;
use crate::report;

const SEGMENT_LEN: usize = 56;
const ET_CORE: u16 = 4;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const NT_PRSTATUS: u32 = 1;
const NT_FPREGSET: u32 = 2;
/// Read, write, execute: who may do what is not looked up.
const ALL_RIGHTS: u32 = 7;
/// e_phnum where the number is in the first section header's sh_info.
const PN_XNUM: usize = 0xffff;

/// What was written.
pub struct Written {
    /// What is in it, in words.
    pub summary: String,
    /// The file with the symbols of a guest that has some.
    pub symbols: Option<PathBuf>,
}

/// Writes the core file. The page tables are those of `vcpu`.
pub fn write(loaded: &Loaded, vcpu: usize, path: &Path) -> Result<Written> {
    let state = &loaded.checkpoint.state;
    let of_vcpu = state.vcpus.get(vcpu);
    let of_vcpu = of_vcpu.with_context(|| format!("there is no vCPU {vcpu}; the first is 0"))?;
    let memory = Memory::read(loaded)?;
    let virtual_ = mappings(&of_vcpu.system, &memory);
    // First: gdb warns of a program that is newer than the core file.
    let symbols = symbol_file::write(&state.vcpus, &memory, &virtual_, path)?;
    let head = head(&state.vcpus, &segments(&virtual_, &memory), &memory);

    let mut output = Output::create(path)?;
    let file: &File = output.file();
    let start = head.len() as u64;
    let ram_len = memory.ram.end - memory.ram.start;
    let all = || -> std::io::Result<()> {
        file.write_all_at(&head, 0)?;
        file.set_len(start + ram_len)?;
        let mut in_ram = memory.pages().filter(|(address, _)| memory.ram.contains(address));
        in_ram.try_for_each(|(address, page)| {
            file.write_all_at(page, start + (address - memory.ram.start))
        })
    };
    ensure!(start.checked_add(ram_len).is_some(), "{ram_len} bytes of RAM are too many for a file");
    all().with_context(|| format!("cannot write {}", path.display()))?;
    output.finish_and_tell()?;
    let ram = report::size(ram_len);
    let mapped = report::size(virtual_.iter().map(|mapping| mapping.len).sum());
    let summary = match virtual_.len() {
        0 => format!("{ram} of RAM at its physical addresses; vCPU {vcpu} has its MMU off"),
        runs => format!("{ram} of RAM, and {mapped} in {runs} runs of virtual addresses"),
    };
    Ok(Written { summary, symbols })
}

/// What the guest sees, and its RAM at its physical addresses as far as nothing else is there.
fn segments(virtual_: &[Mapping], memory: &Memory) -> Vec<Mapping> {
    let mut segments = virtual_.to_vec();
    let mut from = memory.ram.start;
    for mapping in virtual_ {
        let end = mapping.address.saturating_add(mapping.len);
        if end > from && mapping.address < memory.ram.end {
            if mapping.address > from {
                segments.push(Mapping {
                    address: from,
                    physical: from,
                    len: mapping.address - from,
                });
            }
            from = end;
        }
    }
    if from < memory.ram.end {
        segments.push(Mapping { address: from, physical: from, len: memory.ram.end - from });
    }
    segments.sort_by_key(|segment| segment.address);
    segments
}

/// Everything before the memory: a whole number of pages.
fn head(vcpus: &[VcpuState], segments: &[Mapping], memory: &Memory) -> Vec<u8> {
    let notes: Vec<u8> = (1..).zip(vcpus).flat_map(|(id, vcpu)| thread(id, vcpu)).collect();
    let count = segments.len() + 1;
    let is_long = count >= PN_XNUM;
    let sections = usize::from(is_long);
    let notes_at = HEADER_LEN + sections * SECTION_LEN + count * SEGMENT_LEN;
    let memory_at = (notes_at + notes.len()).next_multiple_of(4096);

    let mut out = Bytes::default();
    out.bytes(LITTLE_ENDIAN_64);
    out.u16(ET_CORE).u16(EM_AARCH64).u32(1);
    // Entry, segments' and sections' place, flags.
    out.u64(0).u64((HEADER_LEN + sections * SECTION_LEN) as u64);
    out.u64(if is_long { HEADER_LEN as u64 } else { 0 }).u32(0);
    out.u16(HEADER_LEN as u16).u16(SEGMENT_LEN as u16).u16(count.min(PN_XNUM) as u16);
    out.u16(if is_long { SECTION_LEN as u16 } else { 0 }).u16(sections as u16).u16(0);
    if is_long {
        // sh_info has the number of segments.
        out.u32(0).u32(0).u64(0).u64(0).u64(0).u64(0).u32(0).u32(count as u32).u64(0).u64(0);
    }
    out.u32(PT_NOTE).u32(0).u64(notes_at as u64).u64(0).u64(0);
    out.u64(notes.len() as u64).u64(0).u64(4);
    for segment in segments {
        let offset = memory_at as u64 + (segment.physical - memory.ram.start);
        out.u32(PT_LOAD).u32(ALL_RIGHTS).u64(offset).u64(segment.address).u64(segment.physical);
        out.u64(segment.len).u64(segment.len).u64(4096);
    }
    out.bytes(&notes);
    out.0.resize(memory_at, 0);
    out.0
}

/// A vCPU's notes.
fn thread(id: u32, vcpu: &VcpuState) -> Vec<u8> {
    let mut status = Bytes::default();
    // Signal, then its masks.
    status.zero(12).u16(0).zero(2).u64(0).u64(0);
    // Process, and its parent, group and session; then four times.
    status.u32(id).u32(0).u32(0).u32(0).zero(4 * 16);
    for x in *vcpu.core.x {
        status.u64(x);
    }
    status.u64(stack_pointer(vcpu)).u64(*vcpu.core.pc).u64(*vcpu.core.pstate);
    // There are FP registers.
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

/// By PSTATE's exception level and SP.
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

    #[test]
    fn the_notes_have_the_lengths_that_linux_gives_them() {
        let notes = thread(1, &VcpuState::default());
        assert_eq!(notes.len(), 20 + 392 + 20 + 528);
        assert_eq!(u32::from_le_bytes(notes[4..8].try_into().unwrap()), 392);
    }

    #[test]
    fn physical_addresses_are_there_where_the_guest_has_nothing_else() {
        let memory = Memory::of(0x4000_0000..0x4001_0000, []);
        let guest = Mapping { address: 0x4000_2000, physical: 0x4000_8000, len: 0x1000 };
        let all = segments(&[guest], &memory);
        let physical = |address, len| Mapping { address, physical: address, len };
        assert_eq!(all, [physical(0x4000_0000, 0x2000), guest, physical(0x4000_3000, 0xd000)]);
        assert_eq!(segments(&[], &memory), [physical(0x4000_0000, 0x1_0000)]);
    }

    #[test]
    fn more_segments_than_the_header_can_count_are_counted_in_a_section() {
        let memory = Memory::of(0x4000_0000..0x4001_0000, []);
        let one = Mapping { address: 0, physical: 0x4000_0000, len: 4096 };
        let head = head(&[], &vec![one; 70_000], &memory);
        assert_eq!(head[56..58], [0xff, 0xff]);
        assert_eq!(u32::from_le_bytes(head[64 + 44..][..4].try_into().unwrap()), 70_001);
    }
}
