//! Virtual interrupts that are wired to physical ones.
//!
//! The hypervisor acknowledges the physical interrupt and drops its priority, but leaves it active:
//! so it cannot fire again, and the guest's own deactivation of the virtual one ends it, through a
//! list register with HW = 1. A virtual interrupt uses such a list register exactly while its physical
//! interrupt is active on its behalf, which [`Link::active_for`] keeps. Its line in the records is high from
//! the physical interrupt on, until it is found low or the guest deactivates it; the physical
//! interrupt fires again if that was wrong.

use arrayvec::ArrayVec;

use crate::check::Error;
use crate::hardware::VirtualInterface;
use crate::irq::{Bits, FIRST_SPI, SGIS};
use crate::vgic::{Effects, VcpuMask, Vgic};

/// The EL1 virtual timer's PPI, linked to itself in every guest.
pub const VIRTUAL_TIMER: u16 = 27;

/// Most links of one guest.
const MAX_LINKS: usize = 32;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) intid: u16,
    pub(crate) physical: u16,
    /// The vCPUs for which the physical interrupt is active. Of an SPI, which has one physical
    /// state for all, only bit 0.
    active_for: VcpuMask,
    /// Of these, the ones whose line was high just now: the interrupt has only just come.
    fresh_for: VcpuMask,
}

impl Link {
    /// The physical interrupt is active for `vcpu`.
    #[inline]
    fn is_active_for(&self, vcpu: usize) -> bool {
        self.active_for.0 & Links::bank(vcpu, self.intid).0 != 0
    }
}

/// All links of a guest.
#[derive(Debug)]
pub(crate) struct Links {
    all: ArrayVec<Link, MAX_LINKS>,
    /// The vCPUs for which the physical interrupt of any of them is active. Mostly none is, and then nothing is to be searched.
    active_for: VcpuMask,
    /// A bit for each PPI that is linked.
    ppis: u32,
    /// Some SPI is linked.
    has_spis: bool,
}

impl Default for Links {
    fn default() -> Self {
        let timer = Link {
            intid: VIRTUAL_TIMER,
            physical: VIRTUAL_TIMER,
            active_for: VcpuMask::NONE,
            fresh_for: VcpuMask::NONE,
        };
        let all = ArrayVec::from_iter([timer]);
        Self { all, active_for: VcpuMask::NONE, ppis: 1 << VIRTUAL_TIMER, has_spis: false }
    }
}

impl Links {
    fn bank(vcpu: usize, intid: u16) -> VcpuMask {
        VcpuMask::only(if intid < FIRST_SPI { vcpu } else { 0 })
    }

    /// The physical interrupt, if it is active for this virtual one.
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

    /// Whether no physical interrupt is active for `vcpu`, which is mostly so.
    #[inline]
    pub(crate) fn is_idle(&self, vcpu: usize) -> bool {
        !self.active_for.contains(vcpu)
    }

    /// Whether any link's line may be high, of a vCPU with these lines of its PPIs.
    #[inline]
    fn may_be_high(&self, ppis: u32) -> bool {
        self.has_spis || ppis & self.ppis != 0
    }

    /// Notes that the physical interrupt is active, or not. `false` if there is no such link.
    pub(crate) fn note(&mut self, vcpu: usize, intid: u16, active: bool) -> bool {
        let bank = Self::bank(vcpu, intid);
        let Some(link) = self.all.iter_mut().find(|link| link.intid == intid) else {
            return false;
        };
        if active {
            link.active_for.0 |= bank.0;
            link.fresh_for.0 |= bank.0;
        } else {
            link.active_for.0 &= !bank.0;
            link.fresh_for.0 &= !bank.0;
        }
        self.active_for = VcpuMask::NONE;
        for link in &self.all {
            // An SPI is the same for all.
            let all = link.intid >= FIRST_SPI && !link.active_for.is_empty();
            self.active_for.0 |= if all { u8::MAX } else { link.active_for.0 };
        }
        true
    }

    /// Whether its line needs no second look; it will the next time.
    fn take_fresh(&mut self, n: usize, vcpu: usize) -> bool {
        let link = &mut self.all[n];
        let bank = Self::bank(vcpu, link.intid);
        let fresh = link.fresh_for.0 & bank.0 != 0;
        link.fresh_for.0 &= !bank.0;
        fresh
    }
}

