//! Interrupts from devices: levels, edges, and physical interrupts that the hypervisor took.

use crate::irq::{Bits, FIRST_SPI, SGIS};
use crate::vgic::{Effects, Vgic};

impl Vgic {
    /// The line of an SPI. What does not exist is ignored.
    pub fn set_spi_level(&mut self, intid: u16, level: bool) -> Effects {
        if (FIRST_SPI..self.nr_irqs()).contains(&intid) {
            self.set_level(0, intid, level)
        } else {
            Effects::default()
        }
    }

    /// The line of one of a vCPU's PPIs. What does not exist is ignored.
    pub fn set_ppi_level(&mut self, vcpu: usize, intid: u16, level: bool) -> Effects {
        if vcpu < self.cpus.len() && (SGIS..FIRST_SPI).contains(&intid) {
            self.set_level(vcpu, intid, level)
        } else {
            Effects::default()
        }
    }

    /// The line of one of a vCPU's PPIs, as far as the records know.
    pub fn ppi_level(&self, vcpu: usize, intid: u16) -> bool {
        (SGIS..FIRST_SPI).contains(&intid) && self.bit(Bits::Level, vcpu, intid)
    }

    /// A pulse on the line of an SPI: nothing remains of it unless the SPI is edge-triggered.
    pub fn pulse_spi(&mut self, intid: u16) -> Effects {
        let mut effects = self.set_spi_level(intid, true);
        effects |= self.set_spi_level(intid, false);
        effects
    }

    fn set_level(&mut self, vcpu: usize, intid: u16, level: bool) -> Effects {
        if self.bit(Bits::Level, vcpu, intid) == level {
            return Effects::default();
        }
        self.set_bit(Bits::Level, vcpu, intid, level);
        if self.bit(Bits::Edge, vcpu, intid) {
            if !level {
                return Effects::default();
            }
            self.set_bit(Bits::Latch, vcpu, intid, true);
        }
        self.replace(vcpu, intid)
    }

    /// A linked physical interrupt was acknowledged, and its priority dropped, but it was not
    /// deactivated. `vcpu` is the one whose PPI it is; it does not matter for an SPI. One that is
    /// not linked is ignored, and `false` returned: it is the caller's to deactivate.
    pub fn hardware_interrupt(&mut self, vcpu: usize, intid: u16) -> (bool, Effects) {
        if !self.links.note(vcpu, intid, true) {
            return (false, Effects::default());
        }
        if let Some(home) = self.place(vcpu, intid).home() {
            // The guest has deactivated it meanwhile, or it could not have come again.
            let residents = &mut self.cpus[home].residents;
            for resident in residents.iter_mut().filter(|r| r.intid == intid) {
                resident.refired = true;
            }
        }
        self.set_bit(Bits::Level, vcpu, intid, true);
        if self.bit(Bits::Edge, vcpu, intid) {
            self.set_bit(Bits::Latch, vcpu, intid, true);
        }
        (true, self.replace(vcpu, intid))
    }
}
