use proptest::prelude::*;

use super::*;

/// A vCPU's records, to be lent.
struct Records {
    core: Core,
    system: SystemRegisters,
    debug: Debug,
    debug_is_kept: bool,
    identity: Identity,
}

impl Records {
    fn new() -> Self {
        let mut identity = Identity::default();
        *identity.midr_el1 = 0x410f_d083;
        *identity.mpidr_el1 = 0x8000_0000;
        *identity.id_aa64pfr0_el1 = 0x12;
        *identity.id_aa64isar0_el1 = 0x1_1120;
        Self {
            core: Core::default(),
            system: SystemRegisters::default(),
            debug: Debug::default(),
            debug_is_kept: false,
            identity,
        }
    }

    fn handle(&mut self, encoding: u16, rt: u8, is_read: bool) -> Outcome {
        let access = SystemAccess { encoding, rt, is_read };
        let mut vcpu = TrapState {
            core: &mut self.core,
            system: &mut self.system,
            debug: &mut self.debug,
            debug_is_kept: self.debug_is_kept,
            identity: &self.identity,
            now: 1000,
        };
        handle(access, &mut vcpu)
    }

    fn read(&mut self, encoding: u16) -> u64 {
        self.core.x[3] = 0xdead;
        assert_eq!(self.handle(encoding, 3, true), Outcome::Done);
        self.core.x[3]
    }

    fn write(&mut self, encoding: u16, value: u64) -> Outcome {
        self.core.x[3] = value;
        self.handle(encoding, 3, false)
    }
}

const ACTLR: u16 = sysreg(3, 0, 1, 0, 1);
const OSLAR: u16 = sysreg(2, 0, 1, 0, 4);
const OSLSR: u16 = sysreg(2, 0, 1, 1, 4);
const CNTPCT: u16 = sysreg(3, 3, 14, 0, 1);
const CNTP_TVAL: u16 = sysreg(3, 3, 14, 2, 0);
const CNTP_CTL: u16 = sysreg(3, 3, 14, 2, 1);
const CNTP_CVAL: u16 = sysreg(3, 3, 14, 2, 2);

#[test]
fn id_registers_read_as_the_identity_says() {
    let mut vcpu = Records::new();
    assert_eq!(vcpu.read(sysreg(3, 0, 0, 4, 0)), 0x12);
    assert_eq!(vcpu.read(sysreg(3, 0, 0, 6, 0)), 0x1_1120);
    assert_eq!(vcpu.read(sysreg(3, 0, 0, 0, 0)), 0x410f_d083);
    assert_eq!(vcpu.read(sysreg(3, 0, 0, 0, 5)), 0x8000_0000);
}

#[test]
fn every_encoding_of_the_id_space_can_be_read() {
    let mut vcpu = Records::new();
    for crm in 1..8 {
        for op2 in 0..8 {
            vcpu.read(sysreg(3, 0, 0, crm, op2));
        }
    }
    // ID_AA64ZFR0_EL1, ID_AA64SMFR0_EL1, ID_AA64MMFR4_EL1.
    for (crm, op2) in [(4, 4), (4, 5), (7, 4)] {
        assert_eq!(vcpu.read(sysreg(3, 0, 0, crm, op2)), 0);
    }
}

#[test]
fn aarch32_is_described_only_where_el0_has_it() {
    let mut vcpu = Records::new();
    assert_eq!(vcpu.read(sysreg(3, 0, 0, 1, 0)), 0x131);
    assert_eq!(vcpu.read(sysreg(3, 0, 0, 2, 5)), 0x1_1121);
    *vcpu.identity.id_aa64isar0_el1 = 0x1_0000;
    assert_eq!(vcpu.read(sysreg(3, 0, 0, 2, 5)), 0x1_0001);
    *vcpu.identity.id_aa64pfr0_el1 = 0x11;
    for crm in 1..4 {
        for op2 in 0..8 {
            assert_eq!(vcpu.read(sysreg(3, 0, 0, crm, op2)), 0);
        }
    }
}

#[test]
fn an_id_register_is_not_written() {
    let mut vcpu = Records::new();
    let outcome = vcpu.write(sysreg(3, 0, 0, 4, 0), 0);
    assert_eq!(outcome, Outcome::Undefined { hidden: true });
}

