//! The differences between two checkpoints: registers by name, interrupts, memory by page.

use std::io::{self, Write};

use anyhow::Result;
use stasis_state::RecordType;

use super::interrupts::{self, Row};
use super::pages::{self, PageSet};
use super::registers;
use super::show::{element, interrupt_row, manual_name};
use super::source::Loaded;
use crate::report;

/// Everything that differs between two checkpoints.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// The registers that differ, except for those that are in [`Difference::interrupts`].
    pub registers: Vec<Change>,
    /// The interrupts that differ.
    pub interrupts: Vec<InterruptChange>,
    /// The pages that differ.
    pub memory: PageSet,
}

/// A register that differs, or an element of one that is an array.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Change {
    pub kind: RecordType,
    pub instance: usize,
    /// The register's name in `docs/format.md`.
    pub name: String,
    /// Index of the element, if the register is an array.
    pub index: Option<usize>,
    /// The old value; `None` if the old checkpoint does not have the vCPU.
    pub old: Option<String>,
    pub new: Option<String>,
}

impl Change {
    /// Returns the manual's name of the register, or of the element of one.
    pub fn title(&self) -> String {
        let name = manual_name(self.kind, &self.name);
        self.index.map_or_else(|| name.clone(), |index| element(&name, index))
    }

    /// Returns the old value and the new one.
    pub fn sides(&self) -> [&str; 2] {
        [&self.old, &self.new].map(|side| side.as_deref().unwrap_or("absent"))
    }

    /// Returns the name of the record that has the register.
    pub fn record(&self) -> String {
        stasis_state::envelope::Name(self.kind, self.instance as u16).to_string()
    }
}

/// An interrupt that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct InterruptChange {
    /// The old state; `None` if the old checkpoint does not have the interrupt.
    pub old: Option<Row>,
    pub new: Option<Row>,
}

impl Difference {
    /// Returns what differs between two checkpoints. Reads the memory of both.
    pub fn between(old: &mut Loaded, new: &mut Loaded) -> Result<Self> {
        let memory = pages::differences(old, new)?;
        let states = [&old.checkpoint.state, &new.checkpoint.state];
        Ok(Self {
            registers: changes(states.map(elements)),
            interrupts: interrupt_changes(states.map(interrupts::all)),
            memory,
        })
    }

    /// Returns whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.registers.is_empty() && self.interrupts.is_empty() && self.memory.is_empty()
    }

    /// Writes the differences for a person.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.is_empty() {
            writeln!(out, "no difference")?;
        }
        let mut place = None;
        for change in &self.registers {
            if place != Some((change.kind, change.instance)) {
                place = Some((change.kind, change.instance));
                writeln!(out, "{}", change.record())?;
            }
            let [old, new] = change.sides();
            writeln!(out, "    {:<20} {old} -> {new}", change.title())?;
        }
        if !self.interrupts.is_empty() {
            writeln!(out, "interrupts\n      {}", super::show::INTERRUPT_COLUMNS)?;
        }
        for change in &self.interrupts {
            for (sign, row) in [('-', &change.old), ('+', &change.new)] {
                if let Some(row) = row {
                    writeln!(out, "    {sign} {}", interrupt_row(row))?;
                }
            }
        }
        if !self.memory.is_empty() {
            let pages = self.memory.len();
            let size = report::size(pages * stasis_state::PAGE_SIZE as u64);
            writeln!(out, "memory: {pages} pages differ, {size}")?;
        }
        for range in self.memory.ranges() {
            writeln!(
                out,
                "    {:#012x}..{:#012x}  {:>6}",
                range.start,
                range.end,
                pages::count(&range)
            )?;
        }
        Ok(())
    }
}

/// The place of an element of a register, by which elements are sorted.
type Key = (u16, usize, usize, usize);
/// An element of a register with its names and its value.
type Element = (Key, RecordType, String, Option<usize>, String);

/// Returns every element of every register that is not in the table of interrupts.
fn elements(state: &stasis_state::GuestState) -> Vec<Element> {
    let mut elements = Vec::new();
    for record in registers::all(state) {
        for (position, register) in record.registers.iter().enumerate() {
            if super::show::is_in_table(record.kind, register.name) {
                continue;
            }
            let is_array = register.values.len() > 1;
            for (index, value) in register.values.iter().enumerate() {
                let key = (record.kind as u16, record.instance, position, index);
                let index = is_array.then_some(index);
                elements.push((key, record.kind, register.title(), index, register.digits(*value)));
            }
        }
    }
    elements.sort_by_key(|element| element.0);
    elements
}

fn changes([old, new]: [Vec<Element>; 2]) -> Vec<Change> {
    merge(old, new, |element| element.0)
        .filter_map(|(old, new)| {
            let (key, kind, name, index, _) = old.clone().or_else(|| new.clone())?;
            let (old, new) = (old.map(|element| element.4), new.map(|element| element.4));
            (old != new).then_some(Change { kind, instance: key.1, name, index, old, new })
        })
        .collect()
}

fn interrupt_changes([mut old, mut new]: [Vec<Row>; 2]) -> Vec<InterruptChange> {
    let key = |row: &Row| (row.vcpu.is_none(), row.vcpu, row.intid);
    old.sort_by_key(key);
    new.sort_by_key(key);
    merge(old, new, key)
        .filter(|(old, new)| old != new)
        .map(|(old, new)| InterruptChange { old, new })
        .collect()
}

/// Returns the items of two lists, which are sorted by their keys, side by side: items with the
/// same key together.
fn merge<T, K: Ord>(
    old: Vec<T>,
    new: Vec<T>,
    key: impl Fn(&T) -> K,
) -> impl Iterator<Item = (Option<T>, Option<T>)> {
    let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
    std::iter::from_fn(move || {
        use std::cmp::Ordering;
        let order = match (old.peek(), new.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => key(old).cmp(&key(new)),
        };
        let old = if order.is_le() { old.next() } else { None };
        let new = if order.is_ge() { new.next() } else { None };
        Some((old, new))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use stasis_state::GuestState;

    #[test]
    fn registers_differ_by_name_and_interrupts_by_row() {
        let mut states = [GuestState::reset(1), GuestState::reset(2)];
        for state in &mut states {
            *state.distributor.nr_irqs = 64;
        }
        states[1].vcpus[0].core.x[7] = 5;
        *states[1].vcpus[0].cpu_interface.cc_pmr = 0xf0;
        states[1].distributor.spi_prio[0] = 0xa0;
        let states = states.each_ref();
        let difference = Difference {
            registers: changes(states.map(elements)),
            interrupts: interrupt_changes(states.map(interrupts::all)),
            memory: [0x4000_0000, 0x4000_1000, 0x4000_2000].into_iter().collect(),
        };
        let mut text = Vec::new();
        difference.write(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            "    X7                   0x0000000000000000 -> 0x0000000000000005\n",
            "    GICC_PMR             0x00 -> 0xf0\n",
            "    NR_VCPUS             0x01 -> 0x02\n",
            "VCPU_CORE, vCPU 1\n",
            "memory: 3 pages differ, 12.0 KiB\n",
            "    0x0040000000..0x0040003000       3\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        // INTID 32, and the 32 private ones of a vCPU that only the second has.
        assert_eq!(difference.interrupts.len(), 33);
    }
}
