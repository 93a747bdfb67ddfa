//! Writes a Linux kernel's functions to a file beside the core file, which a debugger takes for the
//! program.
//!
//! The file has the functions' names, and how to get from a frame to its caller's (DWARF 4, 6.4).
//! The kernel is compiled with frame pointers, so X29 leads from each frame record to the next.
//! Only a function that has not made its record is left through X30, such as the one with the WFI,
//! which never makes one.

use std::path::{Path, PathBuf};

use anyhow::Result;
use stasis_state::VcpuState;
use stasis_state::routines::Page;

use super::elf::{Bytes, EM_AARCH64, HEADER_LEN, LITTLE_ENDIAN_64, SECTION_LEN};
use super::symbols::{self, Symbol};
use super::translation::Virtual;
use crate::output::Output;
use crate::report;

const ET_EXEC: u16 = 2;
const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_NOBITS: u32 = 8;
const SHF_ALLOC_EXECINSTR: u64 = 6;
const SYMBOL_LEN: usize = 24;
/// The value of st_info: STB_GLOBAL, STT_FUNC.
const GLOBAL_FUNCTION: u8 = 0x12;

/// Writes the file beside the core file if the guest is a Linux with symbols. `notes` are the page
/// that Linux keeps for crash dumps. Returns the file's name, and the file, which the caller
/// finishes.
pub fn write(
    vcpus: &[VcpuState],
    notes: &Page,
    memory: &Virtual<'_, '_>,
    core: &Path,
) -> Result<Option<(PathBuf, Output)>> {
    let symbols = match symbols::linux(notes, memory) {
        Ok(symbols) => symbols,
        Err(too_many) => {
            report::warn(format_args!("there are no names of functions: {too_many}"));
            return Ok(None);
        }
    };
    let (Some(first), Some(last)) = (symbols.first(), symbols.last()) else { return Ok(None) };
    let text = first.address..last.address.saturating_add(4);
    let frames = frames(&symbols, &text, vcpus, memory);
    let mut path = core.as_os_str().to_owned();
    path.push(".symbols");
    let path = PathBuf::from(path);
    let mut output = Output::create(&path)?;
    output.put(&file(&symbols, &text, &frames))?;
    Ok(Some((path, output)))
}

type Range = std::ops::Range<u64>;

fn file(symbols: &[Symbol], text: &Range, frames: &[u8]) -> Vec<u8> {
    let (mut table, mut names) = (Bytes::default(), Bytes::default());
    table.zero(SYMBOL_LEN);
    names.zero(1);
    for (index, symbol) in symbols.iter().enumerate() {
        table.u32(names.0.len() as u32).bytes(&[GLOBAL_FUNCTION, 0]).u16(1);
        table.u64(symbol.address).u64(end(symbols, index, text) - symbol.address);
        names.bytes(symbol.name.as_bytes()).zero(1);
    }
    let section_names = b"\0.text\0.symtab\0.strtab\0.debug_frame\0.shstrtab\0";
    let contents: [&[u8]; 4] = [&table.0, &names.0, frames, section_names];
    let count = contents.len() as u16 + 2;
    let mut at = HEADER_LEN + usize::from(count) * SECTION_LEN;

    let mut out = Bytes::default();
    out.bytes(LITTLE_ENDIAN_64).u16(ET_EXEC).u16(EM_AARCH64).u32(1);
    out.u64(text.start).u64(0).u64(HEADER_LEN as u64).u32(0);
    out.u16(HEADER_LEN as u16).u16(0).u16(0).u16(SECTION_LEN as u16).u16(count).u16(count - 1);
    out.zero(SECTION_LEN);
    // Name, type, flags, address, offset, length, link, info, alignment, length of an entry.
    out.u32(1).u32(SHT_NOBITS).u64(SHF_ALLOC_EXECINSTR).u64(text.start).u64(at as u64);
    out.u64(text.end - text.start).u32(0).u32(0).u64(4).u64(0);
    let kinds = [
        (7, SHT_SYMTAB, 3, 1, SYMBOL_LEN),
        (15, SHT_STRTAB, 0, 0, 0),
        (23, SHT_PROGBITS, 0, 0, 0),
        (36, SHT_STRTAB, 0, 0, 0),
    ];
    for ((name, kind, link, info, entry), content) in kinds.into_iter().zip(contents) {
        out.u32(name).u32(kind).u64(0).u64(0).u64(at as u64).u64(content.len() as u64);
        out.u32(link).u32(info).u64(1).u64(entry as u64);
        at += content.len();
    }
    for content in contents {
        out.bytes(content);
    }
    out.0
}

/// Returns the end of a function: the beginning of the next one.
fn end(symbols: &[Symbol], index: usize, text: &Range) -> u64 {
    let start = symbols[index].address;
    let next = symbols[index..].iter().map(|symbol| symbol.address).find(|next| *next > start);
    next.unwrap_or(text.end)
}

