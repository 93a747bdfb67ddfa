//! To QEMU's section and back.

use stasis_state::GuestState;
use zerocopy::{FromBytes, FromZeros};

use super::*;
use crate::qemu::section::{ArmGic, IDLE, NO_INTERRUPT};
use crate::qemu::{Decoded, Machine, decode, encode};
use crate::{Error, Unknown};

fn back(state: &Vgic, backend: Backend) -> Decoded {
    let section = encode(state, backend).section;
    decode(&section, Machine::of(&state.distributor), backend).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_comes_back_from_qemu_is_the_state_with_its_losses(state in any_state()) {
        for backend in BACKENDS {
            let encoded = encode(&state, backend);
            let machine = Machine::of(&state.distributor);
            let decoded = decode(&encoded.section, machine, backend).unwrap();
            prop_assert_eq!(&decoded.vgic, &after(&state, &encoded.losses));
            prop_assert_eq!(&decoded.losses, &[]);
            prop_assert_eq!(&encode(&decoded.vgic, backend).losses, &[]);
        }
    }

    #[test]
    fn any_section_is_read_or_refused(
        bytes in vec(any::<u8>(), size_of::<ArmGic>()),
        prio_bits in 4..=8u8,
        nr_cpus in 1..=8u8,
    ) {
        let mut section = ArmGic::read_from_bytes(&bytes).unwrap();
        for cpu in 0..8 {
            section.priority_mask[cpu] = (section.priority_mask[cpu].get() & 0x1f).into();
            section.bpr[cpu] &= 7;
            section.abpr[cpu] &= 7;
        }
        let machine = Machine { nr_irqs: 1020, prio_bits, ..Machine::virt(nr_cpus) };
        for backend in BACKENDS {
            let decoded = decode(&section, machine, backend).unwrap();
            check(&decoded.vgic);
            let encoded = encode(&decoded.vgic, backend);
            let again = decode(&encoded.section, machine, backend).unwrap();
            prop_assert_eq!(&again.vgic, &after(&decoded.vgic, &encoded.losses));
        }
    }
}

#[test]
fn a_priority_mask_of_0xf0_depends_on_the_back_end() {
    let mut state = machine();
    *state.cpus[2].cc_pmr = 0xf0;
    for (backend, raw) in [(Backend::Tcg, 0xf0), (Backend::Kvm, 0x1e)] {
        let section = encode(&state, backend).section;
        assert_eq!(section.priority_mask[2].get(), raw);
        assert_eq!(*back(&state, backend).vgic.cpus[2].cc_pmr, 0xf0);
    }
}

#[test]
fn with_kvm_a_raw_priority_mask_is_refused() {
    let mut state = machine();
    *state.cpus[2].cc_pmr = 0xf0;
    let section = encode(&state, Backend::Tcg).section;
    let error = Error::Field { what: "priority_mask", cpu: 2, found: 0xf0 };
    assert_eq!(decode(&section, Machine::virt(4), Backend::Kvm), Err(error));
}

#[test]
fn an_active_interrupt_of_priority_0xa0_has_bit_80_or_bit_20() {
    let mut state = machine();
    activate(&mut state, 33, 0xa0, 1);
    let section = encode(&state, Backend::Tcg).section;
    assert_eq!([0, 1, 2, 3].map(|n| section.apr[n][1].get()), [0, 0, 1 << 16, 0]);
    assert_eq!(section.running_priority[1].get(), 0xa0);
    assert_eq!(section.running_priority[0].get(), IDLE);
    let section = encode(&state, Backend::Kvm).section;
    assert_eq!([0, 1, 2, 3].map(|n| section.apr[n][1].get()), [1 << 20, 0, 0, 0]);
    for backend in BACKENDS {
        assert_eq!(*back(&state, backend).vgic.cpus[1].cc_apr, [0, 0, 1 << 16, 0]);
    }
}

#[test]
fn an_active_priority_of_group_1_goes_where_qemu_drops_it() {
    let mut state = machine();
    activate(&mut state, 33, 0xa0, 1);
    state.set_bit(Bits::Group, Interrupt::Shared { intid: 33 }, true);
    let section = encode(&state, Backend::Tcg).section;
    assert_eq!((section.apr[2][1].get(), section.nsapr[2][1].get()), (0, 1 << 16));
    assert_eq!(section.running_priority[1].get(), 0xa0);
    assert_eq!(*back(&state, Backend::Tcg).vgic.cpus[1].cc_apr, [0, 0, 1 << 16, 0]);
}

#[test]
fn qemu_forgets_that_an_active_sgi_came_from_vcpu_3() {
    let mut state = machine();
    *state.cpus[1].priv_active = 1 << 7;
    state.cpus[1].sgi_active_src[7] = 3;
    state.cpus[1].sgi_src[7] = 0b0101;
    for backend in BACKENDS {
        let encoded = encode(&state, backend);
        assert!(encoded.losses.contains(&Loss::ActiveSource { vcpu: 1, sgi: 7, from: 3 }));
        assert_eq!(encoded.section.sgi_pending[7][1], 0b0101);
        assert_eq!(encoded.section.irq_state[7].pending, 0b0010);
        assert_eq!(encoded.section.irq_state[7].active, 0b0010);
        let decoded = back(&state, backend);
        assert_eq!(decoded.vgic.cpus[1].sgi_src[7], 0b0101);
        assert_eq!(decoded.vgic.cpus[1].sgi_active_src[7], 0);
        assert!(decoded.unknowns.contains(&Unknown::ActiveSource { vcpu: 1, sgi: 7 }));
    }
}

