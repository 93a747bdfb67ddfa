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
use crate::irq::{Bits, FIRST_SPI, SGIS};
use crate::place::Place;
use crate::vgic::{Effects, VcpuMask, Vgic};

/// Bytes of the distributor's registers.
const SIZE: u64 = 0x1000;

/// An access to the distributor that it can answer. Others get an external abort, as on QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    offset: u16,
    width: u8,
}

impl Access {
    /// `width` bytes at `offset` from the distributor's base.
    pub fn checked(offset: u64, width: u8) -> Result<Self, Error> {
        if offset >= SIZE || !matches!(width, 1 | 2 | 4 | 8) || !offset.is_multiple_of(width.into())
        {
            return Err(Error::NoSuchAccess { offset, width });
        }
        Ok(Self { offset: offset as u16, width })
    }

    /// The words that it is part of, and its first bit in the first of them.
    fn words(self) -> (impl Iterator<Item = u16>, u32) {
        let first = self.offset & !3;
        let words = (first..self.offset + u16::from(self.width)).step_by(4);
        (words, u32::from(self.offset % 4) * 8)
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
    /// GICD_IGROUPR, ISENABLER, ICENABLER.
    Bits(Bits, Rule, usize),
    /// GICD_ISPENDR, ICPENDR.
    Pending(Rule, usize),
    /// GICD_ISACTIVER, ICACTIVER.
    Active(Rule, usize),
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
    Id(usize),
    /// RAZ/WI.
    Reserved,
}

impl Register {
    fn at(offset: u16) -> Self {
        let word = usize::from(offset % 0x80 / 4);
        match offset {
            0x000 => Self::Ctlr,
            0x004 => Self::Typer,
            0x008 => Self::Iidr,
            0x080..0x100 => Self::Bits(Bits::Group, Rule::Write, word),
            0x100..0x180 => Self::Bits(Bits::Enable, Rule::Set, word),
            0x180..0x200 => Self::Bits(Bits::Enable, Rule::Clear, word),
            0x200..0x280 => Self::Pending(Rule::Set, word),
            0x280..0x300 => Self::Pending(Rule::Clear, word),
            0x300..0x380 => Self::Active(Rule::Set, word),
            0x380..0x400 => Self::Active(Rule::Clear, word),
            0x400..0x800 => Self::Priority(offset - 0x400),
            0x800..0xc00 => Self::Targets(offset - 0x800),
            0xc00..0xd00 => Self::Config((offset - 0xc00) * 4),
            0xf00 => Self::Sgir,
            0xf10..0xf20 => Self::SgiPending(Rule::Clear, offset - 0xf10),
            0xf20..0xf30 => Self::SgiPending(Rule::Set, offset - 0xf20),
            0xfd0..0x1000 => Self::Id(usize::from(offset - 0xfd0) / 4),
            _ => Self::Reserved,
        }
    }

