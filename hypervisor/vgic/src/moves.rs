//! Moving interrupts: whenever the state of one has changed, it goes where it belongs, from queue
//! to queue, or nowhere.

use crate::changed::Changed;
use crate::irq::{FIRST_SPI, Irq};
use crate::place::{At, Place};
use crate::vcpus::{Effects, VcpuMask};
use crate::vgic::Vgic;
use crate::waiting::Kind;

impl Vgic {
    /// Returns where an interrupt is.
    #[inline]
    pub(crate) fn place(&self, vcpu: usize, intid: u16) -> Place {
        match intid.checked_sub(FIRST_SPI) {
            Some(spi) => self.spi_places[usize::from(spi)],
            None => self.cpus[vcpu].places[usize::from(intid)],
        }
    }

    /// Returns whether an interrupt is in a list register.
    pub(crate) fn is_resident(&self, vcpu: usize, intid: u16) -> bool {
        self.place(vcpu, intid).home().is_some()
    }

    /// Moves an interrupt to where it belongs after its state has changed. An interrupt in a list
    /// register stays there until the vCPU that has it is synced.
    pub(crate) fn relocate(&mut self, vcpu: usize, intid: u16) -> Effects {
        self.change(vcpu, intid, |_| ())
    }

    /// Changes an interrupt's state, and moves it to where it belongs then, as [`Vgic::relocate`]
    /// does.
    #[inline]
    pub(crate) fn change(
        &mut self,
        vcpu: usize,
        intid: u16,
        change: impl FnOnce(&mut Irq),
    ) -> Effects {
        let mut irq = self.irq(vcpu, intid);
        change(&mut irq);
        let old = self.place(vcpu, intid);
        if let Some(home) = old.home() {
            self.write_back(vcpu, intid, &irq, old);
            self.cpus[home].changed.add(intid);
            return Effects { kick: VcpuMask::only(home) };
        }
        let new = irq.wanted_place();
        self.write_back(vcpu, intid, &irq, new);
        if new == old {
            return Effects::default();
        }
        self.remove(intid, old);
        self.insert(intid, new)
    }

    /// Takes an interrupt out of the queue that is at `place`, if any is.
    #[inline]
    fn remove(&mut self, intid: u16, place: Place) {
        if let At::Waiting { vcpu, kind, level } = place.get() {
            let cpu = &mut self.cpus[vcpu];
            cpu.waiting.remove(kind, level, intid);
            // The virtual interface may ask for a maintenance interrupt because of it.
            cpu.changed = Changed::Anything;
        }
    }

    /// Puts an interrupt into the queue that is at `place`, if any is.
    #[inline]
    pub(crate) fn insert(&mut self, intid: u16, place: Place) -> Effects {
        let At::Waiting { vcpu, kind, level } = place.get() else {
            return Effects::default();
        };
        let cpu = &mut self.cpus[vcpu];
        cpu.waiting.insert(kind, level, intid);
        // An interrupt whose group is not forwarded makes no difference to the vCPU.
        if !cpu.waiting.forwards(kind) {
            return Effects::default();
        }
        match kind {
            Kind::Active => cpu.changed = Changed::Anything,
            _ => cpu.changed.add(intid),
        }
        Effects { kick: VcpuMask::only(vcpu) }
    }

    /// Moves all interrupts, of which none has a place as yet, to where they belong. No exit may
    /// take as long as this does.
    pub(crate) fn place_all(&mut self) -> Effects {
        let mut effects = Effects::default();
        for vcpu in 0..self.cpus.len() {
            for intid in 0..FIRST_SPI {
                effects |= self.relocate(vcpu, intid);
            }
        }
        for intid in FIRST_SPI..self.nr_irqs() {
            effects |= self.relocate(0, intid);
        }
        effects
    }

    /// Forwards the groups that GICD_CTLR enables now, and no others.
    pub(crate) fn forward(&mut self) -> Effects {
        for cpu in &mut self.cpus {
            cpu.waiting.forward(*self.dist.ctlr);
            cpu.changed = Changed::Anything;
        }
        Effects { kick: self.all_cpus() }
    }

    /// Notes that `vcpu`'s list registers must be folded and filled anew before its next entry.
    pub(crate) fn mark_dirty(&mut self, vcpu: usize) -> Effects {
        self.cpus[vcpu].changed = Changed::Anything;
        Effects { kick: VcpuMask::only(vcpu) }
    }
}
