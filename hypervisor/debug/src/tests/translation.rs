//! The walk to one address.

use core::convert::Infallible;

use super::{Model, RAM};
use crate::machine::Machine;
use crate::translation::translate;

/// Tables of 39 bits through each register: a page and a block, low and high.
fn model() -> Model {
    let mut model = Model::new();
    for vcpu in &mut model.vcpus {
        *vcpu.system.sctlr_el1 |= 1;
        *vcpu.system.tcr_el1 = 25 | 25 << 16 | 2 << 30;
        *vcpu.system.ttbr1_el1 = (RAM + 0x1000) | 7 << 48;
        *vcpu.system.ttbr0_el1 = RAM + 0x4000;
    }
    model.put(RAM + 0x1000 + 8 * 511, (RAM + 0x2000) | 3);
    model.put(RAM + 0x2000, (RAM + 0x3000) | 3);
    model.put(RAM + 0x2008, 0x4020_0401);
    model.put(RAM + 0x3000 + 8 * 5, 0x4000_9403);
    // A GiB in one block.
    model.put(RAM + 0x4000 + 8, 0x4000_0401);
    model
}

fn walk(model: &mut Model, address: u64) -> Option<u64> {
    let system = model.vcpus[0].system.clone();
    let mut word = |at| {
        let mut bytes = [0; 8];
        let read = (&mut &mut *model).read(at, &mut bytes);
        Ok::<_, Infallible>(read.ok().map(|()| u64::from_le_bytes(bytes)))
    };
    let Ok(found) = translate(&system, address, &mut word);
    found
}

#[test]
fn pages_and_blocks_are_found_through_both_registers() {
    let mut model = model();
    let high = 0xffff_ffff_c000_0000;
    for (address, expected) in [
        (0x4000_0123, Some(0x4000_0123)),
        (high + 0x5_678, Some(0x4000_9678)),
        (high + 0x2f_ffff, Some(0x402f_ffff)),
        (high + 0x6_000, None),
        (high - 1, None),
        (0, None),
        (0x80_0000_0000, None),
        (0xff00_0000_4000_0000, None),
    ] {
        assert_eq!(walk(&mut model, address), expected, "{address:#x}");
    }
}

#[test]
fn the_top_byte_counts_unless_the_guest_ignores_it() {
    let mut model = model();
    assert_eq!(walk(&mut model, 0x4200_0000_4000_0000), None);
    *model.vcpus[0].system.tcr_el1 |= 1 << 37;
    assert_eq!(walk(&mut model, 0x4200_0000_4000_0000), Some(0x4000_0000));
}

#[test]
fn without_an_mmu_an_address_is_a_physical_one() {
    let mut model = model();
    *model.vcpus[0].system.sctlr_el1 &= !1;
    assert_eq!(walk(&mut model, 5), Some(5));
}

#[test]
fn tables_outside_of_ram_end_the_walk() {
    let mut model = model();
    *model.vcpus[0].system.ttbr0_el1 = 0xffff_ffff_f000;
    assert_eq!(walk(&mut model, 0x4000_0000), None);
}
