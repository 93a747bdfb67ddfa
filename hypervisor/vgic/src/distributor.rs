//! The distributor as the guest sees it (IHI 0048B.b 4.3), without security extensions, as QEMU has it.
//!
//! Registers are read and written as words; narrower accesses take part of one. What changes where
//! an interrupt belongs changes the records, and [`Vgic::replace`] does the rest. Few registers need
//! to know what is in list registers: those that read or clear pending and active states.
//!
//! Where QEMU departs from the architecture, this does not: ICPENDR of a private interrupt is banked; an SPI
//! with several targets is taken once; it stays pending without a target; bits of absent CPUs in
//! ITARGETSR and in SGIs' sources are 0; the low three bits of a priority are 0, as behind GICV.

use core::ops::Range;

use stasis_state::vgic::MAX_INTIDS;

use crate::check::Error;
use crate::hardware::ListRegisterFile;
use crate::irq::{Bits, FIRST_SPI, Irq, bits};
use crate::vgic::{Effects, VcpuMask, Vgic};

/// Bytes of the distributor's registers.
const SIZE: u64 = 0x1000;
/// Bytes of a register that has a bit per interrupt.
const BLOCK: u16 = 0x80;

/// An access to the distributor that it can answer. Others get an external abort, as on QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    offset: u16,
    width: u8,
}

impl Access {
    /// Of the whole of GICD_SGIR.
    pub(crate) const SGIR: Self = Self { offset: 0xf00, width: 4 };

    /// `width` bytes at `offset` from the distributor's base.
    #[inline]
    pub fn checked(offset: u64, width: u8) -> Result<Self, Error> {
        if offset >= SIZE || !matches!(width, 1 | 2 | 4 | 8) || offset & (u64::from(width) - 1) != 0
        {
            return Err(Error::NoSuchAccess { offset, width });
        }
        Ok(Self { offset: offset as u16, width })
    }

    /// Whether list registers must have been folded, as only they know the answer, or what there is to
    /// clear. Of eight bytes, both words are of one kind.
    #[inline]
    fn needs_fold(self, write: bool) -> bool {
        match self.offset {
            // ISPENDR and SPENDSGIR: a latch is set whatever there was.
            0x200..0x280 | 0xf20..0xf30 => !write,
            // ICPENDR, ISACTIVER and ICACTIVER, CPENDSGIR.
            0x280..0x400 | 0xf10..0xf20 => true,
            _ => false,
        }
    }

    /// The SPIs that it is about, if it needs a fold.
    fn spis(self) -> Range<u16> {
        let first_word = self.offset % BLOCK / 4;
        let words = if self.width == 8 { 2 } else { 1 };
        let is_bitmap = (0x200..0x400).contains(&self.offset);
        let intids = if is_bitmap { first_word * 32..(first_word + words) * 32 } else { 0..0 };
        intids.start.max(FIRST_SPI)..intids.end
    }

    /// The offset of its word, or of the first of two.
    fn word(self) -> u16 {
        self.offset & !3
    }

    /// Its first bit in its word.
    fn shift(self) -> u32 {
        u32::from(self.offset % 4) * 8
    }

    /// The bits of a word that it is about.
    fn mask(self) -> u32 {
        match self.width {
            1 => 0xff,
            2 => 0xffff,
            _ => u32::MAX,
        }
    }
}

/// What a write does to a register with a bit per interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Bits are written.
    Write,
    /// Ones set.
    Set,
    /// Ones clear.
    Clear,
}

/// Which register a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    /// GICD_CTLR.
    Ctlr,
    /// GICD_TYPER.
    Typer,
    /// GICD_IIDR.
    Iidr,
    /// GICD_IGROUPR.
    Group(u8),
    /// GICD_ISENABLER, ICENABLER.
    Enable(Rule, u8),
    /// GICD_ISPENDR, ICPENDR.
    Pending(Rule, u8),
    /// GICD_ISACTIVER, ICACTIVER.
    Active(Rule, u8),
    /// GICD_IPRIORITYR, by its first INTID.
    Priority(u16),
    /// GICD_ITARGETSR, by its first INTID.
    Targets(u16),
    /// GICD_ICFGR, by its first INTID.
    Config(u16),
    /// GICD_SGIR.
    Sgir,
    /// GICD_CPENDSGIR, SPENDSGIR, by its first SGI.
    SgiPending(Rule, u16),
    /// The peripheral and component identification registers.
    Id(u8),
    /// RAZ/WI.
    Reserved,
}

