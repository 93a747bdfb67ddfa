use proptest::prelude::*;
use stasis_state::vcpu::{Core, sysreg};

use super::*;
use crate::register::pstate;
use stasis_devices::access::Width;

fn exit(esr: u64) -> Exit {
    decode(Syndrome { esr, far: 0xffff_8000_0900_0018, hpfar: 0x0900_0000 >> 8 })
}

fn loaded(esr: u64, value: u64) -> u64 {
    let Exit::DataAbort { access, .. } = exit(esr) else {
        panic!("{esr:#x} is no emulatable access");
    };
    let mut core = Core::default();
    core.x[5] = u64::MAX;
    access.load(&mut core, value);
    core.x[5]
}

#[test]
fn a_load_is_decoded_with_its_address_and_its_register() {
    // LDR W5, level 3.
    let Exit::DataAbort { ipa, virtual_address, access } = exit(0x9385_0007) else {
        panic!();
    };
    assert_eq!(ipa, 0x0900_0018);
    assert_eq!(
        access,
        Access {
            write: false,
            width: Width::Word,
            register: 5,
            sign_extend: false,
            sixty_four: false,
            writeback: None,
            second: None,
        }
    );
    assert_eq!(virtual_address, 0xffff_8000_0900_0018);
}

#[test]
fn a_store_is_decoded_with_its_width() {
    // STRB W3, STRH W3, STR W3, STR X3.
    for (esr, width) in [
        (0x9303_0046, Width::Byte),
        (0x9343_0046, Width::Halfword),
        (0x9383_0046, Width::Word),
        (0x93c3_8046, Width::Doubleword),
    ] {
        let Exit::DataAbort { access, .. } = exit(esr) else {
            panic!("{esr:#x}");
        };
        assert!(access.write);
        assert_eq!(access.width, width);

        let mut core = Core::default();
        core.x[3] = 0x8877_6655_4433_2211;
        assert_eq!(access.stored(&core), width.truncate(0x8877_6655_4433_2211));
    }
}

#[test]
fn a_loaded_sign_reaches_as_far_as_the_register() {
    // LDRB W5, LDRSB W5, LDRSB X5, LDRSH W5, LDRSW X5, LDR X5.
    assert_eq!(loaded(0x9305_0007, 0x1f0), 0xf0);
    assert_eq!(loaded(0x9325_0007, 0x1f0), 0xffff_fff0);
    assert_eq!(loaded(0x9325_8007, 0x1f0), 0xffff_ffff_ffff_fff0);
    assert_eq!(loaded(0x9325_8007, 0x170), 0x70);
    assert_eq!(loaded(0x9365_0007, 0x8001), 0xffff_8001);
    assert_eq!(loaded(0x93a5_8007, 0x8000_0001), 0xffff_ffff_8000_0001);
    assert_eq!(loaded(0x93c5_8007, 0x8000_0000_0000_0001), 0x8000_0000_0000_0001);
}

#[test]
fn a_load_into_a_w_register_clears_its_upper_half() {
    assert_eq!(loaded(0x9385_0007, 0xffff_ffff_8000_0000), 0x8000_0000);
}

#[test]
fn the_zero_register_stores_zero_and_keeps_nothing() {
    let Exit::DataAbort { access, .. } = exit(0x939f_0047) else {
        panic!();
    };
    let mut core = Core::default();
    *core.x = [7; 31];
    assert_eq!(access.stored(&core), 0);
    access.load(&mut core, 1);
    assert_eq!(*core.x, [7; 31]);
}

#[test]
fn a_big_endian_guest_sees_its_own_byte_order() {
    let Exit::DataAbort { access, .. } = exit(0x9385_0007) else {
        panic!();
    };
    let mut core = Core::default();
    let swapped = |core: &Core, sctlr| access.in_device_order(core, sctlr, 0x1234) != 0x1234;
    let (ee, e0e) = (1 << 25, 1 << 24);
    *core.pstate = pstate::EL1H;
    assert_eq!(access.in_device_order(&core, ee, 0x1234_5678), 0x7856_3412);
    assert!(!swapped(&core, e0e));
    *core.pstate = pstate::EL0T;
    assert!(swapped(&core, e0e) && !swapped(&core, ee));
    *core.pstate = pstate::AARCH32;
    assert!(!swapped(&core, ee | e0e));
    *core.pstate |= pstate::BIG_ENDIAN;
    assert!(swapped(&core, 0));
}

#[test]
fn an_access_without_a_description_is_not_emulatable() {
    let Exit::DataAbortUnemulatable(fault) = exit(0x9200_0046) else {
        panic!();
    };
    assert_eq!(fault.cause, Cause::Store);
    assert_eq!(fault.ipa, Some(0x0900_0018));
}

#[test]
fn a_fault_of_a_table_walk_is_not_emulatable_and_has_only_a_page() {
    // ISV is 0 and S1PTW is 1.
    let Exit::DataAbortUnemulatable(fault) = exit(0x9200_0086) else {
        panic!();
    };
    assert!(fault.on_walk);
    assert_eq!(fault.ipa, Some(0x0900_0000));
}

#[test]
fn a_permission_fault_has_no_address_of_its_own() {
    let Exit::DataAbortUnemulatable(fault) = exit(0x9385_004f) else {
        panic!();
    };
    assert_eq!((fault.kind, fault.ipa), (FaultKind::Permission, None));
}

#[test]
fn cache_maintenance_is_told_from_a_store() {
    let Exit::CacheMaintenance(fault) = exit(0x9200_0146) else {
        panic!();
    };
    assert_eq!(fault.cause, Cause::Maintenance);
}

