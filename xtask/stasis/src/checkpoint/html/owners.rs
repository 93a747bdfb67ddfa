//! [`Owners`]: who has which page of a Linux guest's memory, by the kernel's own array of `struct page`.
//!
//! What Linux keeps for crash dumps says where the array is and what is where in its elements, as
//! makedumpfile and crash read it (Documentation/admin-guide/kdump/vmcoreinfo.rst). All of it is
//! the guest's word: what can't be true makes a page [`Owner::Unknown`].

use std::ops::Range;

use stasis_state::PAGE_SIZE;

use crate::checkpoint::symbols::{Notes, Symbol};
use crate::checkpoint::translation::Virtual;

/// The owner of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody.
    Free,
    /// A file of which it is a part, in the page cache.
    File,
    /// Processes, for their own memory.
    Process,
    /// The kernel's small objects.
    Slab,
    /// The kernel, from its first function to its last, with what lies between them.
    Code,
    /// The kernel, for anything else.
    Kernel,
    /// The array does not tell.
    Unknown,
}

impl Owner {
    /// All owners, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Free,
        Self::File,
        Self::Process,
        Self::Slab,
        Self::Code,
        Self::Kernel,
        Self::Unknown,
    ];

    /// Returns the owner's name for a person.
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::File => "files (page cache)",
            Self::Process => "processes",
            Self::Slab => "kernel: small objects (slab)",
            Self::Code => "kernel: its functions, and what lies between them",
            Self::Kernel => "kernel: anything else",
            Self::Unknown => "not told",
        }
    }
}

/// The highest order of a free block that any kernel has.
const MAX_ORDER: u64 = 20;

/// The kernel's array of pages.
pub struct Owners<'a, 'm> {
    memory: &'a Virtual<'a, 'm>,
    layout: Layout,
    /// Guest-physical addresses of the kernel's functions.
    code: Range<u64>,
}

/// Where the array is, and what is where in an element of it.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Virtual address of the element of the page at `physical`.
    array: u64,
    physical: u64,
    page_size: u64,
    element: u64,
    flags: u64,
    mapcount: u64,
    mapping: u64,
    private: u64,
    head: u64,
    /// The type of a free block, in `_mapcount`.
    buddy: u32,
    slab: Slab,
    /// The bit of `flags` that a page of a file or a process has.
    lru: u64,
}

/// How a page of small objects is known.
#[derive(Clone, Copy, Debug)]
enum Slab {
    /// By a bit in `flags`, up to Linux 6.10.
    Bit(u64),
    /// By its type in `_mapcount`.
    Type(u32),
}

impl Layout {
    fn of(notes: &Notes<'_>) -> Option<Self> {
        let offset = |field: &str| notes.number(&format!("OFFSET(page.{field})"));
        let bit = |name: &str| notes.number(&format!("NUMBER({name})")).filter(|bit| *bit < 64);
        let kind = |name: &str| notes.number(&format!("NUMBER({name})")).map(|value| value as u32);
        let layout = Self {
            array: notes.number("NUMBER(VMEMMAP_START)")?,
            physical: notes.number("NUMBER(PHYS_OFFSET)")?,
            page_size: notes.number("PAGESIZE")?,
            element: notes.number("SIZE(page)")?,
            flags: offset("flags")?,
            mapcount: offset("_mapcount")?,
            mapping: offset("mapping")?,
            private: offset("private")?,
            head: offset("compound_head")?,
            buddy: kind("PAGE_BUDDY_MAPCOUNT_VALUE")?,
            slab: match kind("PAGE_SLAB_MAPCOUNT_VALUE") {
                Some(kind) => Slab::Type(kind),
                None => Slab::Bit(1 << bit("PG_slab")?),
            },
            lru: 1 << bit("PG_lru")?,
        };
        let is_page = [12, 14, 16].map(|bits| 1 << bits).contains(&layout.page_size);
        (is_page && (8..=PAGE_SIZE as u64).contains(&layout.element)).then_some(layout)
    }
}

/// The kernel's note of one page.
#[derive(Clone, Copy, Debug)]
struct Note {
    flags: u64,
    mapcount: u32,
    mapping: u64,
    private: u64,
    head: u64,
}

/// Returns whether `_mapcount` has this type: all of it, or since Linux 6.11 its highest byte.
fn is_type(mapcount: u32, kind: u32) -> bool {
    let mask = if kind & 0xff_ffff == 0 { 0xff00_0000 } else { u32::MAX };
    mapcount & mask == kind
}

