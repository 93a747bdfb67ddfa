//! Interrupts from devices: levels, edges, and physical interrupts that the hypervisor took.

use crate::irq::{FIRST_SPI, SGIS};
use crate::records::Bits;
use crate::vcpus::Effects;
use crate::vgic::Vgic;

impl Vgic {
    /// Sets the line of an SPI. An SPI that there is not is ignored.
    pub fn set_spi_level(&mut self, intid: u16, level: bool) -> Effects {
        if (FIRST_SPI..self.nr_irqs()).contains(&intid) {
            self.set_level(0, intid, level)
        } else {
            Effects::default()
        }
    }

    /// Sets the line of one of a vCPU's PPIs. A vCPU or a PPI that there is not is ignored.
    pub fn set_ppi_level(&mut self, vcpu: usize, intid: u16, level: bool) -> Effects {
        if vcpu < self.cpus.len() && (SGIS..FIRST_SPI).contains(&intid) {
            self.set_level(vcpu, intid, level)
        } else {
            Effects::default()
        }
    }

    /// Returns the line of one of a vCPU's PPIs, as far as the records know.
    pub fn ppi_level(&self, vcpu: usize, intid: u16) -> bool {
        (SGIS..FIRST_SPI).contains(&intid) && self.bit(Bits::Level, vcpu, intid)
    }

    /// Raises and lowers the line of an SPI. Nothing remains of that unless the SPI is
    /// edge-triggered.
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
        self.relocate(vcpu, intid)
    }

    /// Passes a physical interrupt on, by the INTID `intid` of the virtual one that it is linked
    /// to. The caller has acknowledged it and dropped its priority, but has not deactivated it.
    /// `vcpu` is the one whose PPI it is; for an SPI, it does not matter. Returns `false` if
    /// nothing is linked to `intid`: then nothing was done, and the caller deactivates the physical
    /// interrupt.
    pub fn hardware_interrupt(&mut self, vcpu: usize, intid: u16) -> (bool, Effects) {
        if !self.links.note(vcpu, intid, true) {
            return (false, Effects::default());
        }
        if let Some(home) = self.place(vcpu, intid).home() {
            // The guest has deactivated the one before, or this one could not have come.
            let residents = &mut self.cpus[home].residents;
            for resident in residents.iter_mut().filter(|r| r.intid == intid) {
                resident.refired = true;
            }
        }
        self.set_bit(Bits::Level, vcpu, intid, true);
        if self.bit(Bits::Edge, vcpu, intid) {
            self.set_bit(Bits::Latch, vcpu, intid, true);
        }
        (true, self.relocate(vcpu, intid))
    }
}
