//! The symbols of a Linux guest, read from its own memory: the table behind /proc/kallsyms
//! (kernel/kallsyms.c).
//!
//! Since version 6.0, Linux keeps the addresses of that table in the page that it fills for crash
//! dumps (vmcoreinfo). So a debugger can name functions without a file of the kernel, wherever the
//! kernel lies in memory.

use std::fmt;

use stasis_state::routines::Page;

use super::translation::Virtual;

/// A function of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// The function's virtual address.
    pub address: u64,
    /// The function's name.
    pub name: String,
}

/// The greatest number of symbols that are read; Debian's kernels have about 150000. All of their
/// functions are in memory at once.
const MAX_SYMBOLS: u32 = 400_000;

/// The longest name of a symbol, with its type: Linux's KSYM_NAME_LEN.
const MAX_NAME: usize = 512;

/// The beginning of the page that Linux fills for crash dumps.
pub const CRASH_NOTES: &[u8] = b"OSRELEASE=";

/// Number of a kernel's symbols that is more than are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany(u32);

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the kernel has {} symbols, and {MAX_SYMBOLS} are read at most", self.0)
    }
}

/// Returns the kernel's functions in ascending order; none if the notes name no table, or one that
/// is not in memory.
///
/// # Errors
///
/// The number of symbols of a kernel with too many.
pub fn linux(notes: &Page, memory: &Virtual<'_, '_>) -> Result<Vec<Symbol>, TooMany> {
    let mut symbols = Kallsyms { virtual_: memory }.read(notes).unwrap_or(Ok(Vec::new()))?;
    symbols.sort_by(|a, b| (a.address, &a.name).cmp(&(b.address, &b.name)));
    Ok(symbols)
}

/// Returns the name of the function that has an address, and how far behind its beginning that is;
/// `None` outside of all functions. What is no letter, digit or sign of ASCII in the name is a
/// question mark.
pub fn name_at(symbols: &[Symbol], address: u64) -> Option<String> {
    let index = symbols.partition_point(|symbol| symbol.address <= address);
    let symbol = symbols.get(index.checked_sub(1)?)?;
    // The last function has no end, so nothing is known to be in it.
    symbols.get(index)?;
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    let name: String = symbol.name.chars().map(plain).collect();
    Some(format!("{name}+{:#x}", address - symbol.address))
}

/// The page that Linux keeps for crash dumps: a line for each fact.
pub struct Notes<'p> {
    text: std::borrow::Cow<'p, str>,
}

impl<'p> Notes<'p> {
    /// Returns the notes in a page.
    pub fn new(page: &'p Page) -> Self {
        let end = page.iter().position(|byte| *byte == 0).unwrap_or(page.len());
        Self { text: String::from_utf8_lossy(&page[..end]) }
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// Returns the address of a symbol.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(self.value(&format!("SYMBOL({name})"))?, 16).ok()
    }

    /// Returns the number behind a key: decimal, also below 0, or hexadecimal behind 0x.
    pub fn number(&self, key: &str) -> Option<u64> {
        let value = self.value(key)?;
        match value.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => value.parse().ok().or_else(|| value.parse::<i64>().ok().map(|n| n as u64)),
        }
    }
}

struct Kallsyms<'a, 'm> {
    virtual_: &'a Virtual<'a, 'm>,
}

impl Kallsyms<'_, '_> {
    fn read(&self, notes: &Page) -> Option<Result<Vec<Symbol>, TooMany>> {
        let notes = Notes::new(notes);
        let find = |name: &str| notes.symbol(name);
        let count = self.virtual_.u32(find("kallsyms_num_syms")?)?;
        if count > MAX_SYMBOLS {
            return Some(Err(TooMany(count)));
        }
        let base_at = find("kallsyms_relative_base")?;
        let base = u64::from(self.virtual_.u32(base_at)?)
            | u64::from(self.virtual_.u32(base_at.checked_add(4)?)?) << 32;
        let offsets = find("kallsyms_offsets")?;
        let tokens = self.tokens(find("kallsyms_token_table")?, find("kallsyms_token_index")?)?;
        let mut at = find("kallsyms_names")?;
        let mut symbols = Vec::new();
        for index in 0..u64::from(count) {
            let mut name = Vec::new();
            for _ in 0..self.length(&mut at)? {
                name.extend_from_slice(&tokens[usize::from(self.next(&mut at)?)]);
                if name.len() > MAX_NAME {
                    return None;
                }
            }
            // The first byte of a name is its type. Functions are in the text.
            if let [b't' | b'T' | b'w' | b'W', name @ ..] = &name[..] {
                let offset = self.virtual_.u32(offsets.checked_add(index * 4)?)?;
                let name = String::from_utf8(name.to_vec()).ok()?;
                symbols.push(Symbol { address: base.wrapping_add(offset.into()), name });
            }
        }
        Some(Ok(symbols))
    }

    /// Returns the 256 tokens of which names are made.
    fn tokens(&self, table: u64, index: u64) -> Option<Vec<Vec<u8>>> {
        let token = |number: u64| {
            let at = index.checked_add(2 * number)?;
            let offset = u64::from(self.virtual_.u8(at)?)
                | u64::from(self.virtual_.u8(at.checked_add(1)?)?) << 8;
            let mut at = table.checked_add(offset)?;
            let mut token = Vec::new();
            loop {
                match self.next(&mut at)? {
                    0 => return Some(token),
                    byte if token.len() < 512 => token.push(byte),
                    _ => return None,
                }
            }
        };
        (0..256).map(token).collect()
    }

