//! A GICv2 for tests, behind its registers (IHI 0048B.b): it does with its interrupts what the
//! architecture says.
//!
//! Each core has its own bank: the first 32 interrupts, GICC and GICH. [`Gic::core`] says which
//! core accesses it.

use crate::mmio::fake::{Bus, Device};
use std::cell::RefCell;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

pub const GICD: usize = 0x800_0000;
pub const GICC: usize = 0x801_0000;
pub const GICH: usize = 0x803_0000;

/// INTID that is signalled when nothing is pending (3.2.5).
const SPURIOUS: u32 = 1023;
/// The priority of a core that handles nothing.
const IDLE: u8 = 0xff;

/// The state of one interrupt, of an SPI or in a core's bank.
#[derive(Clone, Copy, Default)]
pub struct Interrupt {
    pub enabled: bool,
    /// Pending by an edge, an SGI or a write; a level is pending by its line.
    pub latched: bool,
    pub line: bool,
    pub active: bool,
    pub edge: bool,
    pub priority: u8,
    /// CPU interfaces, of an SPI.
    pub targets: u8,
    /// The CPUs that have sent an SGI that is pending, a bit each.
    pub senders: u8,
}

impl Interrupt {
    fn is_pending(&self) -> bool {
        self.senders != 0 || self.latched || (self.line && !self.edge)
    }
}

/// A core's bank.
#[derive(Clone)]
pub struct Bank {
    pub private: [Interrupt; 32],
    /// GICC_CTLR, GICC_PMR.
    pub control: u32,
    pub mask: u8,
    pub active_priorities: [u32; 4],
    /// Priorities of what was acknowledged and not ended, the last one last.
    pub running: Vec<(u32, u8)>,
    pub gich: [u32; 128],
}

/// The GIC of some cores.
pub struct Gic {
    pub core: usize,
    pub banks: Vec<Bank>,
    pub spis: Vec<Interrupt>,
    /// GICD_CTLR.
    pub control: u32,
    list_registers: usize,
}

impl Gic {
    /// Puts a GIC of `cores` cores with `spis` SPIs and `list_registers` list registers on the bus.
    /// Of what a reset does not define, everything is as a firmware may have left it: enabled,
    /// pending and active.
    pub fn attach(cores: usize, spis: usize, list_registers: usize) -> Rc<RefCell<Self>> {
        let left = Interrupt {
            enabled: true,
            latched: true,
            active: true,
            priority: 0x10,
            targets: 0x80,
            ..Interrupt::default()
        };
        let sgi = Interrupt { latched: false, senders: 0b10, ..left };
        let bank = Bank {
            private: core::array::from_fn(|intid| if intid < 16 { sgi } else { left }),
            control: 1,
            mask: 0,
            active_priorities: [0xffff; 4],
            running: Vec::new(),
            gich: [0; 128],
        };
        let gic = Rc::new(RefCell::new(Self {
            core: 0,
            banks: vec![bank; cores],
            spis: vec![left; spis],
            control: 0,
            list_registers,
        }));
        Bus::attach(GICD, 0x1000, Gicd(gic.clone()));
        Bus::attach(GICC, 0x2000, Gicc(gic.clone()));
        Bus::attach(GICH, 0x1000, Gich(gic.clone()));
        gic
    }

    /// Returns the interrupt as the core sees it that accesses the GIC.
    pub fn interrupt(&mut self, intid: usize) -> Option<&mut Interrupt> {
        match intid {
            0..32 => Some(&mut self.banks[self.core].private[intid]),
            _ => self.spis.get_mut(intid - 32),
        }
    }

    /// Raises or lowers the line of an interrupt; a rising one is an edge.
    pub fn set_line(&mut self, intid: usize, line: bool) {
        let interrupt = self.interrupt(intid).unwrap();
        interrupt.latched |= line && !interrupt.line && interrupt.edge;
        interrupt.line = line;
    }

    /// Returns the interrupt that would be signalled to the core (3.3): the most urgent one that is
    /// enabled, pending, not active, and its. More urgent than what it handles, and than its mask.
    pub fn signalled(&mut self) -> Option<u32> {
        let bank = &self.banks[self.core];
        if self.control & 0b11 == 0 || bank.control & 0b11 == 0 {
            return None;
        }
        let limit = bank.running.last().map_or(IDLE, |running| running.1).min(bank.mask);
        let cpu = 1 << self.core;
        let spis = self.spis.iter().map(|spi| (spi, spi.targets & cpu != 0));
        let all = bank.private.iter().map(|private| (private, true)).chain(spis).zip(0..);
        let ready = all.filter(|((interrupt, mine), _)| {
            *mine && interrupt.enabled && !interrupt.active && interrupt.is_pending()
        });
        let best = ready.map(|((interrupt, _), intid)| (interrupt.priority, intid)).min()?;
        (best.0 < limit).then_some(best.1)
    }

