//! The records, and what is derived from them.

use proptest::collection::vec;
use proptest::prelude::*;
use stasis_state::vgic::{CpuInterface, Distributor};
use zerocopy::IntoBytes;

use super::interface::SPURIOUS;
use super::machine::{ISPENDR, Machine};
use crate::{Access, Error, Vgic};

impl Vgic {
    /// Checks that what is derived is the same in both, which are on no core.
    pub fn assert_same_derived(&self, other: &Self) {
        assert_eq!(self.spi_places, other.spi_places);
        for (one, other) in self.cpus.iter().zip(&other.cpus) {
            assert!(!one.loaded && !other.loaded);
            assert_eq!(one.places, other.places);
            assert_eq!(one.waiting, other.waiting);
        }
    }
}

fn with(change: impl FnOnce(&mut Distributor, &mut CpuInterface)) -> Result<Vgic, Error> {
    let mut dist = Distributor::default();
    *dist.nr_irqs = 64;
    let mut cpu = CpuInterface::default();
    change(&mut dist, &mut cpu);
    Vgic::from_state(dist.into(), [cpu].into_iter())
}

#[test]
fn records_that_break_a_rule_are_refused() {
    type Change = fn(&mut Distributor, &mut CpuInterface);
    let broken: [(Change, &str); 18] = [
        (|d, _| *d.nr_cpus = 0, "a GICv2 has 1 to 8 CPU interfaces, not 0"),
        (|d, _| *d.nr_cpus = 9, "a GICv2 has 1 to 8 CPU interfaces, not 9"),
        (|d, _| *d.nr_cpus = 2, "1 records of CPU interfaces for 2 vCPUs"),
        (|d, _| *d.nr_irqs = 65, "65 INTIDs: must be"),
        (|d, _| *d.nr_irqs = 1024, "1024 INTIDs: must be"),
        (|d, _| *d.prio_bits = 4, "4 bits of priority; GICH has 5"),
        (|d, _| *d.ctlr = 4, "GICD_CTLR is 0x4"),
        (|d, _| d.spi_latch[1] = 1, "the pending latch has state for INTID 64, of 64"),
        (|d, _| d.spi_targets[32] = 1, "GICD_ITARGETSR has state for INTID 64, of 64"),
        (|d, _| d.spi_targets[0] = 2, "GICD_ITARGETSR of INTID 32 names vCPU mask or number 0x2"),
        (|d, _| d.spi_active[0] = 1, "INTID 32: active is true, but held by or sent from 0xff"),
        (|d, _| d.spi_active_cpu[0] = 0, "INTID 32: active is false"),
        (|d, _| d.spi_prio[0] = 1, "INTID 32 has priority 0x01"),
        (|_, c| *c.priv_enable = 0, "vCPU 0: the SGIs' bits of GICD_ISENABLER0 are 0x0000"),
        (|_, c| c.sgi_src[3] = 2, "the source of INTID 3 names vCPU mask or number 0x2"),
        (|_, c| c.sgi_active_src[3] = 1, "the source of INTID 3 names vCPU mask or number 0x1"),
        (|_, c| *c.cc_ctlr = 0x400, "GICC_CTLR is 0x400"),
        (|_, c| *c.cc_bpr = 8, "GICC_BPR is 0x8"),
    ];
    for (change, message) in broken {
        let error = with(change).expect_err(message).to_string();
        assert!(error.starts_with(message), "{error}");
    }
    assert!(with(|_, _| {}).is_ok());
}

#[test]
fn the_most_and_the_fewest_intids_are_served() {
    for nr_irqs in [64, 288, 992, 1020] {
        let mut vgic = Vgic::new(nr_irqs, 1).unwrap();
        let _ = vgic.set_spi_level(nr_irqs - 1, true);
        let _ = vgic.set_spi_level(nr_irqs, true);
        assert!(vgic.is_pending(0, nr_irqs - 1));
    }
}

#[test]
fn rule_12_two_dumps_are_equal_and_change_nothing() {
    let mut machine = Machine::new(2, 4);
    machine.spi(33, true);
    machine.write(0, ISPENDR + 4, 4, 1 << 8);
    machine.write(1, 0xf00, 4, 1 << 16 | 3);
    let ack = machine.iar(0);
    for vcpu in 0..2 {
        machine.save(vcpu);
    }
    let dump = machine.vgic.to_string();
    assert_eq!(machine.vgic.to_string(), dump);
    let lines = [
        "GICD_CTLR 0x3, 64 INTIDs, 2 CPU interfaces",
        "    3    0     0 yes     from 0x00  from 1     0xa0     self    edge",
        "   33    -     0 yes     line       -          0xa0     0x01    level",
        "   40    -     0 yes     latch      -          0xa0     0x01    level",
    ];
    for line in lines {
        assert!(dump.lines().any(|found| found == line), "{line}\n{dump}");
    }
    for vcpu in 0..2 {
        machine.load(vcpu);
    }
    assert_eq!(ack, 1 << 10 | 3);
    machine.eoir(0, ack);
    assert_eq!(machine.iar(0), 33);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4 * super::random::cases(), ..ProptestConfig::default() })]

    /// Whatever a file says: it is refused, or a guest can be run on it.
    #[test]
    fn damaged_records_are_refused_or_served(
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        in_cpu in any::<bool>(),
        accesses in vec((0u64..0x1000, any::<u32>()), 0..40),
    ) {
        let mut machine = Machine::new(2, 4);
        machine.spi(33, true);
        machine.timer(0, true);
        machine.write(1, 0xf00, 4, 3 << 16 | 3);
        machine.iar(0);
        machine.save(0);
        machine.save(1);
        let mut dist = machine.vgic.distributor().clone();
        let mut cpus = [0, 1].map(|vcpu| machine.vgic.cpus()[vcpu].state.clone());
        for (place, byte) in damage {
            let bytes = if in_cpu { cpus[0].as_mut_bytes() } else { dist.as_mut_bytes() };
            bytes[place.index(bytes.len())] = byte;
        }
        let Ok(vgic) = Vgic::from_state(dist.into(), cpus.into_iter()) else {
            return Ok(());
        };
        machine.vgic = vgic;
        let _ = machine.vgic.to_string();
        for core in &mut machine.cores {
            core.strict_sources = false;
        }
        machine.load(0);
        machine.load(1);
        for (offset, value) in accesses {
            let access = Access::checked(offset & !3, 4).unwrap();
            machine.read(0, offset & !3, 4);
            machine.write(1, offset & !3, 4, value);
            if machine.vgic.needs_sync(0, access, false).is_empty() {
                let ack = machine.iar(0);
                if ack & 0x3ff < 1020 && ack != SPURIOUS {
                    machine.eoir(0, ack);
                }
            }
        }
        machine.checkpoint_and_resume();
    }
}