impl Vgic {
    /// Links a virtual interrupt to a physical one: what [`Vgic::hardware_interrupt`] brings, the
    /// guest's deactivation ends. Before the first load; PPI 27 needs none.
    pub fn link(&mut self, intid: u16, physical: u16) -> Result<(), Error> {
        if intid < SGIS || intid >= self.nr_irqs() || !(SGIS..1020).contains(&physical) {
            return Err(Error::NotLinkable { intid, physical });
        }
        self.links.all.retain(|link| link.intid != intid);
        let link = Link { intid, physical, active_for: VcpuMask::NONE, fresh_for: VcpuMask::NONE };
        let full = Error::TooManyLinks { max: MAX_LINKS };
        self.links.all.try_push(link).map_err(|_| full)?;
        match intid < FIRST_SPI {
            true => self.links.ppis |= 1 << intid,
            false => self.links.has_spis = true,
        }
        Ok(())
    }

    /// Ends the physical interrupt of a virtual one that ended otherwise than through a list
    /// register with HW = 1.
    pub(crate) fn end_physical(&mut self, vcpu: usize, intid: u16, hw: &mut impl VirtualInterface) {
        if let Some(physical) = self.links.active_physical(vcpu, intid) {
            self.links.note(vcpu, intid, false);
            hw.set_physical_active(physical, false);
            self.set_bit(Bits::Level, vcpu, intid, false);
        }
    }

    /// Looks at the lines of the physical interrupts that are active for `vcpu`, so that the
    /// records have what the guest would read on a GIC of its own. The vCPU is synced.
    pub(crate) fn resample(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) {
        if self.links.is_idle(vcpu) {
            return;
        }
        for n in 0..self.links.all.len() {
            self.resample_one(n, vcpu, hw);
        }
        self.settle(vcpu, hw);
    }

    /// Looks again at the lines of those that the guest has not acknowledged, as it may have
    /// lowered the line since; before they are offered, maybe not for the first time.
    #[inline(never)]
    pub(crate) fn resample_pending(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) {
        for n in 0..self.links.all.len() {
            if self.wants_second_look(n, vcpu) {
                self.resample_one(n, vcpu, hw);
            }
        }
        self.settle(vcpu, hw);
    }

    /// Whether a link's line is to be looked at before the interrupt is offered.
    fn wants_second_look(&mut self, n: usize, vcpu: usize) -> bool {
        let irq = self.irq(vcpu, self.links.all[n].intid);
        !irq.is_active() && !self.links.take_fresh(n, vcpu) && !irq.is_edge()
    }

    fn resample_one(&mut self, n: usize, vcpu: usize, hw: &mut impl VirtualInterface) {
        let Link { intid, physical, .. } = self.links.all[n];
        if self.links.active_physical(vcpu, intid).is_some() && !self.is_resident(vcpu, intid) {
            let line = hw.read_physical_line(physical);
            self.set_bit(Bits::Level, vcpu, intid, line);
            // It can only go away: nobody needs to be told.
            let _ = self.replace(vcpu, intid);
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

    /// A virtual interrupt that is neither active nor pending any more, but its physical one is active.
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

    /// Whether a physical interrupt is active for `vcpu`, or was when its list registers were folded last.
    #[inline]
    pub fn has_active_physical(&self, vcpu: usize) -> bool {
        !self.links.is_idle(vcpu)
    }

    /// When `vcpu` is loaded: makes active again what [`Vgic::detach_physical`] made inactive.
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

    /// When `vcpu` is saved: the core's PPIs are for the next vCPU.
    pub(crate) fn detach_physical(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) {
        for n in 0..self.links.all.len() {
            let Link { intid, physical, .. } = self.links.all[n];
            if intid < FIRST_SPI && self.links.active_physical(vcpu, intid).is_some() {
                self.links.note(vcpu, intid, false);
                hw.set_physical_active(physical, false);
            }
        }
    }

    /// When the guest is stopped for good: no physical SPI stays active for it. Its vCPUs are saved.
    pub fn release_physical(&mut self, hw: &mut impl VirtualInterface) -> Effects {
        let mut effects = Effects::default();
        for n in 0..self.links.all.len() {
            let intid = self.links.all[n].intid;
            if intid >= FIRST_SPI {
                self.end_physical(0, intid, hw);
                effects |= self.replace(0, intid);
            }
        }
        effects
    }

    pub(crate) fn is_resident(&self, vcpu: usize, intid: u16) -> bool {
        self.place(vcpu, intid).home().is_some()
    }
}
