//! A device tree's properties. Those that are absent, and those of another form, are the same to
//! us.

use dtoolkit::fdt::FdtNode;
use dtoolkit::{FdtStringListIterator, Node, Property};

/// The first INTID of an SPI, and of a PPI.
const FIRST_SPI: u32 = 32;
const FIRST_PPI: u32 = 16;

pub trait Lookup<'a> {
    /// The first string of a property.
    fn string(self, name: &str) -> Option<&'a str>;
    /// A property of one or two cells.
    fn integer(self, name: &str) -> Option<u64>;
    /// The first of these that the node is compatible with.
    fn compatible_with(self, names: &[&str]) -> Option<&'a str>;
    /// Whether it is there and in use.
    fn enabled(self) -> bool;
    /// The INTID of the first entry of `interrupts`: kind (0 is SPI, 1 PPI), number, flags.
    fn first_interrupt(self) -> Option<u32>;
}

impl<'a> Lookup<'a> for FdtNode<'a> {
    fn string(self, name: &str) -> Option<&'a str> {
        self.property(name)?.value_as::<FdtStringListIterator<'a>>().ok()?.next()
    }

    fn integer(self, name: &str) -> Option<u64> {
        let property = self.property(name)?;
        match *property.value() {
            [a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d]).into()),
            [a, b, c, d, e, f, g, h] => Some(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            _ => None,
        }
    }

    fn compatible_with(self, names: &[&str]) -> Option<&'a str> {
        self.compatible()?.find(|name| names.contains(name))
    }

    fn enabled(self) -> bool {
        self.string("status").is_none_or(|status| status == "okay" || status == "ok")
    }

    fn first_interrupt(self) -> Option<u32> {
        let property = self.property("interrupts")?;
        let (cells, _) = property.value().as_chunks::<4>();
        let cell = |n: usize| cells.get(n).copied().map(u32::from_be_bytes);
        match cell(0)? {
            0 => cell(1)?.checked_add(FIRST_SPI),
            1 => cell(1)?.checked_add(FIRST_PPI),
            _ => None,
        }
    }
}
