//! Making a GIC: at reset, or from the records of a guest that is restored.

use alloc::{boxed::Box, vec, vec::Vec};

use stasis_state::vgic::{CpuInterface, Distributor, PRIVATE_INTIDS};

use crate::check::{Error, check};
use crate::links::Links;
use crate::place::Place;
use crate::vgic::{Vgic, VirtualCpu};

impl Vgic {
    /// Returns a GIC at reset, with `nr_irqs` INTIDs (QEMU's `virt` has 288) and `nr_cpus` CPU
    /// interfaces.
    ///
    /// # Errors
    ///
    /// If there is no such GICv2.
    pub fn new(nr_irqs: u16, nr_cpus: u8) -> Result<Self, Error> {
        let dist = Self::distributor_at_reset(nr_irqs, nr_cpus);
        Self::from_state(dist, (0..nr_cpus).map(|_| CpuInterface::default()))
    }

    /// Returns the record of the distributor of [such a GIC](Self::new).
    pub fn distributor_at_reset(nr_irqs: u16, nr_cpus: u8) -> Box<Distributor> {
        let mut dist = Box::<Distributor>::default();
        *dist.nr_irqs = nr_irqs;
        *dist.nr_cpus = nr_cpus;
        if nr_cpus == 1 {
            // Nothing else can be targeted; the registers are RAZ/WI.
            let spis = usize::from(nr_irqs).saturating_sub(PRIVATE_INTIDS);
            dist.spi_targets.iter_mut().take(spis).for_each(|t| *t = 1);
        }
        dist
    }

    /// Returns the GIC of a guest that is restored. What its physical interrupts are linked to is
    /// not part of the state: [`Vgic::link`] them again, before the first load.
    ///
    /// # Errors
    ///
    /// If the records break a rule.
    pub fn from_state(
        dist: Box<Distributor>,
        cpus: impl Iterator<Item = CpuInterface>,
    ) -> Result<Self, Error> {
        let cpus: Vec<_> = cpus.collect();
        check(&dist, &cpus)?;
        let nr_irqs = usize::from(*dist.nr_irqs);
        let mut vgic = Self {
            cpus: cpus.into_iter().map(|state| VirtualCpu::new(state, nr_irqs)).collect(),
            spi_places: vec![Place::NOWHERE; nr_irqs - PRIVATE_INTIDS],
            links: Links::default(),
            dist: *dist,
        };
        let _ = vgic.place_all();
        let _ = vgic.forward();
        Ok(vgic)
    }
}