    fn acknowledge(&mut self) -> u32 {
        let Some(intid) = self.signalled() else { return SPURIOUS };
        let interrupt = self.interrupt(intid as usize).unwrap();
        (interrupt.active, interrupt.latched) = (true, false);
        let priority = interrupt.priority;
        // An SGI comes once from each sender.
        let sender = if intid < 16 { interrupt.senders.trailing_zeros() } else { 0 };
        interrupt.senders &= !(1 << sender);
        let core = self.core;
        let iar = intid | sender << 10;
        self.banks[core].running.push((iar, priority));
        iar
    }

    /// Does what a write to GICC_EOIR does (4.4.5): the priority drops, of the interrupt that was
    /// acknowledged last.
    fn end(&mut self, iar: u32) {
        let bank = &mut self.banks[self.core];
        let last = bank.running.pop().expect("an EOI of nothing is UNPREDICTABLE");
        assert_eq!(last.0, iar, "an EOI of another one than the last is UNPREDICTABLE");
        if bank.control & 1 << 9 == 0 {
            self.deactivate(iar);
        }
    }

    fn deactivate(&mut self, iar: u32) {
        let interrupt = self.interrupt(iar as usize & 0x3ff).unwrap();
        interrupt.active = false;
    }

    /// Sends an SGI (4.3.15).
    fn send(&mut self, value: u32) {
        let list = match value >> 24 & 0b11 {
            0 => value >> 16 & 0xff,
            1 => !(1 << self.core),
            _ => 1 << self.core,
        };
        let sender = self.core;
        let targets = self.banks.iter_mut().enumerate().filter(|(core, _)| list >> core & 1 != 0);
        for (_, bank) in targets {
            bank.private[value as usize & 0xf].senders |= 1 << sender;
        }
    }

    /// Accesses a bit-per-interrupt register (4.3.5 to 4.3.10): a write sets or clears what its
    /// ones say.
    fn bits(&mut self, offset: usize, written: Option<u64>) -> u64 {
        let first = offset % 0x80 * 8;
        let mut value = 0;
        for bit in 0..32 {
            let sgi = first + bit < 16;
            let Some(interrupt) = self.interrupt(first + bit) else { continue };
            let one = written.is_some_and(|written| written >> bit & 1 != 0);
            match offset & !0x7f {
                0x100 if one => interrupt.enabled = true,
                0x180 if one => interrupt.enabled = false,
                // The bits of SGIs are read-only.
                0x200 if one && !sgi => interrupt.latched = true,
                0x280 if one && !sgi => interrupt.latched = false,
                0x300 if one => interrupt.active = true,
                0x380 if one => interrupt.active = false,
                _ => {}
            }
            let is_set = match offset & !0xff {
                0x100 => interrupt.enabled,
                0x200 => interrupt.is_pending(),
                _ => interrupt.active,
            };
            value |= u64::from(is_set) << bit;
        }
        value
    }

    /// Accesses GICD_ICFGR (4.3.13): two bits an interrupt, of which the upper one says that it is
    /// edge-triggered.
    fn configuration(&mut self, offset: usize, written: Option<u64>) -> u64 {
        let first = offset % 0x100 * 4;
        (0..16).fold(0, |value, n| {
            let Some(interrupt) = self.interrupt(first + n) else { return value };
            if let Some(written) = written {
                assert!(
                    !interrupt.enabled || first + n < 32,
                    "what is enabled is not changed (4.3.13)"
                );
                interrupt.edge = written >> (n * 2 + 1) & 1 != 0;
            }
            value | u64::from(interrupt.edge) << (n * 2 + 1)
        })
    }
}

struct Gicd(Rc<RefCell<Gic>>);

