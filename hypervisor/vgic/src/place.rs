//! Where each interrupt is: nowhere, in a vCPU's queue, or in one of its list registers. Derived
//! from the records, and kept with them by [`Vgic::replace`].

use crate::irq::FIRST_SPI;
use crate::pending::Group;
use crate::queue::level;
use crate::vgic::{Effects, VcpuMask, Vgic};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Neither active nor to be offered.
    Nowhere,
    /// In `vcpu`'s queue of the pending interrupts of this group.
    Pending { vcpu: u8, group: Group, level: u8 },
    /// In `vcpu`'s queue of active interrupts.
    Active { vcpu: u8, level: u8 },
    /// In one of `vcpu`'s list registers, which know more than the records.
    Resident { vcpu: u8 },
}

impl Vgic {
    #[inline]
    pub(crate) fn place(&self, vcpu: usize, intid: u16) -> Place {
        match intid.checked_sub(FIRST_SPI) {
            Some(spi) => self.spi_places[usize::from(spi)],
            None => self.cpus[vcpu].places[usize::from(intid)],
        }
    }

    #[inline]
    fn set_place(&mut self, vcpu: usize, intid: u16, place: Place) {
        match intid.checked_sub(FIRST_SPI) {
            Some(spi) => self.spi_places[usize::from(spi)] = place,
            None => self.cpus[vcpu].places[usize::from(intid)] = place,
        }
    }

    /// Where the records say that the interrupt belongs. An active one waits for its deactivation
    /// whether or not it is pending, and wherever else it is targeted by now.
    fn wanted_place(&self, vcpu: usize, intid: u16) -> Place {
        let irq = self.irq(vcpu, intid);
        let level = level(irq.priority);
        if irq.is_active() {
            let holder = self.holder(vcpu, intid).unwrap_or(vcpu);
            return Place::Active { vcpu: holder as u8, level };
        }
        if !irq.is_pending() || !irq.is_enabled() {
            return Place::Nowhere;
        }
        let group = irq.group();
        self.target(vcpu, intid).map_or(Place::Nowhere, |target| Place::Pending {
            vcpu: target as u8,
            group,
            level,
        })
    }

    /// Moves an interrupt to where it belongs after its state has changed. One that is in a list
    /// register stays there until the vCPU that has it is synced.
    pub(crate) fn replace(&mut self, vcpu: usize, intid: u16) -> Effects {
        let old = self.place(vcpu, intid);
        if let Place::Resident { vcpu } = old {
            return self.mark_dirty(vcpu);
        }
        let new = self.wanted_place(vcpu, intid);
        if new == old {
            return Effects::default();
        }
        self.take_out(old, intid);
        self.put(vcpu, intid, new)
    }

    /// Puts an interrupt that is in no queue where it belongs.
    #[inline]
    fn put(&mut self, vcpu: usize, intid: u16, place: Place) -> Effects {
        self.set_place(vcpu, intid, place);
        match place {
            Place::Pending { vcpu, group, level } => {
                let pending = &mut self.cpus[usize::from(vcpu)].pending;
                pending.insert(group, level, intid);
                // Nobody waits for what is not forwarded.
                if pending.forwards(group) { self.mark_dirty(vcpu) } else { Effects::default() }
            }
            Place::Active { vcpu, level } => {
                self.cpus[usize::from(vcpu)].active.insert(level, intid);
                self.mark_dirty(vcpu)
            }
            Place::Nowhere | Place::Resident { .. } => Effects::default(),
        }
    }

    /// All interrupts, of which none has a place as yet. No exit may take as long as this does.
    pub(crate) fn place_all(&mut self) -> Effects {
        let mut effects = Effects::default();
        for vcpu in 0..self.cpus.len() {
            for intid in 0..FIRST_SPI {
                effects |= self.replace(vcpu, intid);
            }
        }
        for intid in FIRST_SPI..self.nr_irqs() {
            effects |= self.replace(0, intid);
        }
        effects
    }

    /// Forwards the groups that GICD_CTLR enables by now, and no others.
    pub(crate) fn forward(&mut self) -> Effects {
        for cpu in &mut self.cpus {
            cpu.pending.forward(*self.dist.ctlr);
            cpu.dirty = true;
        }
        Effects { kick: self.all_cpus() }
    }

    /// To a list register, from a queue that it was taken out of.
    pub(crate) fn move_in(&mut self, vcpu: usize, intid: u16) {
        self.set_place(vcpu, intid, Place::Resident { vcpu: vcpu as u8 });
    }

    /// From a list register, whose state has been folded, to where it belongs.
    pub(crate) fn move_out(&mut self, vcpu: usize, intid: u16) -> Effects {
        self.put(vcpu, intid, self.wanted_place(vcpu, intid))
    }

    fn take_out(&mut self, place: Place, intid: u16) {
        match place {
            Place::Pending { vcpu, group, level } => {
                self.cpus[usize::from(vcpu)].pending.remove(group, level, intid);
                // GICH_HCR may be armed for it.
                self.cpus[usize::from(vcpu)].dirty = true;
            }
            Place::Active { vcpu, level } => {
                self.cpus[usize::from(vcpu)].active.remove(level, intid);
                self.cpus[usize::from(vcpu)].dirty = true;
            }
            Place::Nowhere | Place::Resident { .. } => {}
        }
    }

    pub(crate) fn mark_dirty(&mut self, vcpu: u8) -> Effects {
        self.cpus[usize::from(vcpu)].dirty = true;
        Effects { kick: VcpuMask::only(vcpu.into()) }
    }
}