    /// The INTIDs whose list registers must have been folded, as only they know the answer, or what
    /// there is to clear.
    fn needs(self, write: bool) -> Option<Range<u16>> {
        let word = |word: usize| (word * 32) as u16..(word * 32 + 32) as u16;
        match self {
            // A latch is set whatever there was.
            Self::Pending(Rule::Set, _) | Self::SgiPending(Rule::Set, _) if write => None,
            Self::Pending(_, n) | Self::Active(_, n) => Some(word(n)),
            Self::SgiPending(_, sgi) => Some(sgi..sgi + 4),
            _ => None,
        }
    }
}

/// ICPIDR4 to 7, 0 to 3, ICCIDR0 to 3, as QEMU has them.
const ID: [u8; 12] = [0x04, 0x00, 0x00, 0x00, 0x90, 0xb4, 0x2b, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

impl Vgic {
    /// The other vCPUs whose list registers must be folded before `vcpu` makes this access. Stop
    /// each, [`Vgic::sync`] it on its core, and let none enter its guest before the access is made.
    pub fn needs_sync(&self, vcpu: usize, access: Access, write: bool) -> VcpuMask {
        let mut mask = VcpuMask::NONE;
        for word in access.words().0 {
            let intids = Register::at(word).needs(write).unwrap_or(0..0);
            for intid in intids.start.max(FIRST_SPI)..intids.end.min(self.nr_irqs()) {
                if let Place::Resident { vcpu } = self.place(0, intid) {
                    mask.0 |= VcpuMask::only(vcpu.into()).0;
                }
            }
        }
        mask.without(vcpu)
    }

    /// A read by `vcpu`, which is loaded on this core.
    pub fn distributor_read(
        &mut self,
        vcpu: usize,
        access: Access,
        hw: &mut impl ListRegisterFile,
    ) -> (u64, Effects) {
        let mut effects = Effects::default();
        let (words, shift) = access.words();
        let mut value = 0;
        for (n, offset) in words.enumerate() {
            let register = Register::at(offset);
            if register.needs(false).is_some() {
                effects |= self.sync(vcpu, hw);
                self.resample(vcpu, hw);
            }
            let word = (self.read_word(vcpu, register) >> shift) & access.mask();
            value |= u64::from(word) << (32 * n);
        }
        (value, effects)
    }

    /// A write by `vcpu`, which is loaded on this core.
    pub fn distributor_write(
        &mut self,
        vcpu: usize,
        access: Access,
        value: u64,
        hw: &mut impl ListRegisterFile,
    ) -> Effects {
        let mut effects = Effects::default();
        let (words, shift) = access.words();
        for (n, offset) in words.enumerate() {
            let register = Register::at(offset);
            if register.needs(true).is_some() {
                effects |= self.sync(vcpu, hw);
            }
            let word = (value >> (32 * n)) as u32 & access.mask();
            effects |= self.write_word(vcpu, register, word << shift, access.mask() << shift);
            if register.needs(true).is_some() {
                self.settle(vcpu, hw);
            }
        }
        effects
    }

    fn read_word(&self, vcpu: usize, register: Register) -> u32 {
        let bytes = |first: u16, byte: &dyn Fn(u16) -> u8| {
            let intids = first..(first + 4).min(self.nr_irqs());
            intids.fold(0, |word, intid| word | u32::from(byte(intid)) << (8 * (intid - first)))
        };
        match register {
            Register::Ctlr => *self.dist.ctlr,
            Register::Typer => {
                let lines = u32::from(self.nr_irqs()).div_ceil(32) - 1;
                lines | (self.cpus.len() as u32 - 1) << 5
            }
            Register::Iidr => *self.dist.iidr,
            Register::Bits(bits, _, n) => match self.implemented(n) {
                0 => 0,
                implemented => self.word(bits, vcpu, n) & implemented,
            },
            Register::Pending(_, n) => match self.implemented(n) {
                0 => 0,
                implemented => self.pending_word(vcpu, n) & implemented,
            },
            Register::Active(_, n) => match self.implemented(n) {
                0 => 0,
                implemented => self.word(Bits::Active, vcpu, n) & implemented,
            },
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
            Register::Id(n) => ID[n].into(),
            Register::Sgir | Register::Reserved => 0,
        }
    }

    /// Writes the bits of `mask`; those of `value` that are not in it are 0.
    fn write_word(&mut self, vcpu: usize, register: Register, value: u32, mask: u32) -> Effects {
        match register {
            Register::Ctlr if mask & 0xff != 0 => {
                let ctlr = value & 3;
                if *self.dist.ctlr == ctlr {
                    return Effects::default();
                }
                *self.dist.ctlr = ctlr;
                self.replace_all()
            }
            Register::Bits(bits, rule, n) => {
                // SGIs are always enabled.
                let fixed = if n == 0 && bits == Bits::Enable { 0xffff } else { 0 };
                self.write_bits(bits, rule, vcpu, n, value & !fixed, mask & !fixed)
            }
            Register::Pending(rule, n) => {
                let sgis = if n == 0 { 0xffff } else { 0 };
                self.write_bits(Bits::Latch, rule, vcpu, n, value & !sgis, mask)
            }
            Register::Active(rule, n) => self.write_active(rule, vcpu, n, value),
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
        bits: Bits,
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
        let old = self.word(bits, vcpu, n);
        let new = match rule {
            Rule::Write => old & !mask | value,
            Rule::Set => old | value,
            Rule::Clear => old & !value,
        };
        let mut effects = Effects::default();
        for intid in intids(n, (old ^ new) & implemented) {
            self.set_bit(bits, vcpu, intid, new & (1 << (intid % 32)) != 0);
            effects |= self.replace(vcpu, intid);
        }
        effects
    }

    fn write_active(&mut self, rule: Rule, vcpu: usize, n: usize, value: u32) -> Effects {
        let mut effects = Effects::default();
        for intid in intids(n, value & self.implemented(n)) {
            // Only if the caller has not synced the vCPU that has it.
            if matches!(self.place(vcpu, intid), Place::Resident { .. }) {
                continue;
            }
            let active = self.is_active(vcpu, intid);
            match rule {
                Rule::Clear if active => self.clear_active(vcpu, intid),
                // Whoever made it active is the likeliest to deactivate it.
                Rule::Set if !active => self.activate(vcpu, intid, 0),
                _ => continue,
            }
            effects |= self.replace(vcpu, intid);
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
        let mut effects = Effects::default();
        for (intid, bit) in (first..(first + 16).min(self.nr_irqs())).zip((1..).step_by(2)) {
            if intid < SGIS || mask & (1 << bit) == 0 {
                continue;
            }
            let banks = if intid < FIRST_SPI { self.cpus.len() } else { 1 };
            for vcpu in 0..banks {
                self.set_bit(Bits::Edge, vcpu, intid, value & (1 << bit) != 0);
                effects |= self.replace(vcpu, intid);
            }
        }
        effects
    }
}

/// The INTIDs of the bits that are set in word `n`.
fn intids(n: usize, bits: u32) -> impl Iterator<Item = u16> {
    const { assert!(MAX_INTIDS <= 32 * 32) };
    (0..32).filter(move |bit| bits & (1 << bit) != 0).map(move |bit| (n * 32) as u16 + bit)
}
