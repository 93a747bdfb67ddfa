//! Rule 8: the distributor's registers, at every width.

use super::machine::*;
use crate::{Access, Error, VcpuMask};

#[test]
fn rule_08_the_identity_is_that_of_qemu() {
    let mut machine = Machine::at_reset(3, 4);
    assert_eq!(machine.read(0, 0x004, 4), 1 | 2 << 5);
    assert_eq!(machine.read(0, 0x008, 4), 0x43b);
    let id: Vec<_> = (0..12).map(|n| machine.read(0, 0xfd0 + 4 * n, 4)).collect();
    assert_eq!(id, [0x04, 0, 0, 0, 0x90, 0xb4, 0x2b, 0, 0x0d, 0xf0, 0x05, 0xb1]);
    let vgic = crate::Vgic::new(288, 4).unwrap();
    let mut core = super::hardware::Core::new(4);
    let mut vgic = vgic;
    let access = Access::checked(4, 4).unwrap();
    assert_eq!(vgic.distributor_read(0, access, &mut core).0, 8 | 3 << 5);
}

#[test]
fn rule_08_registers_at_reset() {
    let mut machine = Machine::at_reset(2, 4);
    for (offset, value) in [
        (CTLR, 0),
        (ISENABLER, 0xffff),
        (ISENABLER + 4, 0),
        (ICFGR, 0xaaaa_aaaa),
        (ICFGR + 4, 0),
        (ITARGETSR, 0x0202_0202),
        (ITARGETSR + 32, 0),
        (IPRIORITYR, 0),
    ] {
        assert_eq!(machine.read(1, offset, 4), value, "{offset:#x}");
    }
}

#[test]
fn rule_08_narrow_accesses_take_part_of_a_word() {
    let mut machine = Machine::at_reset(2, 4);
    machine.write(0, ISENABLER + 6, 1, 0x81);
    machine.write(0, ISENABLER + 4, 2, 0x1001);
    assert_eq!(machine.read(0, ISENABLER + 4, 4), 0x0081_1001);
    assert_eq!(machine.read(0, ICENABLER + 6, 2), 0x0081);
    machine.write(0, ICENABLER + 5, 1, 0x10);
    assert_eq!(machine.read(0, ISENABLER + 4, 4), 0x0081_0001);

    machine.write(0, IPRIORITYR + 34, 2, 0xc8b0);
    assert_eq!(machine.read(0, IPRIORITYR + 32, 4), 0xc8b0_0000);
    assert_eq!(machine.read(0, IPRIORITYR + 35, 1), 0xc8);
    machine.write(0, IPRIORITYR + 33, 1, 0x40);
    assert_eq!(machine.read(0, IPRIORITYR + 32, 4), 0xc8b0_4000);
    assert_eq!(machine.read(0, IPRIORITYR + 33, 1), 0x40);
    machine.write(0, ICFGR + 9, 1, 0xff);
    assert_eq!(machine.read(0, ICFGR + 8, 4), 0xaa00);
    machine.write(0, CTLR + 1, 1, 3);
    assert_eq!(machine.read(0, CTLR, 4), 0);
    machine.write(0, CTLR, 2, 0xffff);
    assert_eq!(machine.read(0, CTLR, 1), 3);
}

#[test]
fn rule_08_eight_bytes_are_two_words() {
    let mut machine = Machine::at_reset(1, 4);
    let access = Access::checked(ISENABLER, 8).unwrap();
    let core = &mut machine.cores[0];
    let value = 0x8000_0001_8000_0000;
    let _ = machine.vgic.distributor_write(0, access, value, core);
    let found = machine.vgic.distributor_read(0, access, core).0;
    assert_eq!(found, value | 0xffff);
}

