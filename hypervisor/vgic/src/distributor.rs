//! The distributor as the guest sees it (IHI 0048B.b 4.3), without security extensions, as QEMU has
//! it.
//!
//! Registers are read and written as words; narrower accesses take part of one. A write changes the
//! records, and [`Vgic::relocate`] moves each interrupt that belongs elsewhere by that. Few
//! registers depend on what is in list registers: those that read or clear pending and active
//! states. Of these, a vCPU that reads pending states mostly needs no more than a look at its own
//! list registers ([`Vgic::read_pending`]).
//!
//! Where QEMU departs from the architecture, this distributor does not: ICPENDR of a private
//! interrupt is banked; an SPI with several targets is taken once; an SPI stays pending without a
//! target; bits of absent CPUs in ITARGETSR and in SGIs' sources are 0; the low three bits of a
//! priority are 0, as behind GICV.

mod access;
mod register;
mod write;

pub use access::Access;

use crate::hardware::VirtualInterface;
use crate::irq::{Cause, FIRST_SPI};
use crate::list_register::State;
use crate::records::Bits;
use crate::vcpus::{Effects, VcpuMask};
use crate::vgic::Vgic;
use core::ops::Range;
use register::{ID, Register};

impl Vgic {
    /// Returns the other vCPUs whose list registers must be folded before `vcpu` makes this access.
    /// The caller holds each of them, [`Vgic::sync`]s it on its core, and lets none enter its guest
    /// before the access is made.
    #[inline]
    pub fn needs_sync(&self, vcpu: usize, access: Access, write: bool) -> VcpuMask {
        if !access.needs_fold(write) {
            return VcpuMask::NONE;
        }
        self.homes(access.spis()).without(vcpu)
    }

    /// Returns the vCPUs in whose list registers any of these SPIs is.
    fn homes(&self, spis: Range<u16>) -> VcpuMask {
        let mut mask = VcpuMask::NONE;
        for intid in spis.start..spis.end.min(self.nr_irqs()) {
            if let Some(home) = self.place(0, intid).home() {
                mask.0 |= VcpuMask::only(home).0;
            }
        }
        mask
    }

    /// Carries out a read by `vcpu`, which is loaded on this core. Returns what is read.
    #[inline]
    pub fn distributor_read(
        &mut self,
        vcpu: usize,
        access: Access,
        hw: &mut impl VirtualInterface,
    ) -> (u64, Effects) {
        let mut effects = Effects::default();
        if access.needs_fold(false) {
            effects = self.sync(vcpu, hw);
            self.resample(vcpu, hw);
        }
        (self.read(vcpu, access), effects)
    }

    /// Returns what `vcpu` reads, if it is a word of GICD_TYPER, GICD_IIDR, GICD_IGROUPR,
    /// GICD_ISENABLER or GICD_ICENABLER: those that are read most. Compiled where it is called, and
    /// calls nothing.
    #[inline(always)]
    pub fn read_often(&self, vcpu: usize, access: Access) -> Option<u32> {
        Some(match Register::at(access.word()) {
            Register::Typer => self.typer(),
            Register::Iidr => *self.dist.iidr,
            Register::Group(n) => self.if_implemented(n, |n| self.word_here(Bits::Group, vcpu, n)),
            Register::Enable(_, n) => {
                self.if_implemented(n, |n| self.word_here(Bits::Enable, vcpu, n))
            }
            _ => return None,
        })
    }

    /// Returns the value of GICD_TYPER, 4.3.2.
    #[inline(always)]
    fn typer(&self) -> u32 {
        let lines = u32::from(self.nr_irqs()).div_ceil(32) - 1;
        lines | (self.cpus.len() as u32 - 1) << 5
    }

    /// Returns what `vcpu` reads, or nothing if list registers make a difference to it.
    pub fn recorded(&self, vcpu: usize, access: Access) -> Option<u64> {
        (!access.needs_fold(false)).then(|| self.read(vcpu, access))
    }

    /// Returns what `vcpu`, which is loaded on this core, reads of a word of GICD_ISPENDR or
    /// GICD_ICPENDR, as [`Self::distributor_read`] does. Returns nothing, and does nothing, if it
    /// is another access, or other vCPUs' list registers matter.
    ///
    /// Mostly the states of the vCPU's own list registers are all that the records lack. Then
    /// nothing is folded, and all stays as it is: a fold would put back into the records why an
    /// interrupt is pending, if it still is, and would change no other pending state.
    #[inline]
    pub fn read_pending(
        &mut self,
        vcpu: usize,
        access: Access,
        hw: &mut impl VirtualInterface,
    ) -> Option<(u64, Effects)> {
        let Register::Pending(_, n) = Register::at(access.word()) else { return None };
        if access.width != 4 || !self.needs_sync(vcpu, access, false).is_empty() {
            return None;
        }
        // Where something has changed, the entry behind this folds, and would read list registers a
        // second time.
        if self.links.is_idle(vcpu)
            && !self.cpus[vcpu].is_dirty()
            && let Some(pending) = self.peek_pending(vcpu, n.into(), hw)
        {
            return Some((pending.into(), Effects::default()));
        }
        Some(self.distributor_read(vcpu, access, hw))
    }

