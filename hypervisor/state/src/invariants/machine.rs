//! The invariants of the record of the guest's machine.

use alloc::vec::Vec;

use crate::machine::{Entry, Machine};

use super::{Violation, each, rule};

/// The INTIDs that interrupts have are below this (IHI 0048B.b, 2.2.1).
const END_OF_INTIDS: usize = 1020;

/// Checks that the entries are in order, that each lies in the guest's addresses, and that there is
/// nothing behind the last one.
pub(super) fn machine(machine: &Machine) -> Result<(), Violation> {
    let len = machine.entries().count();
    let is_used = |n: usize| n < len;
    rule(len > 0, "kind", 0u16, "there is a device")?;
    let why = "there is nothing behind the last entry";
    each("kind", &machine.kind[..], why, |n, value| is_used(n) || value == 0)?;
    each("base", &machine.base[..], why, |n, value| is_used(n) || value == 0)?;
    each("size", &machine.size[..], why, |n, value| is_used(n) || value == 0)?;
    each("intid", &machine.intid[..], why, |n, value| is_used(n) || value == 0)?;
    let why = "it is at least 1, and 0 behind the last entry";
    each("count", &machine.count[..], why, |n, value| is_used(n) == (value > 0))?;
    let entries: Vec<Entry> = machine.entries().collect();
    let ends = |n: usize| {
        entries.get(n).is_none_or(|Entry { base, size, count, .. }| {
            size.checked_mul(u64::from(*count)).and_then(|len| base.checked_add(len)).is_some()
        })
    };
    each("size", &machine.size[..], "the windows end below 2^64", |n, _| ends(n))?;
    let has_intids = |n: usize, first: u16| {
        let count = usize::from(machine.count[n]);
        first == 0 || usize::from(first) + count <= END_OF_INTIDS
    };
    each("intid", &machine.intid[..], "it is below 1020, with those that follow", has_intids)?;
    let is_behind = |n: usize| n == 0 || n >= len || entries[n - 1].order() < entries[n].order();
    let why = "the entries ascend by kind, then by address";
    each("kind", &machine.kind[..], why, |n, _| is_behind(n))
}
