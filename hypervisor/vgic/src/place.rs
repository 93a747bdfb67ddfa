//! Where each interrupt is: nowhere, in a vCPU's queue, or in one of its list registers. Derived
//! from the records, and kept with them by [`Vgic::replace`].

use crate::irq::{FIRST_SPI, Irq};
use crate::queue::level;
use crate::vgic::{Effects, VcpuMask, Vgic};
use crate::waiting::Kind;

/// See the module. Two bytes, as there is one for each interrupt, and the hot paths compare, read and write them: from bit 0 on
/// the level, the vCPU, and what it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u16);

/// A [`Place`], to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Neither active nor to be offered.
    Nowhere,
    /// In one of `vcpu`'s list registers, which know more than the records.
    Resident { vcpu: usize },
    /// In a queue of `vcpu`.
    Waiting { vcpu: usize, kind: Kind, level: u8 },
}

impl Place {
    const VCPU: u16 = 1 << 5;
    const RESIDENT: u16 = 1 << 8;
    const WAITING: u16 = 2 << 8;

    pub(crate) const NOWHERE: Self = Self(0);

    #[inline]
    pub(crate) fn resident(vcpu: usize) -> Self {
        Self(Self::RESIDENT + vcpu as u16 * Self::VCPU)
    }

    #[inline]
    fn waiting(vcpu: u8, kind: Kind, level: u8) -> Self {
        let kind = (kind as u16) << 8;
        Self(Self::WAITING + kind + u16::from(vcpu) * Self::VCPU + u16::from(level))
    }

    #[inline]
    pub(crate) fn get(self) -> At {
        let vcpu = usize::from(self.0 / Self::VCPU % 8);
        let kind = match self.0 >> 8 {
            0 => return At::Nowhere,
            1 => return At::Resident { vcpu },
            2 => Kind::Group0,
            3 => Kind::Group1,
            _ => Kind::Active,
        };
        At::Waiting { vcpu, kind, level: (self.0 % Self::VCPU) as u8 }
    }

    /// The vCPU in one of whose list registers it is.
    #[inline]
    pub(crate) fn home(self) -> Option<usize> {
        match self.get() {
            At::Resident { vcpu } => Some(vcpu),
            _ => None,
        }
    }
}

impl core::fmt::Debug for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.get().fmt(f)
    }
}

impl Irq {
    /// Where the records say that the interrupt belongs. An active one waits for its deactivation
    /// whether or not it is pending, and wherever else it is targeted by now.
    #[inline]
    pub(crate) fn wanted_place(&self) -> Place {
        let level = level(self.priority);
        if self.is_active() {
            return Place::waiting(self.holder, Kind::Active, level);
        }
        match self.target() {
            Some(target) if self.is_pending() && self.is_enabled() => {
                Place::waiting(target as u8, self.group(), level)
            }
            _ => Place::NOWHERE,
        }
    }
}

impl Vgic {
    #[inline]
    pub(crate) fn place(&self, vcpu: usize, intid: u16) -> Place {
        match intid.checked_sub(FIRST_SPI) {
            Some(spi) => self.spi_places[usize::from(spi)],
            None => self.cpus[vcpu].places[usize::from(intid)],
        }
    }

    /// Moves an interrupt to where it belongs after its state has changed. One that is in a list
    /// register stays there until the vCPU that has it is synced.
    pub(crate) fn replace(&mut self, vcpu: usize, intid: u16) -> Effects {
        self.change(vcpu, intid, |_| ())
    }

    /// Changes an interrupt's state, and moves it to where it belongs then: see [`Vgic::replace`].
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
            return self.mark_dirty(home);
        }
        let new = irq.wanted_place();
        self.write_back(vcpu, intid, &irq, new);
        if new == old {
            return Effects::default();
        }
        self.remove(intid, old);
        self.insert(intid, new)
    }

    /// Takes an interrupt out of the queue that its place was.
    #[inline]
    fn remove(&mut self, intid: u16, place: Place) {
        if let At::Waiting { vcpu, kind, level } = place.get() {
            let cpu = &mut self.cpus[vcpu];
            cpu.waiting.remove(kind, level, intid);
            // GICH_HCR may be armed for it.
            cpu.dirty = true;
        }
    }

    /// Puts an interrupt into the queue that its place is.
    #[inline]
    pub(crate) fn insert(&mut self, intid: u16, place: Place) -> Effects {
        let At::Waiting { vcpu, kind, level } = place.get() else {
            return Effects::default();
        };
        let cpu = &mut self.cpus[vcpu];
        cpu.waiting.insert(kind, level, intid);
        // Nobody waits for what is not forwarded.
        if !cpu.waiting.forwards(kind) {
            return Effects::default();
        }
        cpu.dirty = true;
        Effects { kick: VcpuMask::only(vcpu) }
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
            cpu.waiting.forward(*self.dist.ctlr);
            cpu.dirty = true;
        }
        Effects { kick: self.all_cpus() }
    }

    pub(crate) fn mark_dirty(&mut self, vcpu: usize) -> Effects {
        self.cpus[vcpu].dirty = true;
        Effects { kick: VcpuMask::only(vcpu) }
    }
}