impl<'a, 'm> Owners<'a, 'm> {
    /// Returns the array of a kernel; `None` if its notes don't tell enough.
    pub fn new(notes: &Notes<'_>, memory: &'a Virtual<'a, 'm>, symbols: &[Symbol]) -> Option<Self> {
        let layout = Layout::of(notes)?;
        let offset = notes.number("NUMBER(kimage_voffset)");
        let code = match (offset, symbols.first(), symbols.last()) {
            (Some(offset), Some(first), Some(last)) => {
                first.address.wrapping_sub(offset)..last.address.wrapping_sub(offset)
            }
            _ => 0..0,
        };
        Some(Self { memory, layout, code })
    }

    /// Passes the owner of each page of `ram` to `each`, in ascending order.
    pub fn each(&self, ram: Range<u64>, mut each: impl FnMut(u64, Owner)) {
        let mut free_up_to = ram.start;
        for address in ram.step_by(PAGE_SIZE) {
            let note = self.note(self.element_of(address));
            if let Some(note) = note.filter(|note| is_type(note.mapcount, self.layout.buddy)) {
                let len = self.layout.page_size << note.private.min(MAX_ORDER);
                free_up_to = free_up_to.max(address.saturating_add(len));
            }
            each(
                address,
                if address < free_up_to { Owner::Free } else { self.owner(address, note) },
            );
        }
    }

    /// Returns the virtual address of a page's element; `None` if there is none.
    fn element_of(&self, address: u64) -> Option<u64> {
        let index = address.checked_sub(self.layout.physical)? / self.layout.page_size;
        self.layout.array.checked_add(index.checked_mul(self.layout.element)?)
    }

    fn note(&self, element: Option<u64>) -> Option<Note> {
        let Layout { flags, mapcount, mapping, private, head, .. } = self.layout;
        let field = |offset: u64| self.memory.u64(element?.checked_add(offset)?);
        Some(Note {
            flags: field(flags)?,
            mapcount: self.memory.u32(element?.checked_add(mapcount)?)?,
            mapping: field(mapping)?,
            private: field(private)?,
            head: field(head)?,
        })
    }