    /// Returns the number of tokens of a name: one byte, or two if bit 7 of the first is set.
    fn length(&self, at: &mut u64) -> Option<u32> {
        let first = u32::from(self.next(at)?);
        match first & 0x80 {
            0 => Some(first),
            _ => Some(first & 0x7f | u32::from(self.next(at)?) << 7),
        }
    }

    fn next(&self, at: &mut u64) -> Option<u8> {
        let byte = self.virtual_.u8(*at)?;
        *at = at.checked_add(1)?;
        Some(byte)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::checkpoint::memory::tests::memory;
    use stasis_state::PAGE_SIZE;

    const HIGH: u64 = 0xffff_8000_0800_0000;

    fn page(parts: &[(usize, &[u8])]) -> Box<[u8; PAGE_SIZE]> {
        let mut page = Box::new([0; PAGE_SIZE]);
        for (at, bytes) in parts {
            page[*at..][..bytes.len()].copy_from_slice(bytes);
        }
        page
    }

    /// Returns two symbols: a function whose name is of two tokens, and data.
    pub fn tables(count: u32) -> Box<Page> {
        let index: Vec<u8> = (0..=255u16)
            .flat_map(|n| {
                match n {
                    1 => 0u16,
                    2 => 4,
                    _ => 8,
                }
                .to_le_bytes()
            })
            .collect();
        page(&[
            (0x000, &count.to_le_bytes()),
            (0x008, &HIGH.to_le_bytes()),
            (0x010, &[0x40, 0, 0, 0, 0x80, 0, 0, 0]),
            (0x020, &[2, 1, 2, 1, 3]),
            (0x040, b"Tdo\0_it\0dx\0"),
            (0x100, &index),
        ])
    }

    /// The symbols of a guest that has these notes, and says that it has so many.
    fn counted(notes: &str, count: u32) -> Result<Vec<Symbol>, TooMany> {
        let memory = memory(0x4000_0000..0x4010_0000, [(0x4000_6000, tables(count))]);
        let translate = |address| (address == HIGH).then_some(0x4000_6000);
        linux(&page(&[(0, notes.as_bytes())]), &Virtual::new(&memory, &translate))
    }

    /// The symbols of a guest that has these notes.
    fn symbols(notes: &str) -> Vec<Symbol> {
        counted(notes, 2).unwrap()
    }

    /// What the guest keeps for crash dumps, if the tables are at `HIGH`.
    pub const NOTES: &str = "OSRELEASE=6.1.0\nSYMBOL(kallsyms_num_syms)=ffff800008000000
SYMBOL(kallsyms_relative_base)=ffff800008000008\nSYMBOL(kallsyms_offsets)=ffff800008000010
SYMBOL(kallsyms_names)=ffff800008000020\nSYMBOL(kallsyms_token_table)=ffff800008000040
SYMBOL(kallsyms_token_index)=ffff800008000100\n";

    #[test]
    fn functions_are_found_by_what_linux_keeps_for_crash_dumps() {
        assert_eq!(symbols(NOTES), [Symbol { address: HIGH + 0x40, name: "do_it".to_owned() }]);
    }

    #[test]
    fn an_address_is_named_by_the_function_that_it_is_in() {
        let all = [("a", 0x1000), ("<b>\u{202e}\u{7}", 0x1010), ("end", 0x1040)]
            .map(|(name, address)| Symbol { address, name: name.to_owned() });
        assert_eq!(name_at(&all, 0x100c).as_deref(), Some("a+0xc"));
        assert_eq!(name_at(&all, 0x1010).as_deref(), Some("<b>??+0x0"));
        assert!(
            [0, 0xfff, 0x1040, u64::MAX].iter().all(|address| name_at(&all, *address).is_none())
        );
    }

    #[test]
    fn a_name_longer_than_any_of_linuxs_gives_no_symbols() {
        let long = |tokens: u8| {
            let mut table = tables(1);
            table[0x20] = tokens;
            table[0x21..0x21 + usize::from(tokens)].fill(1);
            // Token 1 has 100 letters.
            table[0x300..0x364].fill(b't');
            table[0x102..0x104].copy_from_slice(&0x2c0u16.to_le_bytes());
            let memory = memory(0x4000_0000..0x4010_0000, [(0x4000_6000, table)]);
            let translate = |address| (address == HIGH).then_some(0x4000_6000);
            let notes = page(&[(0, NOTES.as_bytes())]);
            linux(&notes, &Virtual::new(&memory, &translate)).unwrap().len()
        };
        assert_eq!((long(5), long(6)), (1, 0));
    }

    #[test]
    fn more_symbols_than_are_read_are_said() {
        let said = counted(NOTES, 400_001).unwrap_err().to_string();
        assert_eq!(said, "the kernel has 400001 symbols, and 400000 are read at most");
    }

    #[test]
    fn what_points_to_nowhere_gives_no_symbols() {
        assert!(symbols("").is_empty());
        for from in ["8000000", "8000008", "8000010", "8000020", "8000040", "8000100"] {
            assert!(symbols(&NOTES.replace(from, "8001000")).is_empty(), "{from}");
        }
    }
}