#[test]
fn a_jump_to_nowhere_is_an_instruction_abort() {
    let Exit::InstructionAbort(fault) = exit(0x8200_0006) else {
        panic!();
    };
    assert_eq!((fault.cause, fault.kind), (Cause::Fetch, FaultKind::Translation));
}

#[test]
fn calls_carry_their_immediate() {
    assert_eq!(exit(0x5a00_0000), Exit::Hvc { imm: 0 });
    assert_eq!(exit(0x5a00_1234), Exit::Hvc { imm: 0x1234 });
    assert_eq!(exit(0x5e00_0001), Exit::Smc { imm: 1 });
}

#[test]
fn a_system_register_is_named_by_its_encoding() {
    // MRS X0, ID_AA64PFR0_EL1; MSR CNTP_TVAL_EL0, X19.
    assert_eq!(
        exit(0x6230_0009),
        Exit::SystemRegister(SystemAccess {
            encoding: sysreg(3, 0, 0, 4, 0),
            rt: 0,
            is_read: true
        })
    );
    let write = 0x6200_0000 | 3 << 20 | 3 << 14 | 14 << 10 | 19 << 5 | 2 << 1;
    assert_eq!(
        exit(write),
        Exit::SystemRegister(SystemAccess {
            encoding: sysreg(3, 3, 14, 2, 0),
            rt: 19,
            is_read: false
        })
    );
}

#[test]
fn the_waits_are_told_apart() {
    assert_eq!(exit(0x07e0_0000), Exit::Wfx(Wfx::Wfi));
    assert_eq!(exit(0x07e0_0001), Exit::Wfx(Wfx::Wfe));
    assert_eq!(exit(0x07e0_0002), Exit::Wfx(Wfx::Wfit));
    assert_eq!(exit(0x07e0_0003), Exit::Wfx(Wfx::Wfet));
}

#[test]
fn a_class_that_means_nothing_here_is_unknown() {
    assert_eq!(exit(0x6600_0000), Exit::Unknown { class: 0x19 });
    assert_eq!(exit(0xfc00_0000), Exit::Unknown { class: 0x3f });
}

#[test]
fn skipping_moves_by_the_instruction_and_completes_a_step() {
    let mut core = Core::default();
    *core.pc = 0x4000_0000;
    *core.pstate = pstate::EL1H | pstate::SS | pstate::BTYPE | pstate::NZCV;
    skip_instruction(&mut core, 0x5e00_0000);
    assert_eq!(*core.pc, 0x4000_0004);
    assert_eq!(*core.pstate, pstate::EL1H | pstate::NZCV);
}

#[test]
fn skipping_a_short_thumb_instruction_moves_by_two_and_advances_its_it_block() {
    let mut core = Core::default();
    *core.pc = 0x1_0000;
    // IT = 0b0000_1100: two more instructions, EQ. IT[7:2] is in bits [15:10].
    *core.pstate = pstate::AARCH32 | pstate::THUMB | 0b11 << 10;
    skip_instruction(&mut core, 0);
    assert_eq!(*core.pc, 0x1_0002);
    assert_eq!(*core.pstate, pstate::AARCH32 | pstate::THUMB | 0b110 << 10);
    skip_instruction(&mut core, 0);
    assert_eq!(*core.pstate, pstate::AARCH32 | pstate::THUMB);
}

#[test]
fn an_it_block_keeps_its_condition_as_it_advances() {
    let it = |it: u64| pstate::AARCH32 | pstate::THUMB | it >> 2 << 10 | (it & 3) << 25;
    let mut core = Core::default();
    // NE, three instructions: ITTE has the state 0b0001_0110.
    *core.pstate = it(0b0001_0110);
    for next in [0b0000_1100, 0b0001_1000, 0] {
        skip_instruction(&mut core, 0);
        assert_eq!(*core.pstate, it(next));
    }
}

#[test]
fn a_syndrome_reads_as_a_sentence() {
    for (esr, text) in [
        (
            0x9385_0007,
            "data abort from a lower level: translation fault, level 3, read of 4 bytes with w5",
        ),
        (0x9600_0045, "data abort: translation fault, level 1, write"),
        (0x9600_0010, "data abort: external abort, read"),
        (0x9600_0021, "data abort: alignment fault, read"),
        (0x8600_0006, "instruction abort: translation fault, level 2"),
        (
            0x9200_0086,
            "data abort from a lower level: translation fault, level 2, in the walk for stage 1, read",
        ),
        (0x6230_0009, "trapped system register: read of s3_0_c0_c4_0 with x0"),
        (0x0200_0000, "undefined instruction"),
        (0x5a00_0010, "HVC #0x10"),
        (0xf200_0001, "BRK #0x1"),
        (0x07e0_0001, "trapped wait: Wfe"),
        (0xbe00_0011, "SError, ISS 0x11"),
        (0xfc00_0001, "unknown exception class 0x3f, ISS 0x1"),
    ] {
        assert_eq!(describe(esr).to_string(), text);
    }
}

proptest! {
    #[test]
    fn every_syndrome_can_be_decoded_and_described(esr: u64, far: u64, hpfar: u64, value: u64) {
        let mut core = Core::default();
        if let Exit::DataAbort { ipa, access, .. } = decode(Syndrome { esr, far, hpfar }) {
            prop_assert!(ipa < 1 << 52);
            access.load(&mut core, value);
            access.stored(&core);
        }
        skip_instruction(&mut core, esr);
        prop_assert!(!describe(esr).to_string().is_empty());
    }

    #[test]
    fn every_data_abort_is_one_of_three(iss in 0_u64..1 << 25) {
        let is_abort = matches!(
            exit(0x24 << 26 | iss),
            Exit::DataAbort { .. } | Exit::DataAbortUnemulatable(_) | Exit::CacheMaintenance(_)
        );
        prop_assert!(is_abort);
    }
}