#[test]
fn qemu_keeps_the_holder_of_an_spi_but_with_kvm_it_does_not() {
    let mut state = machine();
    state.distributor.spi_targets[8] = 0b0110;
    activate(&mut state, 40, 0xa0, 3);
    let spi = Interrupt::Shared { intid: 40 };
    let tcg = encode(&state, Backend::Tcg);
    assert_eq!((tcg.section.irq_state[40].active, tcg.losses.as_slice()), (0b1000, &[][..]));
    assert_eq!(back(&state, Backend::Tcg).vgic.holder(spi), Some(3));
    let kvm = encode(&state, Backend::Kvm);
    assert_eq!(kvm.section.irq_state[40].active, 0xff);
    assert!(kvm.losses.contains(&Loss::Holder { intid: 40, holder: 3, becomes: 1 }));
    let decoded = back(&state, Backend::Kvm);
    assert_eq!(decoded.vgic.holder(spi), Some(1));
    assert!(decoded.unknowns.contains(&Unknown::Holder { intid: 40, assumed: 1 }));
}

#[test]
fn what_qemu_derives_is_what_it_would_derive() {
    let mut state = machine();
    let spi = Interrupt::Shared { intid: 33 };
    state.set_bit(Bits::Enable, spi, true);
    state.set_bit(Bits::Level, spi, true);
    state.set_priority(spi, 0xa0);
    state.distributor.spi_targets[1] = 0b0010;
    *state.cpus[1].cc_pmr = 0xf0;
    let pending =
        |state: &Vgic| encode(state, Backend::Tcg).section.current_pending.map(|n| n.get());
    assert_eq!(pending(&state), [NO_INTERRUPT; 8], "the interfaces are disabled");
    *state.distributor.ctlr = 1;
    *state.cpus[1].cc_ctlr = 1;
    assert_eq!(pending(&state)[1], 33);
    state.cpus[1].sgi_src[4] = 1;
    assert_eq!(pending(&state)[1], 4, "its priority is 0");
    *state.cpus[1].priv_active = 1 << 4;
    assert_eq!(pending(&state)[1], 33);
    *state.cpus[1].cc_pmr = 0xa0;
    assert_eq!(pending(&state)[1], NO_INTERRUPT);
}

#[test]
fn a_latched_spi_without_targets_stays_latched() {
    let mut state = machine();
    let spi = Interrupt::Shared { intid: 50 };
    state.set_bit(Bits::Latch, spi, true);
    for backend in BACKENDS {
        assert!(back(&state, backend).vgic.bit(Bits::Latch, spi));
    }
}

#[test]
fn qemus_extra_priority_bits_are_lost_in_words() {
    let mut section = ArmGic::new_zeroed();
    section.priority2[1] = 0xa4;
    section.priority_mask[0] = 0xff.into();
    let losses = decode(&section, Machine::virt(1), Backend::Tcg).unwrap().losses;
    let words: Vec<_> = losses.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "interrupt 33 has priority 0xa4, but will have 0xa0",
            "vCPU 0: GICC_PMR is 0xff but will be 0xf8",
            "vCPU 0: GICC_BPR is 0 but will be 2",
            "vCPU 0: GICC_ABPR is 0 but will be 3",
        ]
    );
    let machine = Machine { prio_bits: 8, ..Machine::virt(1) };
    let decoded = decode(&section, machine, Backend::Tcg).unwrap();
    assert_eq!(decoded.vgic.priority(Interrupt::Shared { intid: 33 }), 0xa4);
}

#[test]
fn an_interrupt_beyond_the_machine_is_named() {
    let mut section = ArmGic::new_zeroed();
    section.irq_state[300].enabled = 0xff;
    let error = Error::NoSuchInterrupt { intid: 300, nr_irqs: 288 };
    assert_eq!(decode(&section, Machine::virt(1), Backend::Tcg), Err(error));
}

#[test]
fn a_timer_that_came_due_before_the_stop_has_its_line_high() {
    let mut guest = GuestState::reset(1);
    *guest.clock.cntvct = 1000;
    (*guest.vcpus[0].system.cntv_ctl_el0, *guest.vcpus[0].system.cntv_cval_el0) = (1, 1000);
    (*guest.vcpus[0].system.cntp_ctl_el0, *guest.vcpus[0].system.cntp_cval_el0) = (1, 1001);
    *guest.vcpus[0].cpu_interface.priv_level = 1 << 30;
    let section = encode(&Vgic::settled(&guest), Backend::Tcg).section;
    assert_eq!([27, 30].map(|intid| section.irq_state[intid].level), [1, 0]);
}

#[test]
fn what_one_cpu_can_not_see_is_no_loss_to_tell() {
    let mut state = Vgic::new(288, 1);
    state.distributor.spi_targets[1] = 1;
    let losses = encode(&state, Backend::Tcg).losses;
    assert!(losses.contains(&Loss::Targets { intid: 33, found: 1 }));
    assert!(
        !losses.iter().any(|loss| matches!(loss, Loss::Targets { .. }) && loss.is_observable())
    );
}