    /// Returns the owner of a page that is not free.
    fn owner(&self, address: u64, note: Option<Note>) -> Owner {
        if self.code.contains(&address) {
            return Owner::Code;
        }
        let Some(mut note) = note else { return Owner::Unknown };
        // Bit 0 marks all pages of a larger one but its first, which has the rest of the note.
        if note.head & 1 == 1
            && let Some(head) = self.note(note.head.checked_sub(1))
        {
            note = head;
        }
        let is_slab = match self.layout.slab {
            Slab::Bit(bit) => note.flags & bit != 0,
            Slab::Type(kind) => is_type(note.mapcount, kind),
        };
        match note.mapping & 3 {
            _ if is_slab => Owner::Slab,
            1 | 3 => Owner::Process,
            0 if note.mapping != 0 && note.flags & self.layout.lru != 0 => Owner::File,
            _ => Owner::Kernel,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::memory::tests::memory;
    use stasis_state::routines::Page;

    const RAM: u64 = 0x4000_0000;
    const ARRAY: u64 = 0xffff_fc00_0000_0000;
    const NOTES: &str = "OSRELEASE=6.1.0\nPAGESIZE=4096\nSIZE(page)=64\nOFFSET(page.flags)=0
OFFSET(page._mapcount)=48\nOFFSET(page.mapping)=24\nOFFSET(page.private)=40\nOFFSET(page.compound_head)=8
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\nNUMBER(PG_slab)=9\nNUMBER(PG_lru)=4
NUMBER(VMEMMAP_START)=0xfffffc0000000000\nNUMBER(PHYS_OFFSET)=0x40000000
NUMBER(kimage_voffset)=0xffff7fffc7e00000\n";

    /// An element of the array: flags, head, mapping, private, `_mapcount`.
    type Element = (u64, u64, u64, u64, i32);

    /// Returns the owners of the first pages of RAM, whose elements are these.
    fn owners(notes: &str, elements: &[Element], symbols: &[Symbol]) -> Option<Vec<Owner>> {
        let mut page = Box::new([0; PAGE_SIZE]);
        for (element, bytes) in elements.iter().zip(page.chunks_mut(64)) {
            let (flags, head, mapping, private, mapcount) = *element;
            for (at, value) in [(0, flags), (8, head), (24, mapping), (40, private)] {
                bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            bytes[48..52].copy_from_slice(&mapcount.to_le_bytes());
        }
        let memory = memory(RAM..RAM + 0x10_0000, [(RAM + 0x8000, page)]);
        let translate = |address| (address == ARRAY).then_some(RAM + 0x8000);
        let mut text: Page = [0; PAGE_SIZE];
        text[..notes.len()].copy_from_slice(notes.as_bytes());
        let virtual_ = Virtual::new(&memory, &translate);
        let owners = Owners::new(&Notes::new(&text), &virtual_, symbols)?;
        let mut found = Vec::new();
        let len = elements.len() as u64 * PAGE_SIZE as u64;
        owners.each(RAM..RAM + len, |_, owner| found.push(owner));
        Some(found)
    }

    #[test]
    fn pages_are_who_has_them_by_the_kernels_own_array() {
        let head = ARRAY + 2 * 64;
        let elements = [
            (0, 0, 0, 1, -129),
            // The second page of the free block has no note of that.
            (0, 0, 0, 0, -1),
            (1 << 9, 0, 0, 0, -1),
            (0, head | 1, 0, 0, -1),
            (1 << 4, 0, 0xffff_0000_0000_0100, 0, -1),
            (1 << 4, 0, 0xffff_0000_0000_0101, 0, 0),
            (0, 0, 0, 0, -1),
            (0, 0, 0xffff_0000_0000_0100, 0, -1),
        ];
        use Owner::{File, Free, Kernel, Process, Slab};
        let expected = [Free, Free, Slab, Slab, File, Process, Kernel, Kernel];
        assert_eq!(owners(NOTES, &elements, &[]).unwrap(), expected);
    }

    #[test]
    fn newer_kernels_say_it_by_the_highest_byte_of_the_count() {
        let notes = NOTES
            .replace("=-129", "=4026531840")
            .replace("NUMBER(PG_slab)=9", "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=4110417920");
        let count = |kind: u32| (kind | 5) as i32;
        let elements = [(0, 0, 0, 0, count(0xf000_0000)), (0, 0, 0, 0, count(0xf500_0000))];
        assert_eq!(owners(&notes, &elements, &[]).unwrap(), [Owner::Free, Owner::Slab]);
    }

    #[test]
    fn functions_are_the_kernels_and_what_is_not_mapped_is_not_told() {
        let symbol = |address| Symbol { address, name: "f".to_owned() };
        let code = [symbol(0xffff_8000_07e0_0000), symbol(0xffff_8000_07e0_2000)];
        let elements = [(0, 0, 0, 0, -1); 3];
        let found = owners(NOTES, &elements, &code).unwrap();
        assert_eq!(found, [Owner::Code, Owner::Code, Owner::Kernel]);
        let elsewhere = NOTES.replace("0xfffffc0000000000", "0xfffffc0000001000");
        assert_eq!(owners(&elsewhere, &elements, &[]).unwrap(), [Owner::Unknown; 3]);
    }

    #[test]
    fn notes_that_cannot_be_true_tell_nothing_and_hurt_nobody() {
        let elements = [(u64::MAX, u64::MAX, u64::MAX, u64::MAX, -129), (0, 0, 0, 0, -1)];
        assert_eq!(owners(NOTES, &elements, &[]).unwrap(), [Owner::Free; 2]);
        for (from, to) in [
            ("PAGESIZE=4096", "PAGESIZE=0"),
            ("SIZE(page)=64", "SIZE(page)=0"),
            ("PG_lru)=4", "PG_lru)=64"),
            ("OFFSET(page.flags)=0", "OFFSET(page.flags)=x"),
        ] {
            assert_eq!(owners(&NOTES.replace(from, to), &elements, &[]), None, "{to}");
        }
        for (from, to) in [
            ("0xfffffc0000000000", "0xffffffffffffffff"),
            ("PHYS_OFFSET)=0x40000000", "PHYS_OFFSET)=0xffffffffffffffff"),
            ("OFFSET(page.flags)=0", "OFFSET(page.flags)=18446744073709551615"),
        ] {
            assert_eq!(owners(&NOTES.replace(from, to), &elements, &[]).unwrap().len(), 2, "{to}");
        }
    }
}
