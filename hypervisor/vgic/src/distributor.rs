//! The distributor as the guest sees it (IHI 0048B.b 4.3), without security extensions, as QEMU has it.
//!
//! Registers are read and written as words; narrower accesses take part of one. A write changes the records, and [`Vgic::relocate`] moves
//! each interrupt that belongs elsewhere by that. Few registers depend on what is in list registers: those that read or clear pending and
//! active states.
//!
//! Where QEMU departs from the architecture, this distributor does not: ICPENDR of a private interrupt is banked; an SPI
//! with several targets is taken once; an SPI stays pending without a target; bits of absent CPUs in
//! ITARGETSR and in SGIs' sources are 0; the low three bits of a priority are 0, as behind GICV.

mod access;
mod register;
mod write;

pub use access::Access;

use crate::hardware::VirtualInterface;
use crate::irq::FIRST_SPI;
use crate::records::Bits;
use crate::vcpus::{Effects, VcpuMask};
use crate::vgic::Vgic;
use core::ops::Range;
use register::{ID, Register};

impl Vgic {
    /// Returns the other vCPUs whose list registers must be folded before `vcpu` makes this access. The caller holds each of them,
    /// [`Vgic::sync`]s it on its core, and lets none enter its guest before the access is made.
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

    /// Returns what `vcpu` reads, or nothing if list registers make a difference to it.
    pub fn recorded(&self, vcpu: usize, access: Access) -> Option<u64> {
        (!access.needs_fold(false)).then(|| self.read(vcpu, access))
    }

    /// Carries out a write of a word by `vcpu`, if list registers make no difference to it. Returns nothing if they do: then nothing was
    /// done.
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
            Register::Typer => {
                let lines = u32::from(self.nr_irqs()).div_ceil(32) - 1;
                lines | (self.cpus.len() as u32 - 1) << 5
            }
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
    fn if_implemented(&self, n: u8, word: impl FnOnce(usize) -> u32) -> u32 {
        let n = usize::from(n);
        match self.implemented(n) {
            0 => 0,
            implemented => word(n) & implemented,
        }
    }

    /// Returns the bits of word `n` whose INTIDs there are.
    fn implemented(&self, n: usize) -> u32 {
        match usize::from(self.nr_irqs()).saturating_sub(n * 32) {
            0 => 0,
            left @ 1..32 => (1 << left) - 1,
            _ => u32::MAX,
        }
    }
}
