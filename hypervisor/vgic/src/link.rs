//! Virtual interrupts that are wired to physical ones.
//!
//! The hypervisor acknowledges the physical interrupt and drops its priority, but leaves it active:
//! so it cannot fire again, and the guest's own deactivation of the virtual interrupt ends it,
//! through a list register whose origin is hardware. A virtual interrupt uses such a list register
//! exactly while its physical interrupt is active on its behalf, of which
//! [`Links`](crate::links::Links) keeps account. Its line in the records is high from the physical
//! interrupt on, until the line is found low or the guest deactivates the interrupt; the physical
//! one fires again if that was wrong.

use crate::check::Error;
use crate::hardware::VirtualInterface;
use crate::irq::{FIRST_SPI, SGIS};
use crate::links::{Link, MAX_LINKS};
use crate::records::Bits;
use crate::vcpus::Effects;
use crate::vgic::Vgic;

impl Vgic {
    /// Links a virtual interrupt to a physical one: what [`Vgic::hardware_interrupt`] brings, the
    /// guest's deactivation ends. Before the first load. PPI 27 is linked already.
    ///
    /// # Errors
    ///
    /// If either is no PPI or SPI, or if there are too many links.
    pub fn link(&mut self, intid: u16, physical: u16) -> Result<(), Error> {
        if intid < SGIS || intid >= self.nr_irqs() || !(SGIS..1020).contains(&physical) {
            return Err(Error::NotLinkable { intid, physical });
        }
        match self.links.add(intid, physical) {
            true => Ok(()),
            false => Err(Error::TooManyLinks { max: MAX_LINKS }),
        }
    }

    /// Ends the physical interrupt of a virtual one that has ended otherwise than through a list
    /// register that has its origin in hardware.
    pub(crate) fn end_physical(&mut self, vcpu: usize, intid: u16, hw: &mut impl VirtualInterface) {
        if let Some(physical) = self.links.active_physical(vcpu, intid) {
            self.links.note(vcpu, intid, false);
            hw.set_physical_active(physical, false);
            self.set_bit(Bits::Level, vcpu, intid, false);
        }
    }

    /// Looks at the lines of the physical interrupts that are active for `vcpu`, which is synced:
    /// then the records have what the guest would read on a GIC of its own.
    pub(crate) fn resample(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) {
        if self.links.is_idle(vcpu) {
            return;
        }
        for n in 0..self.links.all.len() {
            self.resample_one(n, vcpu, hw);
        }
        self.settle(vcpu, hw);
    }

    /// Looks again at the lines of linked interrupts that the guest has not acknowledged, before
    /// they are offered, maybe not for the first time: it may have lowered a line since.
    #[inline(never)]
    pub(crate) fn resample_pending(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) {
        for n in 0..self.links.all.len() {
            if self.wants_second_look(n, vcpu) {
                self.resample_one(n, vcpu, hw);
            }
        }
        self.settle(vcpu, hw);
    }

    /// Returns whether link `n`'s line must be looked at before the interrupt is offered.
    fn wants_second_look(&mut self, n: usize, vcpu: usize) -> bool {
        // Also one that is active now may be offered later, and did not come just then.
        let is_fresh = self.links.take_fresh(n, vcpu);
        let irq = self.irq(vcpu, self.links.all[n].intid);
        !is_fresh && !irq.is_active() && !irq.is_edge()
    }

    /// Looks at the line of link `n`, if its physical interrupt is active for `vcpu` and the
    /// virtual one is in no list register.
    fn resample_one(&mut self, n: usize, vcpu: usize, hw: &mut impl VirtualInterface) {
        let Link { intid, physical, .. } = self.links.all[n];
        if self.links.active_physical(vcpu, intid).is_some() && !self.is_resident(vcpu, intid) {
            let line = hw.read_physical_line(physical);
            self.set_bit(Bits::Level, vcpu, intid, line);
            // An interrupt can only go away by that: nobody needs to be kicked.
            let _ = self.relocate(vcpu, intid);
        }
    }

    /// Ends the physical interrupts whose virtual ones are neither active nor pending any more.
    #[inline]
    pub(crate) fn settle(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) {
        while !self.links.is_idle(vcpu)
            && let Some(intid) = self.over(vcpu)
        {
            self.end_physical(vcpu, intid, hw);
        }
    }

    /// Returns a virtual interrupt that is neither active nor pending any more while its physical
    /// one is active.
    fn over(&self, vcpu: usize) -> Option<u16> {
        let mut links = self.links.all.iter();
        let over = |link: &&Link| {
            if !link.is_active_for(vcpu) || self.is_resident(vcpu, link.intid) {
                return false;
            }
            let irq = self.irq(vcpu, link.intid);
            !irq.is_active() && !irq.is_pending()
        };
        links.find(over).map(|link| link.intid)
    }

    /// Returns whether a physical interrupt is active for `vcpu`, or was when its list registers
    /// were folded last.
    #[inline]
    pub fn has_active_physical(&self, vcpu: usize) -> bool {
        !self.links.is_idle(vcpu)
    }

    /// Makes the physical interrupts active again that [`Vgic::detach_physical`] has made inactive:
    /// when `vcpu` is loaded.
    #[inline]
    pub(crate) fn attach_physical(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) {
        if self.links.may_be_high(*self.cpus[vcpu].state.priv_level) {
            self.attach_all(vcpu, hw);
        }
    }

    #[inline(never)]
    fn attach_all(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) {
        for n in 0..self.links.all.len() {
            let Link { intid, physical, .. } = self.links.all[n];
            if self.bit(Bits::Level, vcpu, intid)
                && self.links.active_physical(vcpu, intid).is_none()
            {
                self.links.note(vcpu, intid, true);
                hw.set_physical_active(physical, true);
            }
        }
    }

    /// Makes the physical PPIs of `vcpu` inactive, when it is saved: the core's PPIs are for the
    /// next vCPU.
    pub(crate) fn detach_physical(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) {
        for n in 0..self.links.all.len() {
            let Link { intid, physical, .. } = self.links.all[n];
            if intid < FIRST_SPI && self.links.active_physical(vcpu, intid).is_some() {
                self.links.note(vcpu, intid, false);
                hw.set_physical_active(physical, false);
            }
        }
    }

    /// Ends the physical SPIs of a guest that is stopped for good, whose vCPUs are saved.
    pub fn release_physical(&mut self, hw: &mut impl VirtualInterface) -> Effects {
        let mut effects = Effects::default();
        for n in 0..self.links.all.len() {
            let intid = self.links.all[n].intid;
            if intid >= FIRST_SPI {
                self.end_physical(0, intid, hw);
                effects |= self.relocate(0, intid);
            }
        }
        effects
    }
}
