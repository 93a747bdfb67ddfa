//! The second model: a GICv2 without list registers, in the most obvious way.

use super::interface::{Interface, Offer, SPURIOUS, iar};
use super::machine::*;

#[derive(Clone, Debug, Default)]
pub struct Irq {
    pub enabled: bool,
    pub group1: bool,
    pub priority: u8,
    pub edge: bool,
    pub latch: bool,
    pub line: bool,
    /// The vCPUs that have sent an SGI, a bit each.
    pub sources: u8,
    pub active: Option<usize>,
    pub active_source: u8,
    pub targets: u8,
}

pub struct Reference {
    pub ctlr: u32,
    /// Per CPU, INTIDs 0 to 31.
    pub private: Vec<Vec<Irq>>,
    pub shared: Vec<Irq>,
    pub interfaces: Vec<Interface>,
}

impl Reference {
    pub fn at_reset(cpus: usize) -> Self {
        let private = |intid| Irq { enabled: intid < 16, edge: intid < 16, ..Irq::default() };
        let shared = Irq { targets: u8::from(cpus == 1), ..Irq::default() };
        Self {
            ctlr: 0,
            private: vec![(0..32).map(private).collect(); cpus],
            shared: vec![shared; 32],
            interfaces: vec![Interface::reset(); cpus],
        }
    }

    pub fn irq(&mut self, cpu: usize, intid: u16) -> &mut Irq {
        match intid {
            0..32 => &mut self.private[cpu][usize::from(intid)],
            _ => &mut self.shared[usize::from(intid) - 32],
        }
    }

    fn get(&self, cpu: usize, intid: u16) -> &Irq {
        match intid {
            0..32 => &self.private[cpu][usize::from(intid)],
            _ => &self.shared[usize::from(intid) - 32],
        }
    }

    fn pending(&self, cpu: usize, intid: u16) -> bool {
        let irq = self.get(cpu, intid);
        irq.sources != 0 || irq.latch || irq.line && !irq.edge
    }

    /// Returns the best that is offered to a CPU.
    pub fn best(&self, cpu: usize) -> Option<Offer> {
        let offered = (0..64).filter(|&intid| {
            let irq = self.get(cpu, intid);
            let group = u32::from(irq.group1);
            let mine = intid < 32 || irq.targets.trailing_zeros() as usize == cpu;
            let forwarded = irq.enabled && self.ctlr & (1 << group) != 0;
            self.pending(cpu, intid) && forwarded && mine && irq.active.is_none()
        });
        let best = offered.min_by_key(|&intid| (self.get(cpu, intid).priority, intid))?;
        let irq = self.get(cpu, best);
        Some(Offer {
            priority: irq.priority,
            intid: best,
            source: if best < 16 { irq.sources.trailing_zeros() as u8 } else { 0 },
            group1: irq.group1,
        })
    }

    pub fn signals(&self, cpu: usize) -> bool {
        self.best(cpu).is_some_and(|offer| self.interfaces[cpu].signals(offer))
    }

    pub fn iar(&mut self, cpu: usize) -> u32 {
        let best = self.best(cpu);
        match self.interfaces[cpu].acknowledge(best) {
            Err(special) => special,
            Ok(offer) => {
                let irq = self.irq(cpu, offer.intid);
                irq.active = Some(cpu);
                irq.active_source = offer.source;
                irq.latch = false;
                irq.sources &= !(1 << offer.source);
                iar(offer)
            }
        }
    }

    pub fn eoir(&mut self, cpu: usize, value: u32) {
        self.interfaces[cpu].drop_priority();
        let irq = self.irq(cpu, (value & 0x3ff) as u16);
        if irq.active == Some(cpu) && !self.interfaces[cpu].splits_eoi() {
            self.deactivate(cpu, value);
        }
    }

    pub fn dir(&mut self, cpu: usize, value: u32) {
        assert_ne!(value, SPURIOUS);
        if self.interfaces[cpu].splits_eoi() {
            self.deactivate(cpu, value);
        }
    }

    fn deactivate(&mut self, cpu: usize, value: u32) {
        let irq = self.irq(cpu, (value & 0x3ff) as u16);
        irq.active = None;
        irq.active_source = 0;
    }

    pub fn line(&mut self, cpu: usize, intid: u16, level: bool) {
        let irq = self.irq(cpu, intid);
        irq.latch |= irq.edge && level && !irq.line;
        irq.line = level;
    }

    fn sgir(&mut self, cpu: usize, value: u32) {
        for target in 0..self.private.len() {
            let hit = match value >> 24 & 3 {
                0 => value >> (16 + target) & 1 != 0,
                1 => target != cpu,
                2 => target == cpu,
                _ => true,
            };
            if hit {
                self.private[target][(value & 15) as usize].sources |= 1 << cpu;
            }
        }
    }

    pub fn read(&self, cpu: usize, offset: u64, width: u8) -> u32 {
        (0..u64::from(width))
            .fold(0, |value, n| value | u32::from(self.read_byte(cpu, offset + n)) << (8 * n))
    }

