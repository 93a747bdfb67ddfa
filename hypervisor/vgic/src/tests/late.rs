//! Kicks and maintenance interrupts that are served late: other cores are slow. What a guest
//! observes may then come late, but nothing is lost, and nothing comes twice.

use proptest::collection::vec;
use proptest::prelude::*;

use super::interface::SPURIOUS;
use super::machine::{ITARGETSR, Machine, SGIR};

const CPUS: usize = 3;
/// Edge-triggered SPIs.
const EDGES: u64 = 6;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// `from` sends an SGI to `to`, if its last has arrived.
    Send {
        from: usize,
        to: usize,
        sgi: u32,
    },
    /// An edge, if the last has arrived.
    Edge(u64),
    Retarget(u64, usize),
    Acknowledge(usize),
    EndOfInterrupt(usize),
    /// The core's exit, and entry.
    Serve(usize),
    SaveAndLoad(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let cpu = 0..CPUS;
    prop_oneof![
        6 => (cpu.clone(), cpu.clone(), 0u32..3).prop_map(|(from, to, sgi)| Op::Send { from, to, sgi }),
        3 => (0..EDGES).prop_map(Op::Edge),
        1 => (0..EDGES, cpu.clone()).prop_map(|(edge, cpu)| Op::Retarget(edge, cpu)),
        8 => cpu.clone().prop_map(Op::Acknowledge),
        8 => cpu.clone().prop_map(Op::EndOfInterrupt),
        4 => cpu.clone().prop_map(Op::Serve),
        1 => cpu.prop_map(Op::SaveAndLoad),
    ]
}

struct Late {
    machine: Machine,
    running: Vec<Vec<u32>>,
    /// Sent and not arrived: per target, sender and SGI; per edge.
    sgis: [[[bool; 3]; CPUS]; CPUS],
    edges: [bool; EDGES as usize],
}

impl Late {
    fn run(&mut self, op: Op) {
        let machine = &mut self.machine;
        match op {
            Op::Send { from, to, sgi } => {
                if !core::mem::replace(&mut self.sgis[to][from][sgi as usize], true) {
                    machine.write_late(from, SGIR, 4, 1 << (16 + to) | sgi);
                }
            }
            Op::Edge(n) => {
                if !core::mem::replace(&mut self.edges[n as usize], true) {
                    let _ = machine.vgic.pulse_spi(40 + n as u16);
                }
            }
            Op::Retarget(n, cpu) => machine.write_late(0, ITARGETSR + 40 + n, 1, 1 << cpu),
            Op::Acknowledge(cpu) => {
                let ack = machine.cores[cpu].iar();
                if ack == SPURIOUS {
                    return;
                }
                self.running[cpu].push(ack);
                let (intid, source) = ((ack & 0x3ff) as usize, (ack >> 10) as usize);
                let sent = match intid.checked_sub(40) {
                    Some(edge) => &mut self.edges[edge],
                    None => &mut self.sgis[cpu][source][intid],
                };
                assert!(core::mem::take(sent), "{intid} from {source} arrives twice");
            }
            Op::EndOfInterrupt(cpu) => {
                if let Some(ack) = self.running[cpu].pop() {
                    machine.cores[cpu].eoir(ack);
                }
            }
            Op::Serve(cpu) => machine.exit_and_enter(cpu),
            Op::SaveAndLoad(cpu) => {
                machine.save(cpu);
                machine.load(cpu);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: super::random::cases(), ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_when_cores_are_late(list_registers in 1usize..=4, ops in vec(op(), 1..400)) {
        let mut machine = Machine::new(CPUS as u8, list_registers);
        for n in 0..EDGES {
            machine.edge(40 + n);
        }
        let mut late = Late {
            machine,
            running: vec![vec![]; CPUS],
            sgis: Default::default(),
            edges: Default::default(),
        };
        for op in ops {
            late.run(op);
        }
        for _ in 0..64 {
            for cpu in 0..CPUS {
                late.run(Op::Serve(cpu));
                late.run(Op::EndOfInterrupt(cpu));
                late.run(Op::Serve(cpu));
                late.run(Op::Acknowledge(cpu));
            }
        }
        prop_assert_eq!(late.sgis, <[[[bool; 3]; CPUS]; CPUS]>::default());
        prop_assert_eq!(late.edges, [false; EDGES as usize]);
    }
}

#[test]
fn of_65536_sgis_to_a_core_that_is_late_none_is_lost() {
    let mut machine = Machine::new(2, 4);
    let mut previous = None;
    for n in 0..65_536 {
        machine.write_late(0, SGIR, 4, (2 << 16) + n % 16);
        // The interrupt comes with the core's next entry: sometimes before the end of the one
        // before.
        machine.exit_and_enter(1);
        if n % 3 == 0 {
            if let Some(ack) = previous.take() {
                machine.cores[1].eoir(ack);
            }
        } else if let Some(ack) = previous.take() {
            machine.cores[1].eoir(ack);
            machine.exit_and_enter(1);
        }
        let ack = machine.cores[1].iar();
        assert_eq!(ack, n % 16);
        previous = Some(ack);
    }
}