impl Register {
    #[inline]
    fn at(offset: u16) -> Self {
        let word = (offset % BLOCK / 4) as u8;
        match offset / BLOCK {
            0 => match offset {
                0x000 => Self::Ctlr,
                0x004 => Self::Typer,
                0x008 => Self::Iidr,
                _ => Self::Reserved,
            },
            1 => Self::Group(word),
            2 => Self::Enable(Rule::Set, word),
            3 => Self::Enable(Rule::Clear, word),
            4 => Self::Pending(Rule::Set, word),
            5 => Self::Pending(Rule::Clear, word),
            6 => Self::Active(Rule::Set, word),
            7 => Self::Active(Rule::Clear, word),
            8..16 => Self::Priority(offset - 0x400),
            16..24 => Self::Targets(offset - 0x800),
            24..26 => Self::Config((offset - 0xc00) * 4),
            _ => match offset {
                0xf00 => Self::Sgir,
                0xf10..0xf20 => Self::SgiPending(Rule::Clear, offset - 0xf10),
                0xf20..0xf30 => Self::SgiPending(Rule::Set, offset - 0xf20),
                0xfd0..0x1000 => Self::Id(((offset - 0xfd0) / 4) as u8),
                _ => Self::Reserved,
            },
        }
    }
}

/// ICPIDR4 to 7, 0 to 3, ICCIDR0 to 3, as QEMU has them.
const ID: [u8; 12] = [0x04, 0x00, 0x00, 0x00, 0x90, 0xb4, 0x2b, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

impl Vgic {
    /// The other vCPUs whose list registers must be folded before `vcpu` makes this access. Stop
    /// each, [`Vgic::sync`] it on its core, and let none enter its guest before the access is made.
    #[inline]
    pub fn needs_sync(&self, vcpu: usize, access: Access, write: bool) -> VcpuMask {
        if !access.needs_fold(write) {
            return VcpuMask::NONE;
        }
        self.homes(access.spis()).without(vcpu)
    }

    /// The vCPUs in whose list registers some of these SPIs are.
    fn homes(&self, spis: Range<u16>) -> VcpuMask {
        let mut mask = VcpuMask::NONE;
        for intid in spis.start..spis.end.min(self.nr_irqs()) {
            if let Some(home) = self.place(0, intid).home() {
                mask.0 |= VcpuMask::only(home).0;
            }
        }
        mask
    }

    /// A read by `vcpu`, which is loaded on this core.
    #[inline]
    pub fn distributor_read(
        &mut self,
        vcpu: usize,
        access: Access,
        hw: &mut impl ListRegisterFile,
    ) -> (u64, Effects) {
        let mut effects = Effects::default();
        if access.needs_fold(false) {
            effects = self.sync(vcpu, hw);
            self.resample(vcpu, hw);
        }
        (self.read(vcpu, access), effects)
    }

    /// What `vcpu` reads, if list registers make no difference to it.
    pub fn recorded(&self, vcpu: usize, access: Access) -> Option<u64> {
        (!access.needs_fold(false)).then(|| self.read(vcpu, access))
    }

    /// A write of a word by `vcpu`, if list registers make no difference to it. None: they do, and nothing was done.
    pub fn record(&mut self, vcpu: usize, access: Access, value: u32) -> Option<Effects> {
        (!access.needs_fold(true)).then(|| self.write(vcpu, access, value.into()))
    }

    /// What the records have.
    fn read(&self, vcpu: usize, access: Access) -> u64 {
        let word = self.read_word(vcpu, access.word());
        match access.width {
            4 => word.into(),
            8 => u64::from(word) | u64::from(self.read_word(vcpu, access.word() + 4)) << 32,
            _ => (word >> access.shift() & access.mask()).into(),
        }
    }

    /// A write by `vcpu`, which is loaded on this core.
    #[inline]
    pub fn distributor_write(
        &mut self,
        vcpu: usize,
        access: Access,
        value: u64,
        hw: &mut impl ListRegisterFile,
    ) -> Effects {
        if !access.needs_fold(true) {
            return self.write(vcpu, access, value);
        }
        let mut effects = self.sync(vcpu, hw);
        effects |= self.write(vcpu, access, value);
        self.settle(vcpu, hw);
        effects
    }

    /// Changes the records.
    fn write(&mut self, vcpu: usize, access: Access, value: u64) -> Effects {
        // What is written most is not searched for.
        if access == Access::SGIR {
            return self.send_sgi(vcpu, value as u32);
        }
        let (word, shift, mask) = (access.word(), access.shift(), access.mask());
        let low = (value as u32 & mask) << shift;
        let mut effects = self.write_word(vcpu, word, low, mask << shift);
        if access.width == 8 {
            let high = (value >> 32) as u32;
            effects |= self.write_word(vcpu, word + 4, high, u32::MAX);
        }
        effects
    }

    /// The word at an offset.
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
            // RAZ/WI with one CPU.
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

    /// Writes the bits of `mask`; those of `value` that are not in it are 0.
    fn write_word(&mut self, vcpu: usize, offset: u16, value: u32, mask: u32) -> Effects {
        match Register::at(offset) {
            Register::Ctlr if mask & 0xff != 0 => {
                let ctlr = value & 3;
                if *self.dist.ctlr == ctlr {
                    return Effects::default();
                }
                *self.dist.ctlr = ctlr;
                self.forward()
            }
            Register::Group(n) => {
                self.write_bits(Bits::Group, Rule::Write, vcpu, n.into(), value, mask)
            }
            Register::Enable(rule, n) => {
                // SGIs are always enabled.
                let fixed = if n == 0 { 0xffff } else { 0 };
                self.write_bits(Bits::Enable, rule, vcpu, n.into(), value & !fixed, mask)
            }
            Register::Pending(rule, n) => {
                let n = usize::from(n);
                let sgis = if n == 0 { 0xffff } else { 0 };
                self.write_bits(Bits::Latch, rule, vcpu, n, value & !sgis, mask)
            }
            Register::Active(rule, n) => self.write_active(rule, vcpu, n.into(), value),
            Register::Priority(first) => {
                self.write_bytes(first, value, mask, |vgic, intid, byte| {
                    let byte = byte & !7;
                    match intid.checked_sub(FIRST_SPI) {
                        Some(spi) => vgic.dist.spi_prio[usize::from(spi)] = byte,
                        None => vgic.cpus[vcpu].state.priv_prio[usize::from(intid)] = byte,
                    }
                    vgic.replace(vcpu, intid)
                })
            }
            Register::Targets(_) if self.cpus.len() == 1 => Effects::default(),
            Register::Targets(first) => {
                self.write_bytes(first, value, mask, |vgic, intid, byte| {
                    let Some(spi) = intid.checked_sub(FIRST_SPI) else {
                        return Effects::default();
                    };
                    vgic.dist.spi_targets[usize::from(spi)] = byte & vgic.all_cpus().0;
                    vgic.replace(vcpu, intid)
                })
            }
            Register::Config(first) => self.write_config(first, value, mask),
            Register::Sgir if mask == u32::MAX => self.send_sgi(vcpu, value),
            Register::SgiPending(Rule::Set, first) => {
                self.write_bytes(first, value, mask, |vgic, sgi, sources| {
                    vgic.add_sources(vcpu, sgi, sources & vgic.all_cpus().0)
                })
            }
            Register::SgiPending(_, first) => {
                self.write_bytes(first, value, mask, |vgic, sgi, sources| {
                    vgic.cpus[vcpu].state.sgi_src[usize::from(sgi)] &= !sources;
                    vgic.replace(vcpu, sgi)
                })
            }
            _ => Effects::default(),
        }
    }

    /// Of word `n`, the bits whose INTIDs there are.
    fn if_implemented(&self, n: u8, word: impl FnOnce(usize) -> u32) -> u32 {
        let n = usize::from(n);
        match self.implemented(n) {
            0 => 0,
            implemented => word(n) & implemented,
        }
    }

    /// The INTIDs of word `n` that there are.
    fn implemented(&self, n: usize) -> u32 {
        match usize::from(self.nr_irqs()).saturating_sub(n * 32) {
            0 => 0,
            left @ 1..32 => (1 << left) - 1,
            _ => u32::MAX,
        }
    }

    fn write_bits(
        &mut self,
        register: Bits,
        rule: Rule,
        vcpu: usize,
        n: usize,
        value: u32,
        mask: u32,
    ) -> Effects {
        let implemented = self.implemented(n);
        if implemented == 0 {
            return Effects::default();
        }
        let old = self.word(register, vcpu, n);
        let new = match rule {
            Rule::Write => old & !mask | value,
            Rule::Set => old | value,
            Rule::Clear => old & !value,
        };
        let mut effects = Effects::default();
        for intid in intids(n, (old ^ new) & implemented) {
            self.set_bit(register, vcpu, intid, new & (1 << (intid % 32)) != 0);
            effects |= self.replace(vcpu, intid);
        }
        effects
    }

    fn write_active(&mut self, rule: Rule, vcpu: usize, n: usize, value: u32) -> Effects {
        let mut effects = Effects::default();
        for intid in intids(n, value & self.implemented(n)) {
            // Only if the caller has not synced the vCPU that has it.
            if self.is_resident(vcpu, intid) {
                continue;
            }
            let active = self.is_active(vcpu, intid);
            match rule {
                Rule::Clear if active => effects |= self.change(vcpu, intid, Irq::deactivate),
                // Whoever made it active is the likeliest to deactivate it.
                Rule::Set if !active => {
                    effects |= self.change(vcpu, intid, |irq| irq.activate(vcpu, 0))
                }
                _ => {}
            }
        }
        effects
    }

    fn write_bytes(
        &mut self,
        first: u16,
        value: u32,
        mask: u32,
        mut write: impl FnMut(&mut Self, u16, u8) -> Effects,
    ) -> Effects {
        let mut effects = Effects::default();
        for (intid, lane) in (first..(first + 4).min(self.nr_irqs())).zip(0..) {
            if mask.to_le_bytes()[lane] != 0 {
                effects |= write(self, intid, value.to_le_bytes()[lane]);
            }
        }
        effects
    }

    /// As QEMU has it, the configuration of a PPI is the same for all CPUs; that of an SGI is fixed.
    fn write_config(&mut self, first: u16, value: u32, mask: u32) -> Effects {
        // Of the two bits of an interrupt, the upper one says it.
        let edges =
            |fields: u32| (0..16).fold(0, |bits, n| bits | (fields >> (2 * n + 1) & 1) << n);
        let edges = |fields| edges(fields) << (first % 32);
        let (value, mask) = (edges(value & mask), edges(mask));
        if first >= FIRST_SPI {
            return self.write_bits(
                Bits::Edge,
                Rule::Write,
                0,
                usize::from(first / 32),
                value,
                mask,
            );
        }
        let mut effects = Effects::default();
        for vcpu in 0..self.cpus.len() {
            effects |= self.write_private_config(vcpu, value, mask & !0xffff);
        }
        effects
    }

    fn write_private_config(&mut self, vcpu: usize, value: u32, mask: u32) -> Effects {
        let state = &mut self.cpus[vcpu].state;
        let changed = (*state.priv_edge ^ value) & mask;
        if changed == 0 {
            return Effects::default();
        }
        *state.priv_edge ^= changed;
        // Of these alone it decides whether they are pending.
        let lines = changed & *state.priv_level & !*state.priv_latch;
        let mut effects = self.mark_dirty(vcpu);
        for intid in intids(0, lines) {
            effects |= self.replace(vcpu, intid);
        }
        effects
    }
}

/// The INTIDs of the bits that are set in word `n`.
fn intids(n: usize, word: u32) -> impl Iterator<Item = u16> {
    const { assert!(MAX_INTIDS <= 32 * 32) };
    bits(word).map(move |bit| (n * 32 + bit) as u16)
}
