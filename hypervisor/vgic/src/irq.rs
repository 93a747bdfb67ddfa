//! The state of one interrupt in the records, whether private or shared.

use stasis_state::vgic::{NO_CPU, PRIVATE_INTIDS};

use crate::place::Place;
use crate::vgic::{Cause, Vgic, VirtualCpu};
use crate::waiting::Kind;

/// SGIs are the INTIDs below this.
pub(crate) const SGIS: u16 = 16;
/// SPIs are the INTIDs from here on.
pub(crate) const FIRST_SPI: u16 = PRIVATE_INTIDS as u16;

/// A register with one bit per interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bits {
    Group,
    Enable,
    /// The pending latch. SGIs have their sources instead.
    Latch,
    Level,
    Active,
    Edge,
}

/// What the records say of one interrupt, read at once: the words that it has its bit in. Fold and fill change this copy, and
/// write it back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Irq {
    bit: u32,
    group: u32,
    enable: u32,
    latch: u32,
    level: u32,
    active: u32,
    edge: u32,
    /// The vCPUs that an SGI is pending from; 0 for all other interrupts.
    pub(crate) sources: u8,
    /// The vCPU that sent an SGI that is active; else 0.
    pub(crate) active_source: u8,
    /// The vCPU that holds it, if it is active.
    pub(crate) holder: u8,
    /// The vCPUs that it may be offered to.
    targets: u8,
    pub(crate) priority: u8,
}

impl Irq {
    /// GICD_ISPENDR's bit: the latch, or the line of a level-sensitive interrupt, or a source.
    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        self.sources != 0 || (self.latch | self.level & !self.edge) & self.bit != 0
    }

    #[inline]
    pub(crate) fn is_enabled(&self) -> bool {
        self.enable & self.bit != 0
    }

    #[inline]
    pub(crate) fn is_group1(&self) -> bool {
        self.group & self.bit != 0
    }

    #[inline]
    pub(crate) fn group(&self) -> Kind {
        if self.is_group1() { Kind::Group1 } else { Kind::Group0 }
    }

    #[inline]
    pub(crate) fn is_latched(&self) -> bool {
        self.latch & self.bit != 0
    }

    /// Whether it is level-sensitive, and its line is high.
    #[inline]
    pub(crate) fn is_asserted(&self) -> bool {
        self.level & !self.edge & self.bit != 0
    }

    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        self.active & self.bit != 0
    }

    #[inline]
    pub(crate) fn is_edge(&self) -> bool {
        self.edge & self.bit != 0
    }

    /// The vCPU that is offered the interrupt: of several targets the first, so that there is only
    /// ever one (the 1-N model, IHI 0048B.b 1.4.2). Which of them it is, is the GIC's choice.
    #[inline]
    pub(crate) fn target(&self) -> Option<usize> {
        (self.targets != 0).then_some(self.targets.trailing_zeros() as usize)
    }

    /// Sets the pending latch.
    #[inline]
    pub(crate) fn latch(&mut self) {
        self.latch |= self.bit;
    }

    /// Clears the pending latch. If it was set, that is why it was pending; else it was its line.
    #[inline]
    pub(crate) fn take_latch(&mut self) -> Cause {
        let cause = if self.is_latched() { Cause::Latch } else { Cause::None };
        self.latch &= !self.bit;
        cause
    }

    /// Has the line be low.
    #[inline]
    pub(crate) fn lower(&mut self) {
        self.level &= !self.bit;
    }

    /// `vcpu` holds it, which for an SGI came from `source`.
    #[inline]
    pub(crate) fn activate(&mut self, vcpu: usize, source: u8) {
        self.active |= self.bit;
        self.holder = vcpu as u8;
        self.active_source = source;
    }

    /// Nobody holds it any more.
    #[inline]
    pub(crate) fn deactivate(&mut self) {
        self.active &= !self.bit;
        self.holder = NO_CPU;
        self.active_source = 0;
    }
}

/// The numbers of the bits that are set.
#[inline]
pub(crate) fn bits(mut word: u32) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word &= word.checked_sub(1)?;
        Some(bit)
    })
}

impl Vgic {
    /// All that the records say of an interrupt as `vcpu` sees it.
    #[inline]
    pub(crate) fn irq(&self, vcpu: usize, intid: u16) -> Irq {
        #[cfg(test)]
        crate::tests::cost::look();
        let bit = 1 << (intid % 32);
        let Some(spi) = intid.checked_sub(FIRST_SPI).map(usize::from) else {
            let cpu = &self.cpus[vcpu].state;
            let sgi = usize::from(intid);
            let is_sgi = intid < SGIS;
            return Irq {
                bit,
                group: *cpu.priv_group,
                enable: *cpu.priv_enable,
                latch: *cpu.priv_latch,
                level: *cpu.priv_level,
                active: *cpu.priv_active,
                edge: *cpu.priv_edge,
                sources: if is_sgi { cpu.sgi_src[sgi] } else { 0 },
                active_source: if is_sgi { cpu.sgi_active_src[sgi] } else { 0 },
                holder: vcpu as u8,
                targets: 1 << vcpu,
                priority: cpu.priv_prio[usize::from(intid)],
            };
        };
        let (dist, word) = (&self.dist, spi / 32);
        Irq {
            bit,
            group: dist.spi_group[word],
            enable: dist.spi_enable[word],
            latch: dist.spi_latch[word],
            level: dist.spi_level[word],
            active: dist.spi_active[word],
            edge: dist.spi_edge[word],
            sources: 0,
            active_source: 0,
            holder: dist.spi_active_cpu[spi],
            targets: if self.cpus.len() == 1 { 1 } else { dist.spi_targets[spi] },
            priority: dist.spi_prio[spi],
        }
    }