#[test]
fn actlr_keeps_its_value() {
    let mut vcpu = Records::new();
    assert_eq!(vcpu.write(ACTLR, 0xff), Outcome::Done);
    assert_eq!(vcpu.read(ACTLR), 0);
}

#[test]
fn the_os_lock_is_locked_at_reset_and_can_be_unlocked() {
    let mut vcpu = Records::new();
    assert_eq!(vcpu.read(OSLSR), 0xa);
    assert_eq!(vcpu.write(OSLAR, 0), Outcome::OsLock);
    assert_eq!(vcpu.read(OSLSR), 0x8);
    assert_eq!(vcpu.write(OSLAR, u64::MAX), Outcome::OsLock);
    assert_eq!(*vcpu.debug.os_lock, 1);
    assert_eq!(vcpu.handle(OSLAR, 0, true), Outcome::Undefined { hidden: true });
    assert_eq!(vcpu.write(OSLSR, 0), Outcome::Undefined { hidden: true });
}

#[test]
fn what_is_an_external_debuggers_is_not_written_while_the_os_lock_is_locked() {
    const MDSCR: u16 = sysreg(2, 0, 0, 2, 2);
    let mut vcpu = Records::new();
    // HDE, TDA and INTdis, which the hardware would take while its own lock is locked.
    assert_eq!(vcpu.write(MDSCR, u64::MAX), Outcome::Done);
    assert_eq!(vcpu.read(MDSCR), 1 | 1 << 12 | 1 << 13 | 1 << 15);
    let breakpoint = |n| sysreg(2, 0, 0, n, 4);
    assert_eq!(vcpu.write(breakpoint(0), 0x1234), Outcome::Done);
    assert_eq!((vcpu.debug.dbgbvr[0], vcpu.read(breakpoint(0))), (0x1234, 0x1234));
    assert_eq!(vcpu.write(breakpoint(15), 1), Outcome::Undefined { hidden: false });
}

#[test]
fn the_double_lock_does_nothing() {
    let mut vcpu = Records::new();
    let osdlr = sysreg(2, 0, 1, 3, 4);
    assert_eq!(vcpu.write(osdlr, 1), Outcome::Done);
    assert_eq!(vcpu.read(osdlr), 0);
}

#[test]
fn the_physical_timer_is_programmed_through_traps() {
    let mut vcpu = Records::new();
    assert_eq!(vcpu.read(CNTPCT), 1000);
    assert_eq!(vcpu.write(CNTP_TVAL, 50), Outcome::TimerChanged);
    assert_eq!(vcpu.read(CNTP_CVAL), 1050);
    assert_eq!(vcpu.write(CNTP_CVAL, 1000), Outcome::TimerChanged);
    assert_eq!(vcpu.write(CNTP_CTL, 1), Outcome::TimerChanged);
    assert_eq!(vcpu.read(CNTP_CTL), 5);
    assert_eq!(vcpu.write(CNTPCT, 1), Outcome::Undefined { hidden: true });
}

#[test]
fn the_zero_register_takes_part() {
    let mut vcpu = Records::new();
    *vcpu.core.x = [9; 31];
    *vcpu.system.cntp_cval_el0 = 4;
    assert_eq!(vcpu.handle(CNTP_CVAL, 31, true), Outcome::Done);
    assert_eq!(*vcpu.core.x, [9; 31]);
    assert_eq!(vcpu.handle(CNTP_CVAL, 31, false), Outcome::TimerChanged);
    assert_eq!(*vcpu.system.cntp_cval_el0, 0);
}

#[test]
fn maintenance_by_set_and_way_cleans_everything() {
    let mut vcpu = Records::new();
    for crm in [6, 10, 14] {
        assert_eq!(vcpu.write(sysreg(1, 0, 7, crm, 2), 0), Outcome::CleanAll);
    }
}

