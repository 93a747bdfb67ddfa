//! The interrupts of a state one by one, with what the architecture says of each.

use stasis_convert::{Bits, Interrupt, Vgic};
use stasis_state::GuestState;

/// An interrupt: of a private one, that of one vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub intid: usize,
    /// Whose, of a private one.
    pub vcpu: Option<usize>,
    /// GICD_ISENABLER.
    pub enabled: bool,
    /// GICD_ISPENDR: by its latch, its line, or its sources.
    pub pending: bool,
    /// GICD_ISACTIVER.
    pub active: bool,
    /// The vCPU that has it active.
    pub holder: Option<usize>,
    /// The input line.
    pub level: bool,
    /// GICD_ICFGR.
    pub edge: bool,
    /// GICD_IPRIORITYR.
    pub priority: u8,
    /// GICD_IGROUPR.
    pub group: u8,
    /// GICD_ITARGETSR, as a mask.
    pub targets: u8,
    /// GICD_SPENDSGIR, as a mask.
    pub sources: u8,
    /// The vCPU that sent the SGI that is active.
    pub active_source: Option<usize>,
}

impl Row {
    /// Whether it is more than an interrupt that never comes. SGIs are always enabled.
    pub fn is_in_use(&self) -> bool {
        self.enabled && self.intid >= 16 || self.pending || self.active || self.level
    }
}

/// All interrupts: the private ones vCPU by vCPU, then the shared ones.
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

/// The vCPUs of a mask.
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
