//! [`Functions`]: the functions that addresses of the hypervisor's image are in, by its symbols and
//! its debugging information.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use addr2line::gimli::{self, EndianSlice, RunTimeEndian};
use anyhow::{Context as _, Result};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

/// The address to which QEMU's `virt` loads an arm64 Image: 2 MiB behind the start of RAM. The
/// image is linked at 0.
pub const LOADED_AT: u64 = 0x4020_0000;

type Slice<'a> = EndianSlice<'a, RunTimeEndian>;

/// The code of the image, with the names of its functions.
pub struct Functions<'a> {
    text: Cow<'a, [u8]>,
    text_at: u64,
    symbols: BTreeMap<u64, String>,
    debug: addr2line::Context<Slice<'a>>,
}

impl<'a> Functions<'a> {
    /// Returns the functions of the hypervisor's ELF file.
    pub fn new(elf: &'a [u8]) -> Result<Self> {
        let file = object::File::parse(elf)?;
        let text = file.section_by_name(".text").context("the image has no .text")?;
        let names = file
            .symbols()
            .filter(|symbol| symbol.is_definition() && symbol.kind() != SymbolKind::Section);
        // Mapping symbols say where code is, but not which function it is.
        let names = names.filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?)));
        let names = names.filter(|(_, name)| !name.starts_with('$') && !name.is_empty());
        let section = |id: gimli::SectionId| -> Result<Slice<'a>, gimli::Error> {
            let data = file.section_by_name(id.name()).and_then(|section| section.data().ok());
            Ok(EndianSlice::new(data.unwrap_or_default(), RunTimeEndian::Little))
        };
        Ok(Self {
            text: text.uncompressed_data()?,
            text_at: text.address(),
            symbols: names.map(|(address, name)| (address, short(name))).collect(),
            debug: addr2line::Context::from_dwarf(gimli::Dwarf::load(section)?)?,
        })
    }

    /// Returns the addresses of the code.
    pub fn range(&self) -> Range<u64> {
        let start = LOADED_AT + self.text_at;
        start..start + self.text.len() as u64
    }

    /// Returns the address of the function of this name. Fails if it was inlined wherever it is
    /// called.
    pub fn entry(&self, name: &str) -> Result<u64> {
        let (address, _) = self
            .symbols
            .iter()
            .find(|(_, symbol)| *symbol == name)
            .with_context(|| format!("the image has no function {name}"))?;
        Ok(LOADED_AT + address)
    }

    /// Returns the addresses of the function of this name, up to the next one. Fails as
    /// [`Functions::entry`] does.
    pub fn body(&self, name: &str) -> Result<Range<u64>> {
        let entry = self.entry(name)?;
        let next = self.symbols.range(entry - LOADED_AT + 1..).next();
        Ok(entry..next.map_or(self.range().end, |(address, _)| LOADED_AT + address))
    }

    /// Returns the instruction at an address; `None` outside of the hypervisor's code.
    pub fn instruction(&self, pc: u64) -> Option<u32> {
        let at = usize::try_from(pc.checked_sub(LOADED_AT + self.text_at)?).ok()?;
        let bytes = self.text.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Returns the functions that an address is in: the outermost first, then those that are
    /// inlined into it.
    pub fn at(&self, pc: u64) -> Vec<String> {
        let address = pc.wrapping_sub(LOADED_AT);
        let mut names = Vec::new();
        if let Ok(mut frames) = self.debug.find_frames(address).skip_all_loads() {
            while let Ok(Some(frame)) = frames.next() {
                names.extend(frame.function.and_then(|name| Some(short(&name.raw_name().ok()?))));
            }
        }
        names.reverse();
        if names.is_empty() {
            let symbol = self.symbols.range(..=address).next_back();
            names.push(symbol.map_or_else(|| format!("{address:#x}"), |(_, name)| name.clone()));
        }
        names
    }
}

/// Returns the address of a symbol in an ELF file.
pub fn address_of(elf: &[u8], name: &str) -> Result<u64> {
    let file = object::File::parse(elf)?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(name));
    Ok(symbol.with_context(|| format!("there is no symbol {name}"))?.address())
}

/// Returns a name without its hash; the type and the trait of an `impl` are without their paths.
fn short(name: &str) -> String {
    let name = format!("{:#}", rustc_demangle::demangle(name));
    let mut text = String::new();
    let mut depth = 0;
    let mut word = String::new();
    for character in name.chars() {
        match character {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ => {}
        }
        word.push(character);
        if depth > 0 && word.ends_with("::") {
            word.clear();
        } else if !(character.is_alphanumeric() || character == '_' || character == ':') {
            text += &std::mem::take(&mut word);
        }
    }
    text + &word
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn names_are_short_but_tell_their_crates() {
        for (long, name) in [
            ("_ZN12stasis_guest5Guest4exit17h0123456789abcdefE", "stasis_guest::Guest::exit"),
            (
                "stasis_vgic::fill::<impl stasis_vgic::vgic::Vgic>::fill",
                "stasis_vgic::fill::<impl Vgic>::fill",
            ),
            ("<a::B as c::D>::e", "<B as D>::e"),
            ("memcpy", "memcpy"),
        ] {
            assert_eq!(short(long), name);
        }
    }
}
