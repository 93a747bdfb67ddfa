//! The interrupts of a guest's state one by one, each with its state in terms of the architecture
//! (IHI 0048B.b).

use stasis_convert::{Bits, Interrupt, Vgic};
use stasis_state::GuestState;

/// The state of an interrupt: of a shared one, or of a private one of one vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The interrupt's INTID.
    pub intid: usize,
    /// The vCPU that has the interrupt, if it is private.
    pub vcpu: Option<usize>,
    /// Whether the interrupt is enabled, as in GICD_ISENABLER.
    pub enabled: bool,
    /// Whether the interrupt is pending, as in GICD_ISPENDR: by its latch, its line, or its
    /// sources.
    pub pending: bool,
    /// Whether the interrupt is active, as in GICD_ISACTIVER.
    pub active: bool,
    /// The vCPU that holds the active interrupt.
    pub holder: Option<usize>,
    /// The level of the input line.
    pub level: bool,
    /// Whether the interrupt is edge-triggered, as in GICD_ICFGR.
    pub edge: bool,
    /// The priority, as in GICD_IPRIORITYR.
    pub priority: u8,
    /// The group, as in GICD_IGROUPR.
    pub group: u8,
    /// The mask of the target vCPUs, as in GICD_ITARGETSR.
    pub targets: u8,
    /// The mask of the vCPUs that have sent the SGI, as in GICD_SPENDSGIR.
    pub sources: u8,
    /// The vCPU that has sent the active SGI.
    pub active_source: Option<usize>,
}

impl Row {
    /// Returns whether the interrupt is more than one that can never come. SGIs are always enabled,
    /// so that alone does not count.
    pub fn is_in_use(&self) -> bool {
        self.enabled && self.intid >= 16 || self.pending || self.active || self.level
    }
}

/// Returns all interrupts: the private ones of one vCPU after the other, then the shared ones.
pub fn all(state: &GuestState) -> Vec<Row> {
    let vgic = Vgic::from(state);
    vgic.interrupts().map(|interrupt| row(&vgic, interrupt)).collect()
}

fn row(vgic: &Vgic, interrupt: Interrupt) -> Row {
    let bit = |bits| vgic.bit(bits, interrupt);
    let (level, edge, active) = (bit(Bits::Level), bit(Bits::Edge), bit(Bits::Active));
    let mut row = Row {
        intid: interrupt.intid(),
        vcpu: None,
        enabled: bit(Bits::Enable),
        pending: bit(Bits::Latch) || level && !edge,
        active,
        holder: None,
        level,
        edge,
        priority: vgic.priority(interrupt),
        group: bit(Bits::Group).into(),
        targets: 0,
        sources: 0,
        active_source: None,
    };
    match interrupt {
        Interrupt::Shared { intid } => {
            row.targets = vgic.targets(intid);
            row.holder = vgic.holder(interrupt);
        }
        Interrupt::Private { vcpu, intid } => {
            row.vcpu = Some(vcpu);
            row.targets = 1 << vcpu;
            row.holder = active.then_some(vcpu);
            if let Some(&sources) = vgic.cpus[vcpu].sgi_src.get(intid) {
                row.sources = sources;
                row.pending = sources != 0;
                let source = vgic.cpus[vcpu].sgi_active_src[intid];
                row.active_source = active.then_some(source.into());
            }
        }
    }
    row
}

/// Returns the vCPUs in a mask.
pub fn mask(mask: u8) -> Vec<usize> {
    (0..8).filter(|vcpu| mask >> vcpu & 1 != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(state: &GuestState, intid: usize, vcpu: Option<usize>) -> Row {
        all(state).into_iter().find(|row| row.intid == intid && row.vcpu == vcpu).unwrap()
    }

    fn state() -> GuestState {
        let mut state = GuestState::reset(2);
        *state.distributor.nr_irqs = 64;
        state
    }

    #[test]
    fn a_line_makes_a_level_sensitive_interrupt_pending_and_no_other() {
        let mut state = state();
        state.distributor.spi_level[0] = 0b11;
        state.distributor.spi_edge[0] = 0b10;
        assert!(find(&state, 32, None).pending);
        assert!(!find(&state, 33, None).pending && find(&state, 33, None).level);
    }

    #[test]
    fn an_sgi_is_pending_by_its_sources() {
        let mut state = state();
        state.vcpus[1].cpu_interface.sgi_src[3] = 0b11;
        assert!(!find(&state, 3, Some(0)).is_in_use());
        let row = find(&state, 3, Some(1));
        assert!(row.pending && row.is_in_use());
        assert_eq!(mask(row.sources), [0, 1]);
    }
}
