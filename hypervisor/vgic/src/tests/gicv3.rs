//! What passes the seam in the registers of a GICv3 (IHI 0069, ICH_*_EL2), there and back. There is
//! no GICv3 here: this shows that its registers have room for each value, with nothing lost and
//! nothing to be guessed. [`super::hardware`] sends all through that the other tests write.

use tock_registers::register_bitfields;

use crate::{ActivePriorities, CTLR_MASK, Control, ListRegister, MachineControl, Origin, State};

register_bitfields! { u64,
    ICH_HCR_EL2 [
        En OFFSET(0) NUMBITS(1) [],
        LRENPIE OFFSET(2) NUMBITS(1) [],
        NPIE OFFSET(3) NUMBITS(1) []
    ],
    ICH_VMCR_EL2 [
        /// VENG0, VENG1, VAckCtl, VFIQEn and VCBPR, VEOIM: as in GICC_CTLR.
        Control OFFSET(0) NUMBITS(10) [],
        VBPR1 OFFSET(18) NUMBITS(3) [],
        VBPR0 OFFSET(21) NUMBITS(3) [],
        VPMR OFFSET(24) NUMBITS(8) []
    ],
    ICH_LR_EL2 [
        INTID OFFSET(0) NUMBITS(10) [],
        /// Bits 12:10 of vINTID, for a guest with a memory-mapped CPU interface: the source of an
        /// SGI.
        Source OFFSET(10) NUMBITS(3) [],
        /// The physical INTID, with HW = 1.
        PINTID OFFSET(32) NUMBITS(13) [],
        /// The request for a maintenance interrupt, with HW = 0.
        EOI OFFSET(41) NUMBITS(1) [],
        Priority OFFSET(48) NUMBITS(8) [],
        Group OFFSET(60) NUMBITS(1) [],
        HW OFFSET(61) NUMBITS(1) [],
        State OFFSET(62) NUMBITS(2) []
    ]
}

pub fn list_register(value: ListRegister) -> u64 {
    let origin = match value.origin {
        Origin::Software { source, maintenance } => {
            ICH_LR_EL2::Source.val(source.into()) + ICH_LR_EL2::EOI.val(maintenance.into())
        }
        Origin::Hardware { physical } => {
            ICH_LR_EL2::PINTID.val(physical.into()) + ICH_LR_EL2::HW::SET
        }
    };
    let fields = ICH_LR_EL2::INTID.val(value.intid.into())
        + ICH_LR_EL2::Priority.val(value.priority.into())
        + ICH_LR_EL2::Group.val(value.group1.into())
        + ICH_LR_EL2::State.val(value.state.bits().into())
        + origin;
    fields.value
}

pub fn list_register_of(lr: u64) -> ListRegister {
    let origin = if ICH_LR_EL2::HW.is_set(lr) {
        Origin::Hardware { physical: ICH_LR_EL2::PINTID.read(lr) as u16 }
    } else {
        Origin::Software {
            source: ICH_LR_EL2::Source.read(lr) as u8,
            maintenance: ICH_LR_EL2::EOI.is_set(lr),
        }
    };
    ListRegister {
        intid: ICH_LR_EL2::INTID.read(lr) as u16,
        priority: ICH_LR_EL2::Priority.read(lr) as u8,
        group1: ICH_LR_EL2::Group.is_set(lr),
        state: State::from_bits(ICH_LR_EL2::State.read(lr) as u32),
        origin,
    }
}

pub fn hcr(control: Control) -> u64 {
    let fields = ICH_HCR_EL2::En.val(control.is_on().into())
        + ICH_HCR_EL2::LRENPIE.val(control.tells_unlisted_ends().into())
        + ICH_HCR_EL2::NPIE.val(control.tells_none_pending().into());
    fields.value
}

pub fn control_of(hcr: u64) -> Control {
    match ICH_HCR_EL2::En.is_set(hcr) {
        true => Control::on(ICH_HCR_EL2::NPIE.is_set(hcr), ICH_HCR_EL2::LRENPIE.is_set(hcr)),
        false => Control::OFF,
    }
}

pub fn vmcr(control: MachineControl) -> u64 {
    let fields = ICH_VMCR_EL2::Control.val(control.ctlr.into())
        + ICH_VMCR_EL2::VPMR.val(control.priority_mask.into())
        + ICH_VMCR_EL2::VBPR0.val(control.binary_point.into())
        + ICH_VMCR_EL2::VBPR1.val(control.group1_binary_point.into());
    fields.value
}

pub fn machine_control_of(vmcr: u64) -> MachineControl {
    MachineControl {
        ctlr: ICH_VMCR_EL2::Control.read(vmcr) as u32 & CTLR_MASK,
        priority_mask: ICH_VMCR_EL2::VPMR.read(vmcr) as u8,
        binary_point: ICH_VMCR_EL2::VBPR0.read(vmcr) as u8,
        group1_binary_point: ICH_VMCR_EL2::VBPR1.read(vmcr) as u8,
    }
}

/// Returns ICH_AP1R<n>_EL2, which have a bit for each group priority of `preemption_bits` bits, 5
/// to 7.
pub fn ap1r(active: ActivePriorities, preemption_bits: u32) -> [u32; 4] {
    let mut registers = [0; 4];
    for level in (0..32).filter(|level| active.0 >> level & 1 != 0) {
        let bit = level << (preemption_bits - 5);
        registers[bit / 32] |= 1 << (bit % 32);
    }
    registers
}

pub fn active_priorities_of(registers: [u32; 4], preemption_bits: u32) -> ActivePriorities {
    let bit = |level: usize| level << (preemption_bits - 5);
    let active = |level: &usize| registers[bit(*level) / 32] >> (bit(*level) % 32) & 1 != 0;
    ActivePriorities((0..32).filter(active).map(|level| 1 << level).sum())
}

#[test]
fn a_list_register_of_a_gicv3_is_what_the_manual_draws() {
    let sgi = ListRegister {
        intid: 5,
        priority: 0xa0,
        group1: true,
        state: State::PendingAndActive,
        origin: Origin::Software { source: 7, maintenance: true },
    };
    assert_eq!(list_register(sgi), 0xd0a0_0200_0000_1c05);
    let timer = ListRegister {
        intid: 27,
        priority: 0xf8,
        group1: false,
        state: State::Active,
        origin: Origin::Hardware { physical: 1019 },
    };
    assert_eq!(list_register(timer), 0xa0f8_03fb_0000_001b);
    let control = MachineControl {
        ctlr: 0x201,
        priority_mask: 0xf0,
        binary_point: 2,
        group1_binary_point: 5,
    };
    assert_eq!(vmcr(control), 0xf054_0201);
    assert_eq!(ap1r(ActivePriorities(1 << 20), 7), [0, 0, 1 << 16, 0]);
}
