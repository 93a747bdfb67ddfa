//! Which virtual interrupts are wired to physical ones, and whether those are active. What is done
//! with links is in [`link`](crate::link).

use arrayvec::ArrayVec;

use crate::irq::FIRST_SPI;
use crate::vcpus::VcpuMask;

/// The PPI of the EL1 virtual timer is linked to itself in every guest.
pub use stasis_state::timer::VIRTUAL_TIMER;

/// Most links of one guest.
pub(crate) const MAX_LINKS: usize = 32;

/// A virtual interrupt and the physical one that it is wired to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) intid: u16,
    pub(crate) physical: u16,
    /// The vCPUs for which the physical interrupt is active. Of an SPI, which has one physical
    /// state for all, only bit 0.
    active_for: VcpuMask,
    /// The vCPUs of `active_for` whose line was high just now: the interrupt has only just come.
    fresh_for: VcpuMask,
}

impl Link {
    /// Returns whether the physical interrupt is active for `vcpu`.
    #[inline]
    pub(crate) fn is_active_for(&self, vcpu: usize) -> bool {
        self.active_for.0 & Links::bank(vcpu, self.intid).0 != 0
    }

    /// Returns the vCPUs for which the physical interrupt is active. An SPI has one state for all.
    fn vcpus(&self) -> VcpuMask {
        let all = self.intid >= FIRST_SPI && !self.active_for.is_empty();
        if all { VcpuMask(u8::MAX) } else { self.active_for }
    }
}

/// The links of a guest.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    pub(crate) all: ArrayVec<Link, MAX_LINKS>,
    /// The vCPUs for which any link's physical interrupt is active. Mostly none is, and then
    /// nothing needs to be searched.
    active_for: VcpuMask,
    /// The PPIs that are linked: bit n is INTID n.
    ppis: u32,
    /// Whether any SPI is linked.
    has_spis: bool,
    /// Grows with each physical interrupt that becomes active, and each link; never 0.
    pub(crate) generation: u64,
}

impl Default for Links {
    /// Returns the links that every guest has: that of the virtual timer.
    fn default() -> Self {
        let mut links = Self {
            all: ArrayVec::new(),
            active_for: VcpuMask::NONE,
            ppis: 0,
            has_spis: false,
            generation: 1,
        };
        links.add(VIRTUAL_TIMER, VIRTUAL_TIMER);
        links
    }
}

impl Links {
    /// Adds a link, in the place of an earlier one of the same virtual interrupt. Returns `false`
    /// if there is no room.
    pub(crate) fn add(&mut self, intid: u16, physical: u16) -> bool {
        self.generation += 1;
        self.all.retain(|link| link.intid != intid);
        let link = Link { intid, physical, active_for: VcpuMask::NONE, fresh_for: VcpuMask::NONE };
        if self.all.try_push(link).is_err() {
            return false;
        }
        match intid < FIRST_SPI {
            true => self.ppis |= 1 << intid,
            false => self.has_spis = true,
        }
        true
    }

    /// Returns the bits of `active_for` that are about an interrupt of `vcpu`.
    fn bank(vcpu: usize, intid: u16) -> VcpuMask {
        VcpuMask::only(if intid < FIRST_SPI { vcpu } else { 0 })
    }

    /// Returns the physical interrupt of a virtual one, if it is active for it.
    #[inline]
    pub(crate) fn active_physical(&self, vcpu: usize, intid: u16) -> Option<u16> {
        if self.is_idle(vcpu) { None } else { self.find_active(vcpu, intid) }
    }

    #[inline(never)]
    fn find_active(&self, vcpu: usize, intid: u16) -> Option<u16> {
        let mut links = self.all.iter();
        let link = links.find(|link| link.intid == intid && link.is_active_for(vcpu));
        link.map(|link| link.physical)
    }

    /// Returns whether no physical interrupt is active for `vcpu`, which is mostly so.
    #[inline]
    pub(crate) fn is_idle(&self, vcpu: usize) -> bool {
        !self.active_for.contains(vcpu)
    }

    /// Returns whether any link's line may be high, for a vCPU whose PPIs have the lines `ppis`.
    #[inline]
    pub(crate) fn may_be_high(&self, ppis: u32) -> bool {
        self.has_spis || ppis & self.ppis != 0
    }

    /// Notes that the physical interrupt is active for `vcpu`, or is not. Returns `false` if there
    /// is no such link.
    pub(crate) fn note(&mut self, vcpu: usize, intid: u16, active: bool) -> bool {
        let bank = Self::bank(vcpu, intid);
        let Some(link) = self.all.iter_mut().find(|link| link.intid == intid) else {
            return false;
        };
        if active {
            self.generation += 1;
            link.active_for.0 |= bank.0;
            link.fresh_for.0 |= bank.0;
            self.active_for.0 |= link.vcpus().0;
        } else {
            link.active_for.0 &= !bank.0;
            link.fresh_for.0 &= !bank.0;
            let vcpus = self.all.iter().fold(0, |vcpus, link| vcpus | link.vcpus().0);
            self.active_for = VcpuMask(vcpus);
        }
        true
    }

    /// Returns whether the line of the linked interrupt `intid` needs no second look now; the next
    /// time it does.
    pub(crate) fn take_fresh_of(&mut self, vcpu: usize, intid: u16) -> bool {
        let link = self.all.iter().position(|link| link.intid == intid);
        link.is_some_and(|n| self.take_fresh(n, vcpu))
    }

    /// Returns whether the line of link `n` needs no second look now; the next time it does.
    pub(crate) fn take_fresh(&mut self, n: usize, vcpu: usize) -> bool {
        let link = &mut self.all[n];
        let bank = Self::bank(vcpu, link.intid);
        let fresh = link.fresh_for.0 & bank.0 != 0;
        link.fresh_for.0 &= !bank.0;
        fresh
    }
}
