//! GICv2's encoding of the values that pass the vGIC's seam: the registers of GICH, IHI 0048B.b
//! 5.3. Nothing is decided here.

use core::fmt;

use stasis_vgic::{CTLR_MASK, Control, Filled, ListRegister, MachineControl, Origin, State};
use tock_registers::fields::FieldValue;
use tock_registers::register_bitfields;

register_bitfields! { u32,
    /// Hypervisor Control Register.
    pub(super) GICH_HCR [
        En OFFSET(0) NUMBITS(1) [],
        /// Maintenance interrupt at an EOI for an interrupt that is in no list register.
        LRENPIE OFFSET(2) NUMBITS(1) [],
        /// Maintenance interrupt while no list register is pending.
        NPIE OFFSET(3) NUMBITS(1) [],
        EOICount OFFSET(27) NUMBITS(5) []
    ],
    /// Virtual Machine Control Register.
    pub(super) GICH_VMCR [
        /// GICV_CTLR, in its own layout.
        VMCtlr OFFSET(0) NUMBITS(10) [],
        VMABP OFFSET(18) NUMBITS(3) [],
        VMBP OFFSET(21) NUMBITS(3) [],
        VMPriMask OFFSET(27) NUMBITS(5) []
    ],
    /// List Registers.
    pub(super) GICH_LR [
        VirtualID OFFSET(0) NUMBITS(10) [],
        /// With HW = 0, bits 2 to 0 are the source of an SGI (CPUID), and [`EOI`] is another.
        PhysicalID OFFSET(10) NUMBITS(10) [],
        Priority OFFSET(23) NUMBITS(5) [],
        /// Bit 0: pending; bit 1: active.
        State OFFSET(28) NUMBITS(2) [],
        Grp1 OFFSET(30) NUMBITS(1) [],
        HW OFFSET(31) NUMBITS(1) []
    ]
}

/// Bit of `GICH_LR<n>.PhysicalID` with HW = 0: maintenance interrupt at the deactivation.
const EOI: u32 = 1 << 9;

/// Returns the value of `GICH_LR<n>` that encodes `value`.
#[inline(always)]
pub(super) fn list_register(value: ListRegister) -> FieldValue<u32, GICH_LR::Register> {
    let (is_hardware, physical_id) = match value.origin {
        Origin::Software { source, maintenance } => {
            (0, u32::from(source) | if maintenance { EOI } else { 0 })
        }
        Origin::Hardware { physical } => (1, physical.into()),
    };
    GICH_LR::VirtualID.val(value.intid.into())
        + GICH_LR::Priority.val(u32::from(value.priority) >> 3)
        + GICH_LR::State.val(value.state.bits())
        + GICH_LR::Grp1.val(value.group1.into())
        + GICH_LR::PhysicalID.val(physical_id)
        + GICH_LR::HW.val(is_hardware)
}

/// Returns the state that `GICH_LR<n>.State` encodes.
#[inline(always)]
pub(super) const fn state(field: u32) -> State {
    State::from_bits(field)
}

/// Returns the value of GICH_HCR that encodes `control`, with EOICount 0.
#[inline(always)]
pub(super) fn hcr(control: Control) -> FieldValue<u32, GICH_HCR::Register> {
    GICH_HCR::En.val(control.is_on().into())
        + GICH_HCR::LRENPIE.val(control.tells_unlisted_ends().into())
        + GICH_HCR::NPIE.val(control.tells_none_pending().into())
        + GICH_HCR::EOICount.val(0)
}

/// Returns the value of GICH_VMCR that encodes `control`.
#[inline(always)]
pub(super) fn vmcr(control: MachineControl) -> FieldValue<u32, GICH_VMCR::Register> {
    GICH_VMCR::VMCtlr.val(control.ctlr)
        + GICH_VMCR::VMPriMask.val(u32::from(control.priority_mask) >> 3)
        + GICH_VMCR::VMBP.val(control.binary_point.into())
        + GICH_VMCR::VMABP.val(control.group1_binary_point.into())
}

/// Returns what a value of GICH_VMCR encodes.
#[inline(always)]
pub(super) fn machine_control(vmcr: u32) -> MachineControl {
    MachineControl {
        ctlr: GICH_VMCR::VMCtlr.read(vmcr) & CTLR_MASK,
        priority_mask: (GICH_VMCR::VMPriMask.read(vmcr) << 3) as u8,
        binary_point: GICH_VMCR::VMBP.read(vmcr) as u8,
        group1_binary_point: GICH_VMCR::VMABP.read(vmcr) as u8,
    }
}

