//! Writes to the distributor: what they do to the records.

use super::access::Access;
use super::register::{Register, Rule};
use crate::irq::{FIRST_SPI, Irq, bits};
use crate::records::Bits;
use crate::vcpus::Effects;
use crate::vgic::Vgic;
use stasis_state::vgic::MAX_INTIDS;

/// What a write does to the bits of a word.
#[derive(Clone, Copy)]
struct Change {
    set: u32,
    clear: u32,
}

impl Change {
    /// Returns what a write of the bits of `mask` does to a register of this rule. Other bits of
    /// `value` are 0.
    #[inline(always)]
    fn of(rule: Rule, value: u32, mask: u32) -> Self {
        match rule {
            Rule::Write => Self { set: value, clear: mask },
            Rule::Set => Self { set: value, clear: 0 },
            Rule::Clear => Self { set: 0, clear: value },
        }
    }
}

impl Vgic {
    /// Carries out a write on the records.
    pub(super) fn write(&mut self, vcpu: usize, access: Access, value: u64) -> Effects {
        // GICD_SGIR is written most, and so is not searched for.
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

    /// Writes the bits of `mask` in the word at `offset`. Other bits of `value` are 0.
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
                self.write_bits(Bits::Group, vcpu, n.into(), Change::of(Rule::Write, value, mask))
            }
            Register::Enable(rule, n) => {
                // SGIs are always enabled.
                let fixed = if n == 0 { 0xffff } else { 0 };
                let change = Change::of(rule, value & !fixed, mask);
                self.write_bits(Bits::Enable, vcpu, n.into(), change)
            }
            Register::Pending(rule, n) => {
                let n = usize::from(n);
                let sgis = if n == 0 { 0xffff } else { 0 };
                self.write_bits(Bits::Latch, vcpu, n, Change::of(rule, value & !sgis, mask))
            }
            Register::Active(rule, n) => self.write_active(rule, vcpu, n.into(), value),
            Register::Priority(first) => {
                self.write_bytes(first, value, mask, |vgic, intid, byte| {
                    let byte = byte & !7;
                    match intid.checked_sub(FIRST_SPI) {
                        Some(spi) => vgic.dist.spi_prio[usize::from(spi)] = byte,
                        None => vgic.cpus[vcpu].state.priv_prio[usize::from(intid)] = byte,
                    }
                    vgic.relocate(vcpu, intid)
                })
            }
            Register::Targets(_) if self.cpus.len() == 1 => Effects::default(),
            Register::Targets(first) => {
                self.write_bytes(first, value, mask, |vgic, intid, byte| {
                    let Some(spi) = intid.checked_sub(FIRST_SPI) else {
                        return Effects::default();
                    };
                    vgic.dist.spi_targets[usize::from(spi)] = byte & vgic.all_cpus().0;
                    vgic.relocate(vcpu, intid)
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
                    vgic.relocate(vcpu, sgi)
                })
            }
            _ => Effects::default(),
        }
    }

    /// Writes word `n` of a register with a bit for each interrupt.
    fn write_bits(&mut self, register: Bits, vcpu: usize, n: usize, change: Change) -> Effects {
        let implemented = self.implemented(n);
        if implemented == 0 {
            return Effects::default();
        }
        let old = self.word(register, vcpu, n);
        let new = old & !change.clear | change.set;
        let mut effects = Effects::default();
        for intid in intids(n, (old ^ new) & implemented) {
            self.set_bit(register, vcpu, intid, new & (1 << (intid % 32)) != 0);
            effects |= self.relocate(vcpu, intid);
        }
        effects
    }

    /// Writes word `n` of GICD_ISACTIVER or GICD_ICACTIVER.
    fn write_active(&mut self, rule: Rule, vcpu: usize, n: usize, value: u32) -> Effects {
        let mut effects = Effects::default();
        for intid in intids(n, value & self.implemented(n)) {
            // An interrupt is resident here only if the caller has not synced the vCPU that has it.
            if self.is_resident(vcpu, intid) {
                continue;
            }
            let active = self.is_active(vcpu, intid);
            match rule {
                Rule::Clear if active => effects |= self.change(vcpu, intid, Irq::deactivate),
                // The vCPU that makes an interrupt active is the likeliest to deactivate it.
                Rule::Set if !active => {
                    effects |= self.change(vcpu, intid, |irq| irq.activate(vcpu, 0))
                }
                _ => {}
            }
        }
        effects
    }

    /// Calls `write` for the bytes of `mask` in a register with a byte for each interrupt, of which
    /// `first` is the first.
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

    /// Writes the word of GICD_ICFGR that begins with INTID `first`. As QEMU has it, the
    /// configuration of a PPI is the same for all CPUs; that of an SGI is fixed.
    fn write_config(&mut self, first: u16, value: u32, mask: u32) -> Effects {
        // An interrupt has two bits, of which the upper one says whether it is edge-triggered.
        let edges =
            |fields: u32| (0..16).fold(0, |bits, n| bits | (fields >> (2 * n + 1) & 1) << n);
        let edges = |fields| edges(fields) << (first % 32);
        let (value, mask) = (edges(value & mask), edges(mask));
        if first >= FIRST_SPI {
            let change = Change::of(Rule::Write, value, mask);
            return self.write_bits(Bits::Edge, 0, usize::from(first / 32), change);
        }
        let mut effects = Effects::default();
        for vcpu in 0..self.cpus.len() {
            effects |= self.write_private_config(vcpu, value, mask & !0xffff);
        }
        effects
    }

    /// Writes the configuration of the PPIs of `mask` for one vCPU.
    fn write_private_config(&mut self, vcpu: usize, value: u32, mask: u32) -> Effects {
        let state = &mut self.cpus[vcpu].state;
        let changed = (*state.priv_edge ^ value) & mask;
        if changed == 0 {
            return Effects::default();
        }
        *state.priv_edge ^= changed;
        // The configuration decides whether these alone are pending.
        let lines = changed & *state.priv_level & !*state.priv_latch;
        let mut effects = self.mark_dirty(vcpu);
        for intid in intids(0, lines) {
            effects |= self.relocate(vcpu, intid);
        }
        effects
    }
}

/// Returns the INTIDs of the bits that are set in word `n`.
fn intids(n: usize, word: u32) -> impl Iterator<Item = u16> {
    const { assert!(MAX_INTIDS <= 32 * 32) };
    bits(word).map(move |bit| (n * 32 + bit) as u16)
}
