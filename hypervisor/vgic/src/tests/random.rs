//! Random histories, on the vGIC and on the second model: the same interrupts in the same order,
//! the same registers read back.

use proptest::collection::vec;
use proptest::prelude::*;

use super::hardware::Accesses;
use super::interface::{ACK_CTL, CBPR, ENABLE_BOTH, EOI_MODE};
use super::machine::*;
use super::reference::Reference;
use crate::VIRTUAL_TIMER;

/// The INTIDs that occur: SGIs 0 to 3, two PPIs, eight SPIs.
const PRIVATE: u32 = 0xf | 1 << 27 | 1 << 30;
const SHARED: u32 = 0xff;

#[derive(Clone, Debug)]
pub enum Op {
    Spi(u16, bool),
    Pulse(u16),
    Ppi(usize, bool),
    Timer(usize, bool),
    Acknowledge(usize),
    EndOfInterrupt(usize),
    Deactivate(usize, usize),
    Interface(usize, u32, u8, u8),
    Read(usize, u64, u8),
    Write(usize, u64, u8, u32),
    Sgi(usize, u32),
    Leave(usize),
    Enter(usize),
    CheckpointAndResume,
}

fn width_at(offset: u64, width: u8) -> u64 {
    offset / u64::from(width) * u64::from(width)
}

pub fn op(cpus: usize) -> impl Strategy<Value = Op> {
    let cpu = 0..cpus;
    let width = prop_oneof![Just(1u8), Just(2), Just(4)];
    let bitmap = (1u64..8, 0u64..8, width.clone())
        .prop_map(|(register, byte, width)| (register * 0x80 + width_at(byte, width), width));
    let bytes = (0u64..40, width.clone());
    let register = prop_oneof![
        8 => bitmap,
        1 => (0u64..12, width.clone()).prop_map(|(n, width)| (width_at(n, width), width)),
        2 => bytes.clone().prop_map(|(n, width)| (IPRIORITYR + width_at(n, width), width)),
        2 => bytes.prop_map(|(n, width)| (ITARGETSR + width_at(n, width), width)),
        1 => (0u64..12, width.clone()).prop_map(|(n, width)| (ICFGR + width_at(n, width), width)),
        1 => (0u64..8, width.clone())
            .prop_map(|(n, width)| (CPENDSGIR + n / 4 * 16 + width_at(n % 4, width), width)),
        1 => (0u64..0x1000, width).prop_map(|(n, width)| (width_at(n, width), width)),
    ];
    let value = prop_oneof![
        (any::<u32>(), any::<u32>()).prop_map(|(a, b)| a & b),
        Just(u32::MAX),
        any::<u32>(),
    ];
    prop_oneof![
        10 => (32u16..40, any::<bool>()).prop_map(|(intid, level)| Op::Spi(intid, level)),
        4 => (32u16..40).prop_map(Op::Pulse),
        4 => (cpu.clone(), any::<bool>()).prop_map(|(cpu, level)| Op::Ppi(cpu, level)),
        6 => (cpu.clone(), any::<bool>()).prop_map(|(cpu, level)| Op::Timer(cpu, level)),
        25 => cpu.clone().prop_map(Op::Acknowledge),
        20 => cpu.clone().prop_map(Op::EndOfInterrupt),
        8 => (cpu.clone(), 0usize..8).prop_map(|(cpu, n)| Op::Deactivate(cpu, n)),
        4 => (cpu.clone(), any::<u32>(), any::<u8>(), 0u8..8)
            .prop_map(|(cpu, ctlr, pmr, bpr)| Op::Interface(cpu, ctlr, pmr, bpr)),
        8 => (cpu.clone(), register.clone())
            .prop_map(|(cpu, (offset, width))| Op::Read(cpu, offset, width)),
        16 => (cpu.clone(), register, value)
            .prop_map(|(cpu, (offset, width), value)| Op::Write(cpu, offset, width, value)),
        12 => (cpu.clone(), 0u32..4, 0u32..4, 0u32..16)
            .prop_map(|(cpu, sgi, filter, list)| Op::Sgi(cpu, filter << 24 | list << 16 | sgi)),
        3 => cpu.clone().prop_map(Op::Leave),
        4 => cpu.prop_map(Op::Enter),
        1 => Just(Op::CheckpointAndResume),
    ]
}

struct Twins {
    machine: Machine,
    reference: Reference,
    /// More list registers than INTIDs that occur.
    roomy: bool,
    /// Per vCPU what it has acknowledged and not ended, and what it has ended and not deactivated.
    running: Vec<Vec<u32>>,
    dropped: Vec<Vec<u32>>,
}