#[test]
fn rule_08_ones_set_and_ones_clear() {
    let mut machine = Machine::at_reset(1, 4);
    for (set, clear) in [(ISENABLER, ICENABLER), (ISPENDR, ICPENDR), (ISACTIVER, ICACTIVER)] {
        machine.write(0, set + 4, 4, 0b0110);
        machine.write(0, set + 4, 4, 0b1000);
        assert_eq!(machine.read(0, clear + 4, 4), 0b1110);
        machine.write(0, clear + 4, 4, 0b0101);
        assert_eq!(machine.read(0, set + 4, 4), 0b1010);
    }
    machine.write(0, ICENABLER, 4, u32::MAX);
    assert_eq!(machine.read(0, ISENABLER, 4), 0xffff, "SGIs stay enabled");
    machine.write(0, ISPENDR, 4, 0xffff);
    assert_eq!(machine.read(0, ISPENDR, 4), 0, "SGIs are sent otherwise");
}

#[test]
fn rule_08_what_does_not_exist_reads_as_zero() {
    let mut machine = Machine::at_reset(2, 4);
    let beyond = [0x088, 0x108, 0x1fc, 0x208, 0x308, 0x3fc, 0x440, 0x7fc, 0x840, 0xc10, 0xcfc];
    let reserved = [0x00c, 0x010, 0x07c, 0xd00, 0xe00, 0xefc, 0xf00, 0xf04, 0xf30, 0xfcc];
    for offset in beyond.into_iter().chain(reserved).filter(|&offset| offset != SGIR) {
        machine.write(0, offset, 4, u32::MAX);
        assert_eq!(machine.read(0, offset, 4), 0, "{offset:#x}");
    }
    let mut untouched = Machine::at_reset(2, 4);
    for offset in (0..0x1000).step_by(4) {
        assert_eq!(machine.read(0, offset, 4), untouched.read(0, offset, 4), "{offset:#x}");
    }
}

#[test]
fn rule_08_of_1020_intids_the_last_four_are_missing() {
    let mut vgic = crate::Vgic::new(1020, 1).unwrap();
    let mut core = super::hardware::Core::new(4);
    let access = Access::checked(ISENABLER + 124, 4).unwrap();
    let _ = vgic.distributor_write(0, access, u32::MAX.into(), &mut core);
    assert_eq!(vgic.distributor_read(0, access, &mut core).0, 0x0fff_ffff);
    let typer = Access::checked(4, 4).unwrap();
    assert_eq!(vgic.distributor_read(0, typer, &mut core).0, 31);
}

#[test]
fn rule_08_targets_are_fixed_for_one_cpu_and_masked_for_several() {
    let mut machine = Machine::at_reset(1, 4);
    machine.write(0, ITARGETSR + 32, 4, u32::MAX);
    assert_eq!(machine.read(0, ITARGETSR, 4), 0);
    assert_eq!(machine.read(0, ITARGETSR + 32, 4), 0);
    let mut machine = Machine::at_reset(3, 4);
    machine.write(0, ITARGETSR + 32, 4, 0xffff_ff02);
    assert_eq!(machine.read(0, ITARGETSR + 32, 4), 0x0707_0702);
    machine.write(2, ITARGETSR, 4, 0);
    assert_eq!(machine.read(2, ITARGETSR + 28, 4), 0x0404_0404);
}

#[test]
fn rule_08_sgir_takes_words_only() {
    let mut machine = Machine::new(2, 4);
    machine.write(0, SGIR, 2, 0);
    machine.write(0, SGIR + 2, 1, 3);
    machine.write(0, SGIR + 3, 1, 2);
    assert_eq!(machine.read(0, SPENDSGIR, 4), 0);
    machine.write(0, SGIR, 4, 3 << 16);
    assert_eq!(machine.read(0, SPENDSGIR, 4), 1);
}