    /// Returns word `n` of GICD_ISPENDR, as the records and the vCPU's own list registers have it;
    /// nothing if the guest has ended what is in one of these, so that a fold saves the next
    /// reading. That fold follows at once.
    #[inline(always)]
    fn peek_pending(
        &mut self,
        vcpu: usize,
        n: usize,
        hw: &mut impl VirtualInterface,
    ) -> Option<u32> {
        let mut pending = self.pending_word(vcpu, n);
        let cpu = &mut self.cpus[vcpu];
        for (place, one) in cpu.residents.iter().enumerate() {
            if usize::from(one.intid / 32) != n {
                continue;
            }
            let found = hw.read_state(place);
            cpu.found[place] = found;
            cpu.read |= 1 << place;
            if found == State::Inactive {
                return None;
            }
            let is_taken_back = found.is_pending() && one.cause != Cause::None;
            pending |= u32::from(is_taken_back) << (one.intid % 32);
        }
        cpu.read = 0;
        Some(pending & self.implemented(n))
    }

    /// Carries out a write of a word by `vcpu`, if list registers make no difference to it. Returns
    /// nothing if they do: then nothing was done.
    pub fn record(&mut self, vcpu: usize, access: Access, value: u32) -> Option<Effects> {
        (!access.needs_fold(true)).then(|| self.write(vcpu, access, value.into()))
    }

    /// Returns what `vcpu` reads according to the records.
    fn read(&self, vcpu: usize, access: Access) -> u64 {
        let word = self.read_word(vcpu, access.word());
        match access.width {
            4 => word.into(),
            8 => u64::from(word) | u64::from(self.read_word(vcpu, access.word() + 4)) << 32,
            _ => (word >> access.shift() & access.mask()).into(),
        }
    }

    /// Carries out a write by `vcpu`, which is loaded on this core.
    #[inline]
    pub fn distributor_write(
        &mut self,
        vcpu: usize,
        access: Access,
        value: u64,
        hw: &mut impl VirtualInterface,
    ) -> Effects {
        if !access.needs_fold(true) {
            return self.write(vcpu, access, value);
        }
        let mut effects = self.sync(vcpu, hw);
        effects |= self.write(vcpu, access, value);
        self.settle(vcpu, hw);
        effects
    }

    /// Returns the word at `offset`, as `vcpu` sees it.
    fn read_word(&self, vcpu: usize, offset: u16) -> u32 {
        let bytes = |first: u16, byte: &dyn Fn(u16) -> u8| {
            let intids = first..(first + 4).min(self.nr_irqs());
            intids.fold(0, |word, intid| word | u32::from(byte(intid)) << (8 * (intid - first)))
        };
        match Register::at(offset) {
            Register::Ctlr => *self.dist.ctlr,
            Register::Typer => self.typer(),
            Register::Iidr => *self.dist.iidr,
            Register::Group(n) => self.if_implemented(n, |n| self.word(Bits::Group, vcpu, n)),
            Register::Enable(_, n) => self.if_implemented(n, |n| self.word(Bits::Enable, vcpu, n)),
            Register::Pending(_, n) => self.if_implemented(n, |n| self.pending_word(vcpu, n)),
            Register::Active(_, n) => self.if_implemented(n, |n| self.word(Bits::Active, vcpu, n)),
            Register::Priority(first) => bytes(first, &|intid| self.priority(vcpu, intid)),
            // With one CPU, the registers are RAZ/WI.
            Register::Targets(_) if self.cpus.len() == 1 => 0,
            Register::Targets(first) => bytes(first, &|intid| match intid.checked_sub(FIRST_SPI) {
                Some(spi) => self.dist.spi_targets[usize::from(spi)],
                None => VcpuMask::only(vcpu).0,
            }),
            Register::Config(first) => {
                let intids = first..(first + 16).min(self.nr_irqs());
                intids.fold(0, |word, intid| {
                    let edge = u32::from(self.bit(Bits::Edge, vcpu, intid));
                    word | edge << (2 * (intid - first) + 1)
                })
            }
            Register::SgiPending(_, first) => {
                let sources = &self.cpus[vcpu].state.sgi_src;
                bytes(first, &|sgi| sources[usize::from(sgi)])
            }
            Register::Id(n) => ID[usize::from(n)].into(),
            Register::Sgir | Register::Reserved => 0,
        }
    }

    /// Returns word `n` of a register without the bits of INTIDs that there are not.
    #[inline(always)]
    fn if_implemented(&self, n: u8, word: impl FnOnce(usize) -> u32) -> u32 {
        let n = usize::from(n);
        match self.implemented(n) {
            0 => 0,
            implemented => word(n) & implemented,
        }
    }

    /// Returns the bits of word `n` whose INTIDs there are.
    #[inline(always)]
    fn implemented(&self, n: usize) -> u32 {
        match usize::from(self.nr_irqs()).saturating_sub(n * 32) {
            0 => 0,
            left @ 1..32 => (1 << left) - 1,
            _ => u32::MAX,
        }
    }
}