impl Twins {
    fn new(cpus: usize, list_registers: usize) -> Self {
        let mut twins = Self {
            machine: Machine::at_reset(cpus as u8, list_registers),
            reference: Reference::at_reset(cpus),
            roomy: list_registers >= 14,
            running: vec![vec![]; cpus],
            dropped: vec![vec![]; cpus],
        };
        twins.machine.cores.iter_mut().for_each(|core| core.strict_sources = !twins.roomy);
        twins.run(Op::Write(0, CTLR, 4, 3));
        for cpu in 0..cpus {
            twins.run(Op::Write(cpu, ISENABLER, 4, u32::MAX));
            twins.run(Op::Interface(cpu, ENABLE_BOTH, 0xff, 0));
            for intid in 0..32 {
                let priority = 0x60 + (intid as u32 % 4) * 0x10;
                twins.run(Op::Write(cpu, IPRIORITYR + intid, 1, priority));
            }
        }
        twins.run(Op::Write(0, ISENABLER + 4, 4, u32::MAX));
        for spi in 32..40 {
            twins.run(Op::Write(0, ITARGETSR + spi, 1, 1 << (spi as usize % cpus)));
            twins.run(Op::Write(0, IPRIORITYR + spi, 1, 0x50 + (spi as u32 % 5) * 0x10));
        }
        twins
    }

    /// Keeps a write to what an architecture can answer for, and to the INTIDs that occur.
    fn tamed(&mut self, offset: u64, width: u8, mut value: u32) -> Option<u32> {
        let lanes = 8 * (offset % 4) as u32;
        let known = if offset % 0x80 < 4 { PRIVATE } else { SHARED };
        match offset {
            0x080..0x300 => value &= known >> lanes,
            // What no acknowledge made active, no EOI ends: that must not be counted as one.
            0x300..0x400 if self.roomy => value &= known >> lanes,
            0x300..0x400 => return None,
            0x400..0x440 => {
                let intids =
                    (offset - IPRIORITYR) as u16..(offset - IPRIORITYR) as u16 + u16::from(width);
                for cpu in 0..self.running.len() {
                    for intid in intids.clone() {
                        if !self.roomy && self.reference.irq(cpu, intid).active.is_some() {
                            return None;
                        }
                    }
                }
            }
            // The timer's line is a level.
            0xc04..0xc08 => value &= !(1u32 << 23 >> lanes),
            // Only the SGIs that occur, and few sources.
            0xf00..0xf04 => return None,
            0xf14..0xf20 | 0xf24..0xf30 => return None,
            _ => {}
        }
        Some(value)
    }

    fn run(&mut self, op: Op) {
        let (machine, reference) = (&mut self.machine, &mut self.reference);
        match op {
            Op::Spi(intid, level) => {
                machine.spi(intid, level);
                reference.line(0, intid, level);
            }
            Op::Pulse(intid) => {
                machine.pulse(intid);
                reference.line(0, intid, true);
                reference.line(0, intid, false);
            }
            Op::Ppi(cpu, level) => {
                machine.ppi(cpu, 30, level);
                reference.line(cpu, 30, level);
            }
            Op::Timer(cpu, level) => {
                if level || machine.is_loaded(cpu) {
                    machine.timer(cpu, level);
                    reference.line(cpu, VIRTUAL_TIMER, level);
                }
            }
            Op::Leave(cpu) => {
                if machine.is_loaded(cpu) {
                    machine.save(cpu);
                }
            }
            Op::Enter(cpu) => {
                if !machine.is_loaded(cpu) {
                    machine.load(cpu);
                }
            }
            Op::CheckpointAndResume => machine.checkpoint_and_resume(),
            Op::Acknowledge(cpu)
            | Op::EndOfInterrupt(cpu)
            | Op::Deactivate(cpu, _)
            | Op::Interface(cpu, ..)
            | Op::Read(cpu, ..)
            | Op::Write(cpu, ..)
            | Op::Sgi(cpu, _) => {
                if machine.is_loaded(cpu) {
                    self.run_on(cpu, op);
                }
            }
        }
        for cpu in 0..self.running.len() {
            if self.machine.is_loaded(cpu) {
                let core = &self.machine.cores[cpu];
                assert_eq!(core.signals(), self.reference.signals(cpu), "vCPU {cpu}\n{core:?}");
            }
        }
    }