    /// Writes back what fold and fill have changed: whether it is active and for whom, why it is pending; and where it is now.
    #[inline]
    pub(crate) fn write_back(&mut self, vcpu: usize, intid: u16, irq: &Irq, place: Place) {
        let Some(spi) = intid.checked_sub(FIRST_SPI).map(usize::from) else {
            let VirtualCpu { state: cpu, places, .. } = &mut self.cpus[vcpu];
            let sgi = usize::from(intid);
            *cpu.priv_latch = irq.latch;
            *cpu.priv_level = irq.level;
            *cpu.priv_active = irq.active;
            if intid < SGIS {
                cpu.sgi_src[sgi] = irq.sources;
                cpu.sgi_active_src[sgi] = irq.active_source;
            }
            places[sgi] = place;
            return;
        };
        let (dist, word) = (&mut self.dist, spi / 32);
        dist.spi_latch[word] = irq.latch;
        dist.spi_level[word] = irq.level;
        dist.spi_active[word] = irq.active;
        dist.spi_active_cpu[spi] = irq.holder;
        self.spi_places[spi] = place;
    }

    /// Word `word` of a register as `vcpu` sees it: word 0 is banked.
    #[inline]
    pub(crate) fn word(&self, bits: Bits, vcpu: usize, word: usize) -> u32 {
        let Some(shared) = word.checked_sub(1) else {
            let cpu = &self.cpus[vcpu].state;
            return match bits {
                Bits::Group => *cpu.priv_group,
                Bits::Enable => *cpu.priv_enable,
                Bits::Latch => *cpu.priv_latch,
                Bits::Level => *cpu.priv_level,
                Bits::Active => *cpu.priv_active,
                Bits::Edge => *cpu.priv_edge,
            };
        };
        let dist = &self.dist;
        match bits {
            Bits::Group => dist.spi_group[shared],
            Bits::Enable => dist.spi_enable[shared],
            Bits::Latch => dist.spi_latch[shared],
            Bits::Level => dist.spi_level[shared],
            Bits::Active => dist.spi_active[shared],
            Bits::Edge => dist.spi_edge[shared],
        }
    }

    #[inline]
    fn word_mut(&mut self, bits: Bits, vcpu: usize, word: usize) -> &mut u32 {
        let Some(shared) = word.checked_sub(1) else {
            let cpu = &mut self.cpus[vcpu].state;
            return match bits {
                Bits::Group => &mut cpu.priv_group,
                Bits::Enable => &mut cpu.priv_enable,
                Bits::Latch => &mut cpu.priv_latch,
                Bits::Level => &mut cpu.priv_level,
                Bits::Active => &mut cpu.priv_active,
                Bits::Edge => &mut cpu.priv_edge,
            };
        };
        let dist = &mut self.dist;
        match bits {
            Bits::Group => &mut dist.spi_group[shared],
            Bits::Enable => &mut dist.spi_enable[shared],
            Bits::Latch => &mut dist.spi_latch[shared],
            Bits::Level => &mut dist.spi_level[shared],
            Bits::Active => &mut dist.spi_active[shared],
            Bits::Edge => &mut dist.spi_edge[shared],
        }
    }

    /// One bit of a register.
    #[inline]
    pub(crate) fn bit(&self, bits: Bits, vcpu: usize, intid: u16) -> bool {
        self.word(bits, vcpu, usize::from(intid / 32)) & (1 << (intid % 32)) != 0
    }

    /// Changes one bit of a register. Whoever changes one that decides where the interrupt belongs
    /// calls [`Vgic::replace`] afterwards.
    #[inline]
    pub(crate) fn set_bit(&mut self, bits: Bits, vcpu: usize, intid: u16, value: bool) {
        let word = self.word_mut(bits, vcpu, usize::from(intid / 32));
        let bit = 1 << (intid % 32);
        *word = if value { *word | bit } else { *word & !bit };
    }

    #[inline]
    pub(crate) fn priority(&self, vcpu: usize, intid: u16) -> u8 {
        match intid.checked_sub(FIRST_SPI) {
            Some(spi) => self.dist.spi_prio[usize::from(spi)],
            None => self.cpus[vcpu].state.priv_prio[usize::from(intid)],
        }
    }

    /// See [`Irq::is_pending`].
    #[inline]
    pub(crate) fn is_pending(&self, vcpu: usize, intid: u16) -> bool {
        self.irq(vcpu, intid).is_pending()
    }

    /// A word of GICD_ISPENDR.
    pub(crate) fn pending_word(&self, vcpu: usize, word: usize) -> u32 {
        let lines = self.word(Bits::Level, vcpu, word) & !self.word(Bits::Edge, vcpu, word);
        let pending = self.word(Bits::Latch, vcpu, word) | lines;
        if word != 0 {
            return pending;
        }
        let sources = &*self.cpus[vcpu].state.sgi_src;
        // Mostly none.
        if u128::from_ne_bytes(*sources) == 0 {
            return pending;
        }
        let sources = sources.iter().enumerate();
        sources.fold(pending, |pending, (sgi, &sources)| pending | (u32::from(sources != 0) << sgi))
    }

    #[inline]
    pub(crate) fn is_active(&self, vcpu: usize, intid: u16) -> bool {
        self.bit(Bits::Active, vcpu, intid)
    }

    /// Who holds the interrupt active.
    #[inline]
    pub(crate) fn holder(&self, vcpu: usize, intid: u16) -> Option<usize> {
        if !self.is_active(vcpu, intid) {
            return None;
        }
        Some(match intid.checked_sub(FIRST_SPI) {
            Some(spi) => usize::from(self.dist.spi_active_cpu[usize::from(spi)]),
            None => vcpu,
        })
    }
}
