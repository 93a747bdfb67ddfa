//! The size of the hypervisor's image: its sections, and its code by crate.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use object::Endianness;
use object::elf::{FileHeader64, SHF_ALLOC, STT_FUNC};
use object::read::elf::{FileHeader, SectionHeader, Sym};

type Elf = FileHeader64<Endianness>;

/// Returns the bytes in memory of each section that is loaded, or for which memory is reserved.
pub fn sections(elf: &[u8]) -> Result<BTreeMap<String, u64>> {
    let header = Elf::parse(elf)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, elf)?;
    let mut sizes = BTreeMap::new();
    for section in sections.iter() {
        if section.sh_flags(endian).contains(SHF_ALLOC) {
            let name = sections.section_name(endian, section)?;
            sizes.insert(String::from_utf8_lossy(name).into_owned(), section.sh_size(endian));
        }
    }
    Ok(sizes)
}

/// Returns the bytes of `.text` of each crate, by the functions' names. Inlined code counts for the
/// function in which it is.
pub fn crates(elf: &[u8]) -> Result<BTreeMap<String, u64>> {
    let header = Elf::parse(elf)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, elf)?;
    let text = sections.section_by_name(endian, b".text").context("the image has no .text")?;
    let text = text.1.sh_size(endian);
    let symbols = sections.symbols(endian, elf, object::elf::SHT_SYMTAB)?;
    // Functions that are equal may share an address.
    let mut functions = BTreeMap::new();
    for symbol in symbols.iter().filter(|symbol| symbol.st_type() == STT_FUNC) {
        let name = symbol.name(endian, symbols.strings())?;
        let name = crate_of(&String::from_utf8_lossy(name)).unwrap_or("no mangled name").to_owned();
        functions.insert(symbol.st_value(endian), (name, symbol.st_size(endian)));
    }
    let mut sizes = BTreeMap::new();
    for (name, size) in functions.into_values() {
        *sizes.entry(name).or_default() += size;
    }
    let known: u64 = sizes.values().sum();
    sizes.insert("assembly, padding".to_owned(), text.saturating_sub(known));
    Ok(sizes)
}

/// Returns the crate in a mangled name: that of the function, or of the first type or trait of an
/// `impl`.
fn crate_of(symbol: &str) -> Option<&str> {
    if let Some(path) = symbol.strip_prefix("_ZN") {
        let (length, rest) = split_number(path)?;
        let first = rest.get(..length)?;
        if !first.contains('$') {
            return Some(first);
        }
        // In `<T as a::b::Trait>`, the crate stands before the first `..`.
        let before = &first[..first.find("..")?];
        let start = before.rfind('$').map_or(0, |at| at + 1);
        return Some(&before[start..]);
    }
    // Rust's newer mangling has `C`, a disambiguator `s<base 62>_`, then the length of the name and
    // the name.
    let path = symbol.strip_prefix("_R")?;
    let (_, after) = path.split_once("Cs")?;
    let (length, rest) = split_number(after.split_once('_')?.1)?;
    rest.strip_prefix('_').unwrap_or(rest).get(..length)
}

fn split_number(text: &str) -> Option<(usize, &str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

#[cfg(test)]
mod tests {
    use super::crate_of;

    #[test]
    fn a_functions_crate_is_in_its_name() {
        for (symbol, name) in [
            ("_ZN12stasis_guest5Guest4exit17h0123456789abcdefE", Some("stasis_guest")),
            (
                "_ZN58_$LT$spin..mutex..Guard$u20$as$u20$core..ops..drop..Drop$GT$4drop17h0E",
                Some("spin"),
            ),
            ("_ZN44_$LT$$RF$T$u20$as$u20$core..fmt..Display$GT$3fmt17h0E", Some("core")),
            ("_RNvMs_NtCs1234_12stasis_guest5guestNtB4_5Guest4exit", Some("stasis_guest")),
            ("memcpy", None),
            ("_ZN99short", None),
        ] {
            assert_eq!(crate_of(symbol), name, "{symbol}");
        }
    }
}