    fn run_on(&mut self, cpu: usize, op: Op) {
        match op {
            Op::Acknowledge(_) => {
                let ack = self.machine.iar(cpu);
                assert_eq!(ack, self.reference.iar(cpu), "IAR of vCPU {cpu}");
                if ack & 0x3ff < 1020 {
                    self.running[cpu].push(ack);
                }
            }
            Op::EndOfInterrupt(_) => {
                let Some(ack) = self.running[cpu].pop() else {
                    return;
                };
                if self.reference.interfaces[cpu].splits_eoi() {
                    self.dropped[cpu].push(ack);
                }
                self.machine.eoir(cpu, ack);
                self.reference.eoir(cpu, ack);
            }
            Op::Deactivate(_, n) => {
                if self.dropped[cpu].is_empty() {
                    return;
                }
                let n = n % self.dropped[cpu].len();
                let ack = self.dropped[cpu].remove(n);
                self.machine.dir(cpu, ack);
                self.reference.dir(cpu, ack);
            }
            Op::Interface(_, ctlr, pmr, bpr) => {
                let reference = &mut self.reference.interfaces[cpu];
                reference.ctlr = reference.ctlr & !(ENABLE_BOTH | ACK_CTL)
                    | ctlr & ENABLE_BOTH
                    | ctlr & (ctlr >> 8) & ACK_CTL;
                reference.pmr = (pmr | 0x80) & 0xf8;
                if self.running[cpu].is_empty() && self.dropped[cpu].is_empty() {
                    reference.ctlr = reference.ctlr & !(CBPR | EOI_MODE) | ctlr & (CBPR | EOI_MODE);
                    // GICH_VMCR has three bits for either.
                    reference.bpr = bpr.clamp(2, if self.roomy { 7 } else { 6 });
                    // With others for group 1 than for group 0, a worse interrupt of its preempts a
                    // better one of group 0; GICH only counts the EOIs of what is in no list
                    // register, which are then taken for those of the best.
                    reference.abpr = if self.roomy { (7 - bpr).max(3) } else { reference.bpr + 1 };
                }
                self.machine.cores[cpu].interface = *reference;
            }
            Op::Read(_, offset, width) => {
                let expected = self.reference.read(cpu, offset, width);
                let found = self.machine.read(cpu, offset, width);
                assert_eq!(found, expected, "vCPU {cpu} reads {width} at {offset:#x}");
            }
            Op::Write(_, offset, width, value) => {
                let Some(value) = self.tamed(offset, width, value) else {
                    return;
                };
                self.machine.write(cpu, offset, width, value);
                self.reference.write(cpu, offset, width, value);
            }
            Op::Sgi(_, value) => {
                self.machine.write(cpu, SGIR, 4, value);
                self.reference.write(cpu, SGIR, 4, value);
            }
            _ => unreachable!(),
        }
    }

    /// Enables, acknowledges and ends all interrupts at the end, and compares all registers.
    fn finish(&mut self) {
        for cpu in 0..self.running.len() {
            self.run(Op::Enter(cpu));
            let all = (0..0x400).chain(IPRIORITYR..IPRIORITYR + 0x48);
            let all = all.chain(ITARGETSR..ITARGETSR + 0x48).chain(ICFGR..ICFGR + 0x14);
            for offset in all.chain(SGIR..0x1000).step_by(4).filter(|n| n % 0x80 < 0x48) {
                self.run(Op::Read(cpu, offset, 4));
            }
        }
        for cpu in 0..self.running.len() {
            while !self.running[cpu].is_empty() {
                self.run(Op::EndOfInterrupt(cpu));
            }
            while !self.dropped[cpu].is_empty() {
                self.run(Op::Deactivate(cpu, 0));
            }
            for _ in 0..64 {
                self.run(Op::Acknowledge(cpu));
                self.run(Op::EndOfInterrupt(cpu));
                self.run(Op::Deactivate(cpu, 0));
            }
        }
    }
}

fn histories(cpus: usize, list_registers: usize, ops: Vec<Op>) {
    let mut twins = Twins::new(cpus, list_registers);
    for op in ops {
        twins.run(op);
    }
    twins.finish();
}

/// Returns the accesses to GICH of a history at whose end all vCPUs are saved.
pub fn accesses_of(cpus: usize, list_registers: usize, folds_all: bool, ops: Vec<Op>) -> Accesses {
    let mut twins = Twins::new(cpus, list_registers);
    twins.machine.folds_all = folds_all;
    for op in ops {
        twins.run(op);
    }
    (0..cpus).for_each(|cpu| twins.run(Op::Leave(cpu)));
    let (mut reads, mut writes, mut physical) = (0, 0, 0);
    for core in &twins.machine.cores {
        reads += core.accesses.reads;
        writes += core.accesses.writes;
        physical += core.accesses.physical;
    }
    Accesses { reads, writes, physical }
}

/// More than these with PROPTEST_CASES.
pub fn cases() -> u32 {
    let set = std::env::var("PROPTEST_CASES").ok();
    set.and_then(|cases| cases.parse().ok()).unwrap_or(128)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn one_vcpu_sees_what_the_second_model_sees(
        list_registers in 1usize..=16, ops in vec(op(1), 1..200)
    ) {
        histories(1, list_registers, ops);
    }

    #[test]
    fn three_vcpus_see_what_the_second_model_sees(
        list_registers in 1usize..=16, ops in vec(op(3), 1..300)
    ) {
        histories(3, list_registers, ops);
    }

    #[test]
    fn with_room_for_all_active_states_can_be_written(ops in vec(op(2), 1..300)) {
        histories(2, 16, ops);
    }
}