impl Device for Gicd {
    fn read(&mut self, offset: usize, bytes: usize) -> u64 {
        let mut gic = self.0.borrow_mut();
        match (offset, bytes) {
            (0x000, 4) => gic.control.into(),
            (0x004, 4) => ((gic.spis.len() / 32) | ((gic.banks.len() - 1) << 5)) as u64,
            (0x100..0x400, 4) => gic.bits(offset, None),
            // A GIC of one core has none.
            (0x800..0xc00, 1) if gic.banks.len() == 1 => 0,
            (0x800..0x820, 1) => 1 << gic.core,
            (0x820..0xc00, 1) => gic.interrupt(offset - 0x800).map_or(0, |i| i.targets.into()),
            (0xc00..0xd00, 4) => gic.configuration(offset, None),
            _ => panic!("a read of {bytes} bytes at GICD + {offset:#x}"),
        }
    }

    fn write(&mut self, offset: usize, bytes: usize, value: u64) {
        let mut gic = self.0.borrow_mut();
        match (offset, bytes) {
            (0x000, 4) => gic.control = value as u32,
            (0x100..0x400, 4) => {
                gic.bits(offset, Some(value));
            }
            (0x400..0x800, 1) => {
                if let Some(interrupt) = gic.interrupt(offset - 0x400) {
                    interrupt.priority = value as u8;
                }
            }
            (0x820..0xc00, 1) => {
                if let Some(interrupt) = gic.interrupt(offset - 0x800) {
                    interrupt.targets = value as u8;
                }
            }
            (0xc00..0xd00, 4) => {
                gic.configuration(offset, Some(value));
            }
            (0xf00, 4) => gic.send(value as u32),
            // GICD_CPENDSGIR (4.3.16): a byte for each SGI, a bit for each sender.
            (0xf10..0xf20, 4) => {
                for n in 0..4 {
                    let sgi = gic.interrupt(offset - 0xf10 + n).unwrap();
                    sgi.senders &= !((value >> (8 * n)) as u8);
                }
            }
            _ => panic!("a write of {value:#x}, {bytes} bytes, to GICD + {offset:#x}"),
        }
    }
}

struct Gicc(Rc<RefCell<Gic>>);

impl Device for Gicc {
    fn read(&mut self, offset: usize, bytes: usize) -> u64 {
        match (offset, bytes) {
            (0x00c, 4) => self.0.borrow_mut().acknowledge().into(),
            _ => panic!("a read of {bytes} bytes at GICC + {offset:#x}"),
        }
    }

    fn write(&mut self, offset: usize, bytes: usize, value: u64) {
        let mut gic = self.0.borrow_mut();
        let core = gic.core;
        let bank = &mut gic.banks[core];
        match (offset, bytes) {
            (0x0000, 4) => bank.control = value as u32,
            (0x0004, 4) => bank.mask = value as u8,
            (0x0010, 4) => gic.end(value as u32),
            (0x00d0..0x00e0, 4) => bank.active_priorities[(offset - 0xd0) / 4] = value as u32,
            (0x1000, 4) => {
                assert!(bank.control & 1 << 9 != 0, "without EOImode it is UNPREDICTABLE (4.4.10)");
                let dropped = bank.running.iter().all(|(iar, _)| *iar != value as u32);
                assert!(dropped, "before its priority was dropped");
                gic.deactivate(value as u32);
            }
            _ => panic!("a write of {value:#x}, {bytes} bytes, to GICC + {offset:#x}"),
        }
    }
}

struct Gich(Rc<RefCell<Gic>>);

impl Device for Gich {
    fn read(&mut self, offset: usize, bytes: usize) -> u64 {
        let gic = self.0.borrow();
        assert_eq!(bytes, 4);
        match offset {
            0x004 => ((gic.list_registers - 1) | (0b100_100 << 26)) as u64,
            _ => gic.banks[gic.core].gich[gic.gich_word(offset)].into(),
        }
    }

    fn write(&mut self, offset: usize, bytes: usize, value: u64) {
        let mut gic = self.0.borrow_mut();
        assert_eq!(bytes, 4);
        let (core, word) = (gic.core, gic.gich_word(offset));
        // CPUID and EOI share their bits, and what is reserved reads as zero (5.3.10).
        let kept = if offset >= 0x100 { !(0b111 << 20) | 0b111 << 10 } else { u64::MAX };
        gic.banks[core].gich[word] = (value & kept) as u32;
    }
}

impl Gic {
    /// Returns the word of a register of GICH that there is, and that can be written.
    fn gich_word(&self, offset: usize) -> usize {
        let registers = 0x100..0x100 + self.list_registers * 4;
        let known = matches!(offset, 0x000 | 0x008 | 0x0f0) || registers.contains(&offset);
        assert!(known, "an access to GICH + {offset:#x}");
        offset / 4
    }
}
