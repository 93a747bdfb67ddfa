//! Vectors, round trips, and bad input.

mod accelerated;
mod hostile;
mod kernel;
mod kvm;
mod qemu;
mod ram;
mod stream;
mod virtio;
mod whole;

use proptest::collection::vec;
use proptest::prelude::*;
use stasis_state::{GuestState, invariants};

use crate::sample::{Shape, state};
use crate::vgic::{Bits, Interrupt, Vgic};
use crate::{Loss, qemu::Backend};

/// Returns any state that the format allows, of a machine with 64 to 1020 INTIDs.
fn any_state() -> impl Strategy<Value = Vgic> {
    let nr_irqs = prop_oneof![Just(64u16), Just(288), Just(992), Just(1020)];
    (nr_irqs, 1..=8usize, 4..=8u8, vec(any::<u8>(), 0..6000)).prop_map(
        |(nr_irqs, nr_cpus, prio_bits, bytes)| state(Shape { nr_irqs, nr_cpus, prio_bits }, &bytes),
    )
}

/// Checks that a checkpoint may have this GIC.
fn check(vgic: &Vgic) {
    let mut guest = GuestState::reset(vgic.cpus.len() as u8);
    guest.guest.name[..5].copy_from_slice(b"guest");
    (*guest.guest.ram_base, *guest.guest.ram_size) = (1 << 30, 1 << 30);
    *guest.clock.cntfrq = 62_500_000;
    *guest.distributor = vgic.distributor.clone();
    for (vcpu, cpu) in guest.vcpus.iter_mut().zip(&vgic.cpus) {
        vcpu.cpu_interface = cpu.clone();
    }
    invariants::check(&guest.records()).unwrap();
}

/// Returns what a state is after the losses; each of them must be one.
fn after(state: &Vgic, losses: &[Loss]) -> Vgic {
    let mut after = state.clone();
    for loss in losses {
        let before = after.clone();
        loss.apply(&mut after);
        // What KVM will not deliver reads back as it was.
        let is_loss = after != before || matches!(loss, Loss::NeverDelivered);
        assert!(is_loss, "this is no loss: {loss}");
    }
    check(state);
    check(&after);
    after
}

/// Returns a guest of Stasis, with 4 vCPUs at reset.
fn machine() -> Vgic {
    state(Shape { nr_irqs: 288, nr_cpus: 4, prio_bits: 5 }, &[])
}

const BACKENDS: [Backend; 2] = [Backend::Tcg, Backend::Kvm];

/// Returns GICC_APR with this priority active.
fn apr(priority: u8) -> [u32; 4] {
    let level = usize::from(priority >> 1);
    let mut apr = [0; 4];
    apr[level / 32] = 1 << (level % 32);
    apr
}

/// Makes an SPI active on a vCPU, and its priority too.
fn activate(vgic: &mut Vgic, intid: usize, priority: u8, holder: usize) {
    vgic.set_holder(intid, Some(holder));
    vgic.set_priority(Interrupt::Shared { intid }, priority);
    *vgic.cpus[holder].cc_apr = apr(priority);
}

#[test]
fn every_loss_is_told_in_words() {
    let mut vgic = machine();
    let spi = Interrupt::Shared { intid: 40 };
    vgic.set_bit(Bits::Level, spi, true);
    vgic.distributor.spi_targets[8] = 0b0010;
    vgic.set_holder(40, Some(3));
    *vgic.cpus[1].priv_active = 1 << 5;
    vgic.cpus[1].sgi_active_src[5] = 3;
    *vgic.distributor.ctlr = 3;
    let losses = crate::qemu::encode(&vgic, Backend::Kvm).losses;
    let words: Vec<_> = losses.iter().map(|loss| loss.to_string()).collect();
    assert_eq!(
        words,
        [
            "GICD_IIDR is 0x0000043b; the guest will read 0x4b00243b",
            "SGI 5 of vCPU 1 is active and came from vCPU 3, which is not kept",
            "GICD_CTLR.EnableGrp1 is 1 but can't be kept: group 1 will be disabled",
            "interrupt 40: its line is high and comes back as a latched pending state, but the line is not kept",
            "interrupt 40 is held active by vCPU 3, which is not kept: vCPU 1 will hold it",
        ]
    );
}

#[test]
fn active_priorities_that_become_one_are_a_loss() {
    let shape = Shape { nr_irqs: 64, nr_cpus: 1, prio_bits: 8 };
    let mut vgic = state(shape, &[]);
    vgic.cpus[0].cc_apr[0] = 1 << 16 | 1 << 17;
    vgic.cpus[0].cc_apr[2] = 1 << 16;
    let losses = crate::kvm::write(&vgic).losses;
    let found = losses.iter().find(|loss| matches!(loss, Loss::ActivePriorities { .. }));
    assert_eq!(
        found.map(ToString::to_string).as_deref(),
        Some("vCPU 0: the active priorities are 0x20 and 0x22 and 0xa0, but will be 0x20 and 0xa0")
    );
}
