//! What KVM or QEMU does not say of a state of its own, and what is assumed instead.

use thiserror::Error;

use crate::vgic::{Bits, Interrupt, SGIS, Vgic};

/// Something that had to be assumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum Unknown {
    #[error(
        "{interrupt} is pending, be it latched or because its line is high; it is taken as latched"
    )]
    Line { interrupt: Interrupt },
    #[error("who holds the active interrupt {intid} is not said; vCPU {assumed} is assumed")]
    Holder { intid: usize, assumed: usize },
    #[error("who sent the active SGI {sgi} of vCPU {vcpu} is not said; vCPU 0 is assumed")]
    ActiveSource { vcpu: usize, sgi: usize },
    #[error("the physical timer of vCPU {vcpu}; off is assumed")]
    PhysicalTimer { vcpu: usize },
}

/// Returns the level-triggered interrupts that are pending.
pub(crate) fn lines(vgic: &Vgic) -> impl Iterator<Item = Unknown> {
    let pending = vgic
        .interrupts()
        .filter(|&interrupt| vgic.bit(Bits::Latch, interrupt) && !vgic.bit(Bits::Edge, interrupt));
    pending.map(|interrupt| Unknown::Line { interrupt })
}

/// Returns the SGIs that are active.
pub(crate) fn sources(vgic: &Vgic) -> impl Iterator<Item = Unknown> {
    (0..vgic.cpus.len()).flat_map(move |vcpu| {
        let active = *vgic.cpus[vcpu].priv_active;
        let sgis = (0..SGIS).filter(move |sgi| active >> sgi & 1 != 0);
        sgis.map(move |sgi| Unknown::ActiveSource { vcpu, sgi })
    })
}