/// Writes GICH_HCR and each `GICH_LR<n>` of `filled` in hexadecimal, for people.
pub fn write_filled(filled: Filled<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "GICH_HCR {:#04x}, LR", hcr(filled.control).value)?;
    filled.list_registers().try_for_each(|value| write!(f, " {:08x}", list_register(value).value))
}

#[cfg(test)]
mod tests {
    use stasis_vgic::{Packed, PackedControl};

    use super::*;

    /// The bits of `GICH_LR<n>` that are not reserved.
    const IMPLEMENTED: u32 = 0xff8f_ffff;

    /// Decodes `GICH_LR<n>` by the numbers of its bits.
    fn decoded(lr: u32) -> ListRegister {
        let bits = |first: u32, count: u32| lr >> first & ((1 << count) - 1);
        let origin = match bits(31, 1) {
            0 => Origin::Software { source: bits(10, 3) as u8, maintenance: bits(19, 1) != 0 },
            _ => Origin::Hardware { physical: bits(10, 10) as u16 },
        };
        let state = [State::Inactive, State::Pending, State::Active, State::PendingAndActive];
        ListRegister {
            intid: bits(0, 10) as u16,
            priority: (bits(23, 5) << 3) as u8,
            group1: bits(30, 1) != 0,
            state: state[bits(28, 2) as usize],
            origin,
        }
    }

    #[test]
    fn a_list_register_is_what_the_manual_draws() {
        let software = |source, maintenance| Origin::Software { source, maintenance };
        for (value, lr) in [
            (ListRegister::EMPTY, 0),
            (
                ListRegister {
                    intid: 5,
                    priority: 0xa0,
                    group1: false,
                    state: State::Pending,
                    origin: software(7, true),
                },
                0x1a08_1c05,
            ),
            (
                ListRegister {
                    intid: 1019,
                    priority: 0xf8,
                    group1: true,
                    state: State::PendingAndActive,
                    origin: software(0, false),
                },
                0x7f80_03fb,
            ),
            (
                ListRegister {
                    intid: 27,
                    priority: 0,
                    group1: false,
                    state: State::Active,
                    origin: Origin::Hardware { physical: 1019 },
                },
                0xa00f_ec1b,
            ),
        ] {
            assert_eq!(list_register(value).value, lr, "{value:?}");
        }
    }

    #[test]
    fn every_list_register_is_decoded_to_what_was_encoded() {
        // Each of three parts takes all of its values, or under Miri some, while the bits of the
        // others are 0, and while they are 1.
        let step = if cfg!(miri) { 61 } else { 1 };
        for (first, count) in [(0, 10), (10, 10), (23, 9)] {
            let part = ((1 << count) - 1) << first;
            for value in (0..1u32 << count).step_by(step).map(|value| value << first) {
                for others in [0, IMPLEMENTED & !part] {
                    let lr = value | others;
                    // Bits 13 to 18 are reserved with HW = 0.
                    let lr = if lr >> 31 == 0 { lr & !(0x3f << 13) } else { lr };
                    assert_eq!(list_register(decoded(lr)).value, lr, "{lr:#010x}");
                    assert_eq!(Packed::new(decoded(lr)).bits(), lr, "{lr:#010x}");
                    assert_eq!(state(GICH_LR::State.read(lr)), decoded(lr).state);
                }
            }
        }
    }

    #[test]
    fn the_machine_control_is_what_the_manual_draws() {
        let control = MachineControl {
            ctlr: 0x201,
            priority_mask: 0xf0,
            binary_point: 2,
            group1_binary_point: 5,
        };
        assert_eq!(vmcr(control).value, 0xf054_0201);
        let step = if cfg!(miri) { 0x400_f0f1 } else { 0x10_0f0f };
        for vmcr_value in (0..=u32::MAX).step_by(step) {
            let expected = vmcr_value & 0xf8fc_021f;
            assert_eq!(vmcr(machine_control(vmcr_value)).value, expected, "{vmcr_value:#x}");
            let packed = PackedControl::from_bits(vmcr_value);
            assert_eq!(packed.bits(), expected, "{vmcr_value:#x}");
            assert_eq!(packed.unpack(), machine_control(vmcr_value), "{vmcr_value:#x}");
            assert_eq!(PackedControl::new(machine_control(vmcr_value)), packed, "{vmcr_value:#x}");
        }
    }

    #[test]
    fn the_control_register_asks_for_what_it_is_told() {
        for (control, value) in [
            (Control::OFF, 0),
            (Control::on(false, false), 1),
            (Control::on(false, true), 1 | 1 << 2),
            (Control::on(true, false), 1 | 1 << 3),
            (Control::on(true, true), 1 | 1 << 2 | 1 << 3),
        ] {
            let hcr = hcr(control);
            assert_eq!((hcr.value, hcr.modify(0xf800_0000)), (value, value), "{control:?}");
        }
    }
}
