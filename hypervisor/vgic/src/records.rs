//! Access to the records: one interrupt at once, as a copy ([`Irq`]), or a register word by word,
//! bit by bit.

use crate::irq::{FIRST_SPI, Irq, SGIS};
use crate::place::Place;
use crate::vgic::{Vgic, VirtualCpu};

/// A register with one bit for each interrupt.
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

impl Vgic {
    /// Returns a copy of all that the records say of an interrupt as `vcpu` sees it.
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

    /// Writes back what fold and fill have changed in the copy `irq`: whether the interrupt is
    /// active and for whom, and why it is pending. From now on it is at `place`.
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

    /// Returns word `word` of a register as `vcpu` sees it: word 0 is banked.
    #[inline]
    pub(crate) fn word(&self, bits: Bits, vcpu: usize, word: usize) -> u32 {
        self.word_here(bits, vcpu, word)
    }

    /// Returns what [`Self::word`] returns. Compiled where it is called, for a register that is
    /// known there.
    #[inline(always)]
    pub(crate) fn word_here(&self, bits: Bits, vcpu: usize, word: usize) -> u32 {
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

    /// Returns word `word` of a register as [`Self::word`] does, to be changed.
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

    /// Returns the bit of an interrupt in a register.
    #[inline]
    pub(crate) fn bit(&self, bits: Bits, vcpu: usize, intid: u16) -> bool {
        self.word(bits, vcpu, usize::from(intid / 32)) & (1 << (intid % 32)) != 0
    }

    /// Changes the bit of an interrupt in a register. Whoever changes one that decides where the
    /// interrupt belongs calls [`Vgic::relocate`] afterwards.
    #[inline]
    pub(crate) fn set_bit(&mut self, bits: Bits, vcpu: usize, intid: u16, value: bool) {
        let word = self.word_mut(bits, vcpu, usize::from(intid / 32));
        let bit = 1 << (intid % 32);
        *word = if value { *word | bit } else { *word & !bit };
    }

    /// Returns an interrupt's priority, as in GICD_IPRIORITYR.
    #[inline]
    pub(crate) fn priority(&self, vcpu: usize, intid: u16) -> u8 {
        match intid.checked_sub(FIRST_SPI) {
            Some(spi) => self.dist.spi_prio[usize::from(spi)],
            None => self.cpus[vcpu].state.priv_prio[usize::from(intid)],
        }
    }

    /// Returns whether an interrupt is pending: see [`Irq::is_pending`].
    #[inline]
    pub(crate) fn is_pending(&self, vcpu: usize, intid: u16) -> bool {
        self.irq(vcpu, intid).is_pending()
    }

    /// Returns a word of GICD_ISPENDR.
    pub(crate) fn pending_word(&self, vcpu: usize, word: usize) -> u32 {
        let lines = self.word(Bits::Level, vcpu, word) & !self.word(Bits::Edge, vcpu, word);
        let pending = self.word(Bits::Latch, vcpu, word) | lines;
        if word != 0 {
            return pending;
        }
        let sources = &*self.cpus[vcpu].state.sgi_src;
        // Mostly, no SGI is pending.
        if u128::from_ne_bytes(*sources) == 0 {
            return pending;
        }
        let sources = sources.iter().enumerate();
        sources.fold(pending, |pending, (sgi, &sources)| pending | (u32::from(sources != 0) << sgi))
    }

    /// Returns whether an interrupt is active.
    #[inline]
    pub(crate) fn is_active(&self, vcpu: usize, intid: u16) -> bool {
        self.bit(Bits::Active, vcpu, intid)
    }

    /// Returns the vCPU that holds the interrupt active.
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
