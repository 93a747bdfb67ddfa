//! A vCPU's registers, by the ids of KVM_GET_ONE_REG and KVM_SET_ONE_REG (Linux,
//! Documentation/virt/kvm/api.rst, 4.68).
//!
//! [`each`] goes over the registers of a vCPU's records in place. So the one list of them, which is
//! the format's, serves for both directions.

use zerocopy::IntoBytes;

use stasis_state::VcpuState;
use stasis_state::register::{Descriptor, Record, VALUE_OFFSET};
use stasis_state::vcpu::sysreg;

use crate::sysreg::Sysreg;

/// KVM_REG_ARM64, and the sizes KVM_REG_SIZE_U32, U64 and U128.
const ARM64: u64 = 0x6000_0000_0000_0000;
const U32: u64 = 0x0020_0000_0000_0000;
const U64: u64 = 0x0030_0000_0000_0000;
const U128: u64 = 0x0040_0000_0000_0000;
/// KVM_REG_ARM_CORE: the offset of a field in `struct kvm_regs`, in words of 32 bits.
const CORE: u64 = 0x0010_0000;
/// KVM_REG_ARM64_SYSREG: the encoding of the register's MRS and MSR instructions.
const SYSREG: u64 = 0x0013_0000;

/// KVM_REG_ARM_TIMER_CNT: CNTVCT_EL0 of the whole machine, which runs on while its vCPUs stand. The
/// id is the encoding of CNTV_CVAL_EL0.
pub const COUNTER: u64 = sysreg_id(sysreg(3, 3, 14, 3, 2));
/// KVM_REG_ARM_PTIMER_CNT: CNTPCT_EL0 of the whole machine.
pub const PHYSICAL_COUNTER: u64 = sysreg_id(sysreg(3, 3, 14, 0, 1));
/// The encoding of CNTV_CVAL_EL0, and its id, KVM_REG_ARM_TIMER_CVAL: the encoding in that is the
/// one of CNTVCT_EL0.
const CNTV_CVAL: (u16, u64) = (sysreg(3, 3, 14, 3, 2), sysreg_id(sysreg(3, 3, 14, 0, 2)));
/// The encoding of ACTLR_EL1.
const ACTLR: u16 = sysreg(3, 0, 1, 0, 1);
/// KVM_REG_ARM_PTIMER_CTL and KVM_REG_ARM_PTIMER_CVAL: CNTP_CTL_EL0 and CNTP_CVAL_EL0, which Linux
/// 6.1 has not.
pub const PHYSICAL_TIMER: [u64; 2] =
    [sysreg_id(sysreg(3, 3, 14, 2, 1)), sysreg_id(sysreg(3, 3, 14, 2, 2))];
/// Offsets of the fields of `struct kvm_regs`, in bytes.
mod offset {
    pub const X: u64 = 0;
    pub const SP: u64 = 248;
    pub const PC: u64 = 256;
    pub const PSTATE: u64 = 264;
    pub const SP_EL1: u64 = 272;
    pub const ELR_EL1: u64 = 280;
    /// `spsr[5]`: of EL1, abort, undefined, IRQ, FIQ.
    pub const SPSR: u64 = 288;
    pub const V: u64 = 336;
    pub const FPSR: u64 = 848;
    pub const FPCR: u64 = 852;
}

/// A register of KVM's, and its value in the record that has it.
#[derive(Debug)]
pub struct Register<'a> {
    /// The id for KVM_GET_ONE_REG and KVM_SET_ONE_REG.
    pub id: u64,
    /// The name in `docs/format.md`, in lower case; that of the whole array for its elements.
    pub name: &'static str,
    /// The value, little-endian: 4, 8 or 16 bytes.
    pub value: &'a mut [u8],
}