#[test]
fn hidden_features_are_undefined_without_a_report() {
    let mut vcpu = Records::new();
    for encoding in [
        sysreg(3, 3, 9, 12, 0),  // PMCR_EL0
        sysreg(3, 3, 9, 13, 0),  // PMCCNTR_EL0
        sysreg(3, 3, 14, 15, 7), // PMCCFILTR_EL0
        sysreg(3, 0, 9, 14, 1),  // PMINTENSET_EL1
        sysreg(3, 0, 4, 6, 0),   // ICC_PMR_EL1
        sysreg(3, 0, 12, 12, 5), // ICC_SRE_EL1
        sysreg(3, 0, 2, 1, 0),   // APIAKeyLo_EL1
        sysreg(3, 0, 1, 2, 0),   // ZCR_EL1
        sysreg(3, 0, 5, 3, 0),   // ERRIDR_EL1
        sysreg(3, 0, 10, 4, 0),  // LORSA_EL1
        sysreg(2, 1, 0, 0, 1),   // TRCTRACEIDR
        sysreg(3, 0, 9, 9, 0),   // PMSCR_EL1
        sysreg(3, 3, 14, 0, 5),  // CNTPCTSS_EL0
        sysreg(3, 3, 13, 0, 7),  // SCXTNUM_EL0
    ] {
        for is_read in [true, false] {
            assert_eq!(
                vcpu.handle(encoding, 0, is_read),
                Outcome::Undefined { hidden: true },
                "{encoding:#x}"
            );
        }
    }
}

#[test]
fn what_nobody_knows_is_undefined_with_a_report() {
    let mut vcpu = Records::new();
    for encoding in [sysreg(3, 1, 15, 7, 7), sysreg(3, 7, 11, 0, 0), sysreg(1, 3, 7, 4, 1)] {
        let outcome = vcpu.handle(encoding, 0, true);
        assert_eq!(outcome, Outcome::Undefined { hidden: false });
    }
}

#[test]
fn the_geometry_of_the_caches_is_the_cores_own() {
    let mut vcpu = Records::new();
    let (size, levels) = (sysreg(3, 1, 0, 0, 0), sysreg(3, 1, 0, 0, 1));
    let selection = sysreg(3, 2, 0, 0, 0);
    for (encoding, register) in [
        (size, CacheRegister::Size),
        (levels, CacheRegister::Levels),
        (selection, CacheRegister::Selection),
    ] {
        let outcome = vcpu.handle(encoding, 3, true);
        assert_eq!(outcome, Outcome::Cache { register, written: None });
    }
    let written = Outcome::Cache { register: CacheRegister::Selection, written: Some(2) };
    assert_eq!(vcpu.write(selection, 2), written);
    assert_eq!(vcpu.write(levels, 2), Outcome::Undefined { hidden: true });
}

#[test]
fn implementation_defined_registers_of_common_cpus_read_as_zero() {
    let mut vcpu = Records::new();
    // L2CTLR_EL1, CPUECTLR_EL1.
    for encoding in [sysreg(3, 1, 11, 0, 2), sysreg(3, 1, 15, 2, 1)] {
        assert_eq!(vcpu.write(encoding, 0x40), Outcome::Done);
        assert_eq!(vcpu.read(encoding), 0);
    }
    assert_eq!(vcpu.read(sysreg(3, 1, 15, 3, 0)), 0x0800_0000);
}

proptest! {
    #[test]
    fn no_access_panics_or_reaches_beyond_its_register(encoding: u16, rt in 0_u8..32, is_read: bool, value: u64) {
        let mut vcpu = Records::new();
        *vcpu.core.x = [value; 31];
        let outcome = vcpu.handle(encoding, rt, is_read);
        for (index, x) in vcpu.core.x.iter().enumerate() {
            let may_change = outcome == Outcome::Done && is_read && index == usize::from(rt);
            prop_assert!(may_change || *x == value);
        }
    }
}

#[test]
fn what_a_debugger_keeps_from_the_vcpu_is_in_its_record_although_its_os_lock_is_unlocked() {
    const DBGBVR0: u16 = sysreg(2, 0, 0, 0, 4);
    let mut vcpu = Records::new();
    *vcpu.debug.os_lock = 0;
    assert_eq!(vcpu.write(DBGBVR0, 5), Outcome::Undefined { hidden: false });
    vcpu.debug_is_kept = true;
    assert_eq!(vcpu.write(DBGBVR0, 5), Outcome::Done);
    assert_eq!(vcpu.debug.dbgbvr[0], 5);
    assert_eq!(vcpu.read(DBGBVR0), 5);
}