/// Returns the section .debug_frame.
fn frames(
    symbols: &[Symbol],
    text: &Range,
    vcpus: &[VcpuState],
    memory: &Virtual<'_, '_>,
) -> Vec<u8> {
    // FP and SP are DWARF's numbers of X29 and SP. X30 is the return address.
    const FP: u8 = 29;
    const SP: u8 = 31;
    const LR: u8 = 30;
    const DEF_CFA: u8 = 0x0c;
    const OFFSET: u8 = 0x80;
    const SAME_VALUE: u8 = 0x08;
    // The caller's X29 and X30 lie where X29 points to. Offsets count in units of -8.
    let by_record = [DEF_CFA, FP, 16, OFFSET | FP, 2, OFFSET | LR, 1];
    let by_register = [DEF_CFA, SP, 0, SAME_VALUE, FP, SAME_VALUE, LR];

    let mut out = Bytes::default();
    // Version 1, no augmentation, the factors 1 and -8.
    entry(&mut out, &u32::MAX.to_le_bytes(), &[1, 0, 1, 0x78, LR]);
    let mut from = text.start;
    let mut describe = |to: u64, rules: &[u8]| {
        if to > from {
            let head = [&[0; 4], &from.to_le_bytes()[..], &(to - from).to_le_bytes()].concat();
            entry(&mut out, &head, rules);
            from = to;
        }
    };
    for function in frameless(symbols, text, vcpus, memory) {
        describe(function.start, &by_record);
        describe(function.end, &by_register);
    }
    describe(text.end, &by_record);
    out.0
}

fn entry(out: &mut Bytes, head: &[u8], rest: &[u8]) {
    // Zeros fill the entry up: DW_CFA_nop is 0.
    let len = (4 + head.len() + rest.len()).next_multiple_of(8) - 4;
    out.u32(len as u32).bytes(head).bytes(rest).zero(len - head.len() - rest.len());
}

/// Returns the functions that a vCPU is in and that have not made their frame record, in ascending
/// order.
fn frameless(
    symbols: &[Symbol],
    text: &Range,
    vcpus: &[VcpuState],
    memory: &Virtual<'_, '_>,
) -> Vec<Range> {
    let function = |vcpu: &VcpuState| {
        let pc = *vcpu.core.pc;
        let index = symbols.partition_point(|symbol| symbol.address <= pc).checked_sub(1)?;
        let function = symbols[index].address..end(symbols, index, text);
        let made = (function.start..pc.min(function.end)).step_by(4).any(|at| {
            // STP X29, X30, [SP, ...], with and without write-back.
            memory.u32(at).is_some_and(|code| code & 0xfe40_7fff == 0xa800_7bfd)
        });
        (function.contains(&pc) && !made).then_some(function)
    };
    let mut found: Vec<Range> = vcpus.iter().filter_map(function).collect();
    found.sort_by_key(|function| function.start);
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::memory::tests::memory;
    use object::{Object, ObjectSection, ObjectSymbol};

    fn symbols() -> Vec<Symbol> {
        [("first", 0x1000), ("second", 0x1010), ("alias", 0x1010), ("third", 0x1040)]
            .map(|(name, address)| Symbol { address, name: name.to_owned() })
            .into()
    }

    #[test]
    fn the_file_is_an_elf_with_functions_up_to_the_next() {
        let bytes = file(&symbols(), &(0x1000..0x1044), b"frames");
        let file = object::File::parse(&bytes[..]).unwrap();
        let found: Vec<_> =
            file.symbols().map(|s| (s.name().unwrap(), s.address(), s.size())).collect();
        assert_eq!(
            found,
            [
                ("first", 0x1000, 16),
                ("second", 0x1010, 48),
                ("alias", 0x1010, 48),
                ("third", 0x1040, 4)
            ]
        );
        let frames = file.section_by_name(".debug_frame").unwrap();
        assert_eq!(frames.data().unwrap(), b"frames");
    }

    #[test]
    fn a_function_before_its_record_is_left_through_its_link_register() {
        let mut page = Box::new([0; stasis_state::PAGE_SIZE]);
        // second: PACIASP; STP X29, X30, [SP, #-16]!; NOP.
        for (at, code) in [(0x10, 0xd503_233fu32), (0x14, 0xa9bf_7bfd), (0x18, 0xd503_201f)] {
            page[at..at + 4].copy_from_slice(&code.to_le_bytes());
        }
        let memory = memory(0x4000_0000..0x4000_1000, [(0x4000_0000, page)]);
        let translate = |address| (address == 0x1000).then_some(0x4000_0000);
        let virtual_ = Virtual::new(&memory, &translate);
        let at = |pc| {
            let mut vcpu = VcpuState::default();
            *vcpu.core.pc = pc;
            frameless(&symbols(), &(0x1000..0x1044), &[vcpu], &virtual_)
        };
        assert_eq!(at(0x1014).first(), Some(&(0x1010..0x1040)));
        assert!(at(0x1018).is_empty());
        assert!(at(0x2000).is_empty() && at(0).is_empty());
    }
}