#[test]
fn rule_08_sources_of_sgis_are_set_and_cleared_by_byte() {
    let mut machine = Machine::new(2, 4);
    machine.write(0, SPENDSGIR + 4, 4, 0xff00_ff01);
    assert_eq!(machine.read(0, CPENDSGIR + 4, 4), 0x0300_0301);
    assert_eq!(machine.read(0, ISPENDR, 4), 0b1011_0000);
    machine.write(0, CPENDSGIR + 5, 1, 1);
    assert_eq!(machine.read(0, SPENDSGIR + 4, 4), 0x0300_0201);
    assert_eq!(machine.read(1, SPENDSGIR + 4, 4), 0, "banked");
    assert_eq!(machine.iar(0), 4);
    assert_eq!(machine.read(0, SPENDSGIR + 4, 4), 0x0300_0200);
}

#[test]
fn accesses_that_the_distributor_does_not_take_are_refused() {
    for (offset, width) in [(0x1000, 4), (1, 2), (2, 4), (4, 8), (0, 0), (0, 16), (u64::MAX, 1)] {
        let error = Error::NoSuchAccess { offset, width };
        assert_eq!(Access::checked(offset, width), Err(error));
    }
}

#[test]
fn only_vcpus_that_have_the_interrupt_need_to_be_stopped() {
    let mut machine = Machine::new(3, 4);
    machine.write(0, ITARGETSR + 40, 1, 0b010);
    machine.spi(40, true);
    let needs = |machine: &Machine, vcpu, offset, write| {
        machine.vgic.needs_sync(vcpu, Access::checked(offset, 4).unwrap(), write)
    };
    for (offset, write) in [(ISPENDR, false), (ICPENDR, true), (ISACTIVER, true)] {
        assert_eq!(needs(&machine, 0, offset + 4, write), VcpuMask::only(1));
        assert_eq!(needs(&machine, 1, offset + 4, write), VcpuMask::NONE, "its own");
        assert_eq!(needs(&machine, 0, offset, write), VcpuMask::NONE, "banked");
    }
    assert_eq!(needs(&machine, 0, ISPENDR + 4, true), VcpuMask::NONE);
    assert_eq!(needs(&machine, 0, ISENABLER + 4, true), VcpuMask::NONE);
    machine.save(1);
    assert_eq!(needs(&machine, 0, ISPENDR + 4, false), VcpuMask::NONE);
}

#[test]
fn rule_08_a_group_that_is_disabled_is_not_forwarded() {
    let mut machine = Machine::new(1, 4);
    machine.write(0, IGROUPR + 4, 4, 1);
    machine.cores[0].interface.ctlr |= super::interface::ACK_CTL;
    machine.write(0, CTLR, 4, 1);
    machine.spi(32, true);
    machine.spi(33, true);
    assert_eq!(machine.iar(0), 33);
    machine.spi(33, false);
    machine.eoir(0, 33);
    assert_eq!(machine.iar(0), super::interface::SPURIOUS);
    machine.write(0, CTLR, 4, 2);
    assert_eq!(machine.iar(0), 32);
}

#[test]
fn what_is_recorded_is_what_is_read_by_every_access_that_needs_no_list_register() {
    let mut machine = Machine::new(2, 4);
    for intid in [33, 35, 38] {
        machine.spi(intid, true);
    }
    machine.iar(0);
    machine.write(1, SGIR, 4, 1 << 16 | 3);
    let mut recorded = 0;
    for width in [1u8, 2, 4, 8] {
        for offset in (0..0x1000).step_by(width.into()) {
            let access = Access::checked(offset, width).unwrap();
            let found = machine.vgic.recorded(0, access);
            let often = machine.vgic.read_often(0, access).filter(|_| width == 4);
            assert!(often.is_none_or(|often| found == Some(often.into())), "{access:?}");
            let (read, _) = machine.vgic.distributor_read(0, access, &mut machine.cores[0]);
            assert!(found.is_none_or(|found| found == read), "{width} bytes at {offset:#x}");
            // ISPENDR to ICACTIVER, CPENDSGIR and SPENDSGIR.
            let depends = (0x200..0x400).contains(&offset) || (0xf10..0xf30).contains(&offset);
            assert_eq!(found.is_none(), depends, "{width} bytes at {offset:#x}");
            recorded += usize::from(found.is_some());
        }
    }
    assert!(recorded > 0);
}