/// Calls `visit` with each register of a vCPU that KVM has, except for its power state, until
/// `visit` fails. What `visit` makes of a value is in the record afterwards. ACTLR_EL1 is left out:
/// it is no guest's own.
///
/// # Errors
///
/// The error of `visit`.
pub fn each<E>(
    vcpu: &mut VcpuState,
    visit: &mut dyn FnMut(Register<'_>) -> Result<(), E>,
) -> Result<(), E> {
    record(&mut vcpu.core, visit, |register, n| match register.name {
        "x" => Some(core(U64, offset::X + 8 * n)),
        "pc" => Some(core(U64, offset::PC)),
        "pstate" => Some(core(U64, offset::PSTATE)),
        _ => None,
    })?;
    record(&mut vcpu.system, visit, |register, _| special(register))?;
    record(&mut vcpu.fp, visit, |register, n| match register.name {
        "v" => Some(core(U128, offset::V + 16 * n)),
        "fpsr" => Some(core(U32, offset::FPSR)),
        "fpcr" => Some(core(U32, offset::FPCR)),
        _ => None,
    })?;
    for register in Sysreg::all().filter(|register| register.encoding != ACTLR) {
        let mut value = register.get(vcpu);
        let id = if register.encoding == CNTV_CVAL.0 {
            CNTV_CVAL.1
        } else {
            sysreg_id(register.encoding)
        };
        visit(Register { id, name: register.name, value: value.as_mut_bytes() })?;
        register.set(vcpu, value);
    }
    Ok(())
}

/// Visits the registers of a record, for each element of which `id` tells KVM's id.
fn record<R: Record, E>(
    record: &mut R,
    visit: &mut dyn FnMut(Register<'_>) -> Result<(), E>,
    id: impl Fn(&Descriptor, u64) -> Option<u64>,
) -> Result<(), E> {
    let bytes = record.as_mut_bytes();
    for register in R::REGISTERS {
        let width = usize::from(register.shape.width);
        for n in 0..register.shape.count {
            let Some(id) = id(register, n.into()) else { continue };
            let start = register.offset + VALUE_OFFSET + usize::from(n) * width;
            visit(Register { id, name: register.name, value: &mut bytes[start..][..width] })?;
        }
    }
    Ok(())
}

/// Returns the id of a special register, which is in `struct kvm_regs`.
fn special(register: &Descriptor) -> Option<u64> {
    let spsr = |n: u64| core(U64, offset::SPSR + 8 * n);
    Some(match register.name {
        "sp_el0" => core(U64, offset::SP),
        "sp_el1" => core(U64, offset::SP_EL1),
        "elr_el1" => core(U64, offset::ELR_EL1),
        "spsr_el1" => spsr(0),
        "spsr_abt" => spsr(1),
        "spsr_und" => spsr(2),
        "spsr_irq" => spsr(3),
        "spsr_fiq" => spsr(4),
        _ => return None,
    })
}

/// Returns the id of the field of `struct kvm_regs` at `offset` bytes.
const fn core(size: u64, offset: u64) -> u64 {
    let words = offset / 4;
    ARM64 | size | CORE | words
}

/// Returns the id of the system register with this encoding.
pub const fn sysreg_id(encoding: u16) -> u64 {
    ARM64 | U64 | SYSREG | encoding as u64
}

/// Returns the registers with which a vCPU is entered. KVM knows neither of the states between on
/// and off: a vCPU that CPU_ON was called for, or that sleeps in CPU_SUSPEND, is one at reset that
/// begins at its entry.
pub fn entered(vcpu: &VcpuState) -> VcpuState {
    use stasis_state::vcpu::PowerState::{OnPending, Suspended};
    let state = *vcpu.power.state;
    if state != OnPending as u8 && state != Suspended as u8 {
        return vcpu.clone();
    }
    let mut entered = VcpuState {
        identity: vcpu.identity.clone(),
        cpu_interface: vcpu.cpu_interface.clone(),
        ..VcpuState::default()
    };
    *entered.core.pc = *vcpu.power.entry;
    entered.core.x[0] = *vcpu.power.context_id;
    *entered.core.pstate = PSTATE_AT_RESET;
    entered
}

/// PSTATE of a vCPU at reset: EL1h, with D, A, I and F masked.
const PSTATE_AT_RESET: u64 = 0x3c5;

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use core::convert::Infallible;

    use stasis_state::vcpu::{Core, Debug, FpSimd, SystemRegisters};

    use super::*;

    fn ids(vcpu: &mut VcpuState) -> BTreeMap<u64, (&'static str, usize)> {
        let mut ids = BTreeMap::new();
        let visited = each::<Infallible>(vcpu, &mut |Register { id, name, value }| {
            assert_eq!(ids.insert(id, (name, value.len())), None, "{name} is there twice");
            Ok(())
        });
        visited.unwrap();
        ids
    }

    #[test]
    fn each_register_of_the_format_but_one_has_an_id_of_its_own_and_of_its_size() {
        let ids = ids(&mut VcpuState::default());
        let tables =
            [Core::REGISTERS, SystemRegisters::REGISTERS, FpSimd::REGISTERS, Debug::REGISTERS];
        let elements = tables.concat().iter().map(|r| usize::from(r.shape.count)).sum::<usize>();
        assert_eq!(ids.len(), elements - 1, "actlr_el1 is left out");
        for (id, (name, len)) in ids {
            assert_eq!(1 << (id >> 52 & 0xf), len, "{name}: {id:#x}");
        }
    }

    /// The ids are those that `tools/testing/selftests/kvm/aarch64/get-reg-list.c` of Linux has.
    #[test]
    fn the_ids_are_those_of_linux() {
        let ids = ids(&mut VcpuState::default());
        for (id, name) in [
            (0x6030_0000_0010_0000, "x"),
            (0x6030_0000_0010_003e, "sp_el0"),
            (0x6030_0000_0010_0040, "pc"),
            (0x6030_0000_0010_0042, "pstate"),
            (0x6030_0000_0010_0044, "sp_el1"),
            (0x6030_0000_0010_004a, "spsr_abt"),
            (0x6040_0000_0010_0054, "v"),
            (0x6020_0000_0010_00d4, "fpsr"),
            (0x6020_0000_0010_00d5, "fpcr"),
            (0x6030_0000_0013_c080, "sctlr_el1"),
            (0x6030_0000_0013_df02, "cntv_cval_el0"),
            (0x6030_0000_0013_df19, "cntv_ctl_el0"),
            (0x6030_0000_0013_807c, "dbgbvr"),
            (0x6030_0000_0013_808c, "os_lock"),
        ] {
            assert_eq!(ids.get(&id).map(|(name, _)| *name), Some(name), "{id:#x}");
        }
        assert_eq!(COUNTER, 0x6030_0000_0013_df1a);
        assert_eq!(PHYSICAL_COUNTER, 0x6030_0000_0013_df01);
    }

    #[test]
    fn what_a_visitor_writes_is_in_the_records() {
        let mut vcpu = VcpuState::default();
        let written = each::<Infallible>(&mut vcpu, &mut |Register { name, value, .. }| {
            value.fill(if name == "os_lock" { 0 } else { 0x5a });
            Ok(())
        });
        written.unwrap();
        assert_eq!((*vcpu.core.pc, vcpu.core.x[30]), (0x5a5a_5a5a_5a5a_5a5a, *vcpu.core.pc));
        assert_eq!((*vcpu.fp.fpcr, vcpu.debug.dbgwcr[15]), (0x5a5a_5a5a, *vcpu.core.pc));
        assert_eq!((*vcpu.debug.os_lock, *vcpu.system.actlr_el1), (0, 0));
    }

    #[test]
    fn a_vcpu_that_was_called_on_begins_at_its_entry() {
        let mut vcpu = VcpuState::default();
        vcpu.core.x[7] = 7;
        assert_eq!(entered(&vcpu), vcpu);
        *vcpu.power.state = stasis_state::vcpu::PowerState::OnPending as u8;
        (*vcpu.power.entry, *vcpu.power.context_id) = (0x4008_0000, 9);
        let entered = entered(&vcpu);
        assert_eq!((*entered.core.pc, entered.core.x[0], entered.core.x[7]), (0x4008_0000, 9, 0));
        assert_eq!(*entered.power.state, 0);
    }
}