    fn read_byte(&self, cpu: usize, offset: u64) -> u8 {
        let bits = |base: u64, bit: &dyn Fn(u16) -> bool| {
            let first = ((offset - base) * 8) as u16;
            (0..8).fold(0, |byte, n| {
                let set = first + n < 64 && bit(first + n);
                byte | u8::from(set) << n
            })
        };
        let irq = |intid: u64| (intid < 64).then(|| self.get(cpu, intid as u16));
        match offset {
            0x000 => self.ctlr as u8,
            0x004 => 1 | (self.private.len() as u8 - 1) << 5,
            0x008 => 0x3b,
            0x009 => 0x04,
            0x080..0x100 => bits(IGROUPR, &|i| self.get(cpu, i).group1),
            0x100..0x180 => bits(ISENABLER, &|i| self.get(cpu, i).enabled),
            0x180..0x200 => bits(ICENABLER, &|i| self.get(cpu, i).enabled),
            0x200..0x280 => bits(ISPENDR, &|i| self.pending(cpu, i)),
            0x280..0x300 => bits(ICPENDR, &|i| self.pending(cpu, i)),
            0x300..0x380 => bits(ISACTIVER, &|i| self.get(cpu, i).active.is_some()),
            0x380..0x400 => bits(ICACTIVER, &|i| self.get(cpu, i).active.is_some()),
            0x400..0x800 => irq(offset - IPRIORITYR).map_or(0, |irq| irq.priority),
            0x800..0xc00 if self.private.len() == 1 => 0,
            0x800..0x820 => 1 << cpu,
            0x820..0xc00 => irq(offset - ITARGETSR).map_or(0, |irq| irq.targets),
            0xc00..0xd00 => (0..4).fold(0, |byte, n| {
                let edge = irq((offset - ICFGR) * 4 + n).is_some_and(|irq| irq.edge);
                byte | u8::from(edge) << (2 * n + 1)
            }),
            0xf10..0xf20 => self.get(cpu, (offset - CPENDSGIR) as u16).sources,
            0xf20..0xf30 => self.get(cpu, (offset - SPENDSGIR) as u16).sources,
            0xfd0..0x1000 if offset.is_multiple_of(4) => {
                [4, 0, 0, 0, 0x90, 0xb4, 0x2b, 0, 0x0d, 0xf0, 0x05, 0xb1]
                    [(offset - 0xfd0) as usize / 4]
            }
            _ => 0,
        }
    }

    pub fn write(&mut self, cpu: usize, offset: u64, width: u8, value: u32) {
        if offset == SGIR {
            if width == 4 {
                self.sgir(cpu, value);
            }
            return;
        }
        for n in 0..u64::from(width) {
            self.write_byte(cpu, offset + n, (value >> (8 * n)) as u8);
        }
    }

    fn write_byte(&mut self, cpu: usize, offset: u64, value: u8) {
        let all = u8::MAX >> (8 - self.private.len());
        let bit_intids = |base: u64| {
            let first = ((offset - base) * 8) as u16;
            (0..8).map(move |n| (first + n, value & (1 << n) != 0)).filter(|(i, _)| *i < 64)
        };
        match offset {
            0x000 => self.ctlr = u32::from(value & 3),
            0x080..0x100 => {
                bit_intids(IGROUPR).for_each(|(i, bit)| self.irq(cpu, i).group1 = bit);
            }
            0x100..0x180 => {
                bit_intids(ISENABLER).for_each(|(i, bit)| self.irq(cpu, i).enabled |= bit);
            }
            0x180..0x200 => bit_intids(ICENABLER)
                .filter(|(i, _)| *i >= 16)
                .for_each(|(i, bit)| self.irq(cpu, i).enabled &= !bit),
            0x200..0x280 => bit_intids(ISPENDR)
                .filter(|(i, _)| *i >= 16)
                .for_each(|(i, bit)| self.irq(cpu, i).latch |= bit),
            0x280..0x300 => {
                bit_intids(ICPENDR).for_each(|(i, bit)| self.irq(cpu, i).latch &= !bit);
            }
            0x300..0x380 => bit_intids(ISACTIVER).filter(|(_, bit)| *bit).for_each(|(i, _)| {
                let irq = self.irq(cpu, i);
                irq.active = irq.active.or(Some(cpu));
            }),
            0x380..0x400 => bit_intids(ICACTIVER)
                .filter(|(_, bit)| *bit)
                .for_each(|(i, _)| self.deactivate(cpu, i.into())),
            0x400..0x440 => self.irq(cpu, (offset - IPRIORITYR) as u16).priority = value & 0xf8,
            0x820..0x840 if self.private.len() > 1 => {
                self.irq(cpu, (offset - ITARGETSR) as u16).targets = value & all;
            }
            0xc04..0xc10 => {
                for n in 0..4 {
                    let edge = value & (2 << (2 * n)) != 0;
                    for cpu in 0..self.private.len() {
                        self.irq(cpu, ((offset - ICFGR) * 4 + n) as u16).edge = edge;
                    }
                }
            }
            0xf10..0xf20 => self.irq(cpu, (offset - CPENDSGIR) as u16).sources &= !value,
            0xf20..0xf30 => self.irq(cpu, (offset - SPENDSGIR) as u16).sources |= value & all,
            _ => {}
        }
    }
}
