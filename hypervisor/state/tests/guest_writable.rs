//! What a guest can write is saved, or is here with the reason why not.
//!
//! The list is that of DDI 0487 for the CPU that guests are shown: Armv8.0-A with EL1 and EL0,
//! without any optional feature that has state of its own (`stasis_guest::sysreg::identity` hides
//! those, and they trap or are UNDEFINED); then that of the devices on its bus.

use stasis_state::{
    Record, RecordType,
    device::{Pl011, Pl031, Pl061},
    register::Descriptor,
    vcpu::{Core, Debug, FpSimd, Power, SystemRegisters, sysreg},
    vgic::{CpuInterface, Distributor},
    virtio::{GenerationId, Virtio},
};

/// The place in which a checkpoint keeps what a guest writes to a register.
enum Kept {
    /// The register whose id is the encoding.
    There,
    /// Other registers.
    In(&'static [(RecordType, &'static str)]),
    /// Nowhere, for this reason.
    Nowhere(&'static str),
}
use Kept::{In, Nowhere, There};
use RecordType::{
    DeviceGenerationId, DevicePl011, DevicePl031, DevicePl061, DeviceVirtio, VcpuCore, VcpuDebug,
    VcpuFp, VcpuSystem, VgicCpu, VgicDistributor,
};

// Each of these is held to by `sweep` of the tests that boot QEMU, with all encodings.
const DEBUGGER: &str = "a channel to an external debugger, of which a guest has none";
const CLAIM: &str = "cleared before another guest has it: an external debugger's to ask for";
const NO_RAS: &str =
    "no guest is shown RAS: where the core has it, cleared before another vCPU has it";
const DEBUG_STATE: &str =
    "UNDEFINED outside of Debug state, which only an external debugger enters";
const POWER_DOWN: &str =
    "traps, reads as 0 and ignores writes: about a power-down, and none happens under a guest";
const HIGHEST_LEVEL: &str = "writable at the highest exception level alone, which is not EL1";

/// DDI 0487, C5.2 and D24: all that MSR can write at EL1 or EL0, op0 3 first.
#[rustfmt::skip]
const SYSTEM: &[(&str, u16, Kept)] = &[
    ("SCTLR_EL1", sysreg(3, 0, 1, 0, 0), There),
    ("ACTLR_EL1", sysreg(3, 0, 1, 0, 1), There),
    ("CPACR_EL1", sysreg(3, 0, 1, 0, 2), There),
    ("TTBR0_EL1", sysreg(3, 0, 2, 0, 0), There),
    ("TTBR1_EL1", sysreg(3, 0, 2, 0, 1), There),
    ("TCR_EL1", sysreg(3, 0, 2, 0, 2), There),
    ("SPSR_EL1", sysreg(3, 0, 4, 0, 0), There),
    ("ELR_EL1", sysreg(3, 0, 4, 0, 1), There),
    ("SP_EL0", sysreg(3, 0, 4, 1, 0), There),
    ("SPSel", sysreg(3, 0, 4, 2, 0), In(&[(VcpuCore, "pstate")])),
    ("AFSR0_EL1", sysreg(3, 0, 5, 1, 0), There),
    ("AFSR1_EL1", sysreg(3, 0, 5, 1, 1), There),
    ("ESR_EL1", sysreg(3, 0, 5, 2, 0), There),
    ("FAR_EL1", sysreg(3, 0, 6, 0, 0), There),
    ("PAR_EL1", sysreg(3, 0, 7, 4, 0), There),
    ("MAIR_EL1", sysreg(3, 0, 10, 2, 0), There),
    ("AMAIR_EL1", sysreg(3, 0, 10, 3, 0), There),
    ("VBAR_EL1", sysreg(3, 0, 12, 0, 0), There),
    ("RMR_EL1", sysreg(3, 0, 12, 0, 2), Nowhere(HIGHEST_LEVEL)),
    ("DISR_EL1", sysreg(3, 0, 12, 1, 1), Nowhere(NO_RAS)),
    ("CONTEXTIDR_EL1", sysreg(3, 0, 13, 0, 1), There),
    ("TPIDR_EL1", sysreg(3, 0, 13, 0, 4), There),
    ("CNTKCTL_EL1", sysreg(3, 0, 14, 1, 0), There),
    ("CSSELR_EL1", sysreg(3, 2, 0, 0, 0), There),
    ("NZCV", sysreg(3, 3, 4, 2, 0), In(&[(VcpuCore, "pstate")])),
    ("DAIF", sysreg(3, 3, 4, 2, 1), In(&[(VcpuCore, "pstate")])),
    ("FPCR", sysreg(3, 3, 4, 4, 0), In(&[(VcpuFp, "fpcr")])),
    ("FPSR", sysreg(3, 3, 4, 4, 1), In(&[(VcpuFp, "fpsr")])),
    ("DSPSR_EL0", sysreg(3, 3, 4, 5, 0), Nowhere(DEBUG_STATE)),
    ("DLR_EL0", sysreg(3, 3, 4, 5, 1), Nowhere(DEBUG_STATE)),
    ("TPIDR_EL0", sysreg(3, 3, 13, 0, 2), There),
    ("TPIDRRO_EL0", sysreg(3, 3, 13, 0, 3), There),
    ("CNTFRQ_EL0", sysreg(3, 3, 14, 0, 0), Nowhere(HIGHEST_LEVEL)),
    ("CNTP_TVAL_EL0", sysreg(3, 3, 14, 2, 0), In(&[(VcpuSystem, "cntp_cval_el0")])),
    ("CNTP_CTL_EL0", sysreg(3, 3, 14, 2, 1), There),
    ("CNTP_CVAL_EL0", sysreg(3, 3, 14, 2, 2), There),
    ("CNTV_TVAL_EL0", sysreg(3, 3, 14, 3, 0), In(&[(VcpuSystem, "cntv_cval_el0")])),
    ("CNTV_CTL_EL0", sysreg(3, 3, 14, 3, 1), There),
    ("CNTV_CVAL_EL0", sysreg(3, 3, 14, 3, 2), There),

    ("OSDTRRX_EL1", sysreg(2, 0, 0, 0, 2), Nowhere(DEBUGGER)),
    ("MDCCINT_EL1", sysreg(2, 0, 0, 2, 0), There),
    ("MDSCR_EL1", sysreg(2, 0, 0, 2, 2), There),
    ("OSDTRTX_EL1", sysreg(2, 0, 0, 3, 2), Nowhere(DEBUGGER)),
    ("OSECCR_EL1", sysreg(2, 0, 0, 6, 2), Nowhere(DEBUGGER)),
    ("OSLAR_EL1", sysreg(2, 0, 1, 0, 4), In(&[(VcpuDebug, "os_lock")])),
    ("OSDLR_EL1", sysreg(2, 0, 1, 3, 4), Nowhere(POWER_DOWN)),
    ("DBGPRCR_EL1", sysreg(2, 0, 1, 4, 4), Nowhere(POWER_DOWN)),
    ("DBGCLAIMSET_EL1", sysreg(2, 0, 7, 8, 6), Nowhere(CLAIM)),
    ("DBGCLAIMCLR_EL1", sysreg(2, 0, 7, 9, 6), Nowhere(CLAIM)),
    ("DBGDTR_EL0", sysreg(2, 3, 0, 4, 0), Nowhere(DEBUGGER)),
    ("DBGDTRTX_EL0", sysreg(2, 3, 0, 5, 0), Nowhere(DEBUGGER)),
    // DBGBVR<n>_EL1 and the other three are DEBUG_ARRAYS.
];

/// The four debug registers of which there are sixteen: CRm is which.
const DEBUG_ARRAYS: [(&str, u16); 4] = [("DBGBVR", 4), ("DBGBCR", 5), ("DBGWVR", 6), ("DBGWCR", 7)];

/// What instructions write that are no MSR.
const OTHERS: &[(&str, &[(RecordType, &str)])] = &[
    ("X0 to X30", &[(VcpuCore, "x")]),
    ("PC", &[(VcpuCore, "pc")]),
    ("SP, at EL1 with SPSel 1", &[(VcpuSystem, "sp_el1")]),
    ("V0 to V31", &[(VcpuFp, "v")]),
];

/// IHI 0048B.b, 4.3 and 4.4; ARM DDI 0183G, 3.2; ARM DDI 0224B, 3.2; ARM DDI 0190B, 3.2.
#[rustfmt::skip]
const DEVICES: &[(&str, Kept)] = &[
    ("GICD_CTLR", In(&[(VgicDistributor, "ctlr")])),
    ("GICD_IGROUPR", In(&[(VgicDistributor, "spi_group"), (VgicCpu, "priv_group")])),
    ("GICD_ISENABLER, ICENABLER", In(&[(VgicDistributor, "spi_enable"), (VgicCpu, "priv_enable")])),
    ("GICD_ISPENDR, ICPENDR", In(&[(VgicDistributor, "spi_latch"), (VgicCpu, "priv_latch")])),
    ("GICD_ISACTIVER, ICACTIVER", In(&[
        (VgicDistributor, "spi_active"), (VgicDistributor, "spi_active_cpu"),
        (VgicCpu, "priv_active"), (VgicCpu, "sgi_active_src"),
    ])),
    ("GICD_IPRIORITYR", In(&[(VgicDistributor, "spi_prio"), (VgicCpu, "priv_prio")])),
    ("GICD_ITARGETSR", In(&[(VgicDistributor, "spi_targets")])),
    ("GICD_ICFGR", In(&[(VgicDistributor, "spi_edge"), (VgicCpu, "priv_edge")])),
    ("GICD_NSACR", Nowhere("RAZ/WI: a guest has a GIC without the security extensions")),
    ("GICD_SGIR, SPENDSGIR, CPENDSGIR", In(&[(VgicCpu, "sgi_src")])),
    ("GICC_CTLR", In(&[(VgicCpu, "cc_ctlr")])),
    ("GICC_PMR", In(&[(VgicCpu, "cc_pmr")])),
    ("GICC_BPR", In(&[(VgicCpu, "cc_bpr")])),
    ("GICC_ABPR", In(&[(VgicCpu, "cc_abpr")])),
    ("GICC_APR", In(&[(VgicCpu, "cc_apr")])),
    ("GICC_NSAPR", Nowhere("RAZ/WI: a guest has a GIC without the security extensions")),
    ("GICC_EOIR, AEOIR, DIR", In(&[
        (VgicCpu, "cc_apr"), (VgicDistributor, "spi_active"), (VgicCpu, "priv_active"),
    ])),
    ("UARTDR", Nowhere("it has been sent")),
    ("UARTECR", In(&[(DevicePl011, "rsr")])),
    ("UARTILPR", In(&[(DevicePl011, "ilpr")])),
    ("UARTIBRD", In(&[(DevicePl011, "ibrd")])),
    ("UARTFBRD", In(&[(DevicePl011, "fbrd")])),
    ("UARTLCR_H", In(&[(DevicePl011, "lcr_h")])),
    ("UARTCR", In(&[(DevicePl011, "cr")])),
    ("UARTIFLS", In(&[(DevicePl011, "ifls")])),
    ("UARTIMSC", In(&[(DevicePl011, "imsc")])),
    ("UARTICR", In(&[(DevicePl011, "ris")])),
    ("UARTDMACR", In(&[(DevicePl011, "dmacr")])),
    ("RTCMR", In(&[(DevicePl031, "mr")])),
    ("RTCLR", In(&[(DevicePl031, "lr"), (DevicePl031, "offset")])),
    ("RTCCR", Nowhere("the clock can't be stopped: it reads as 1")),
    ("RTCIMSC", In(&[(DevicePl031, "imsc")])),
    ("RTCICR", In(&[(DevicePl031, "ris")])),
    ("GPIODATA", In(&[(DevicePl061, "data")])),
    ("GPIODIR", In(&[(DevicePl061, "dir")])),
    ("GPIOIS", In(&[(DevicePl061, "is")])),
    ("GPIOIBE", In(&[(DevicePl061, "ibe")])),
    ("GPIOIEV", In(&[(DevicePl061, "iev")])),
    ("GPIOIE", In(&[(DevicePl061, "ie")])),
    ("GPIOIC", In(&[(DevicePl061, "edges")])),
    ("GPIOAFSEL", In(&[(DevicePl061, "afsel")])),
    ("DeviceFeaturesSel", In(&[(DeviceVirtio, "features_sel")])),
    ("DriverFeatures", In(&[(DeviceVirtio, "driver_features")])),
    ("DriverFeaturesSel", In(&[(DeviceVirtio, "driver_features_sel")])),
    ("QueueSel", In(&[(DeviceVirtio, "queue_sel")])),
    ("QueueNum", In(&[(DeviceVirtio, "queue_num")])),
    ("QueueReady", In(&[
        (DeviceVirtio, "queue_ready"), (DeviceVirtio, "queue_next_avail"), (DeviceVirtio, "queue_used"),
    ])),
    ("QueueNotify", Nowhere("each queue is looked at once after a resume")),
    ("InterruptACK", In(&[(DeviceVirtio, "interrupt_status")])),
    ("Status", In(&[(DeviceVirtio, "status")])),
    ("QueueDescLow, High", In(&[(DeviceVirtio, "queue_desc")])),
    ("QueueDriverLow, High", In(&[(DeviceVirtio, "queue_driver")])),
    ("QueueDeviceLow, High", In(&[(DeviceVirtio, "queue_device")])),
    ("the generation ID, which is read", In(&[(DeviceGenerationId, "is_new")])),
];

/// What is saved although a guest can't write it itself.
#[rustfmt::skip]
const MORE: &[(RecordType, &str)] = &[
    // A GIC's inputs; what it has and how large it is.
    (VgicDistributor, "spi_level"), (VgicCpu, "priv_level"), (VgicDistributor, "nr_irqs"), (VgicDistributor, "nr_cpus"),
    (VgicDistributor, "prio_bits"), (VgicDistributor, "iidr"), (VgicDistributor, "dist_base"), (VgicDistributor, "cpu_base"),
    // What has arrived at the UART.
    (DevicePl011, "rx_fifo"), (DevicePl011, "rx_count"),
    // Whether somebody presses the power key.
    (DevicePl061, "key_until"),
    // What virtio devices there are, what they offer, and what has happened to their configuration;
    // a generation ID.
    (DeviceVirtio, "device_id"), (DeviceVirtio, "name"), (DeviceVirtio, "features"), (DeviceVirtio, "config_generation"),
    (DeviceVirtio, "capacity"), (DeviceVirtio, "mac"), (DeviceVirtio, "net_status"), (DeviceGenerationId, "id"),
    // Of AArch32 at EL0; MSR and MRS reach them from EL2 alone.
    (VcpuSystem, "spsr_irq"), (VcpuSystem, "spsr_abt"), (VcpuSystem, "spsr_und"), (VcpuSystem, "spsr_fiq"),
    (VcpuSystem, "dacr32_el2"), (VcpuSystem, "ifsr32_el2"), (VcpuSystem, "fpexc32_el2"),
    // PSCI's, by calls; and what a virtual SError will be.
    (RecordType::VcpuPower, "state"), (RecordType::VcpuPower, "entry"), (RecordType::VcpuPower, "context_id"),
    (RecordType::VcpuPower, "serror_pending"), (RecordType::VcpuPower, "serror_syndrome"),
];

fn tables() -> Vec<(RecordType, &'static [Descriptor])> {
    fn table<R: Record>() -> (RecordType, &'static [Descriptor]) {
        (R::TYPE, R::REGISTERS)
    }
    vec![
        table::<Core>(),
        table::<FpSimd>(),
        table::<SystemRegisters>(),
        table::<Debug>(),
        table::<Power>(),
        table::<Distributor>(),
        table::<CpuInterface>(),
        table::<Pl011>(),
        table::<Pl031>(),
        table::<Pl061>(),
        table::<Virtio>(),
        table::<GenerationId>(),
    ]
}

/// Returns the names of all registers that are saved.
fn saved() -> Vec<(RecordType, &'static str)> {
    let tables = tables().into_iter();
    tables
        .flat_map(|(kind, table)| table.iter().map(move |register| (kind, register.name)))
        .collect()
}

fn assert_saved(name: &str, places: &[(RecordType, &str)]) {
    for place in places {
        assert!(saved().contains(place), "{name} is said to be in {place:?}, and is not");
    }
}

#[test]
fn every_system_register_that_a_guest_can_write_is_saved_or_has_a_reason() {
    let by_encoding = |encoding| {
        let registers = SystemRegisters::REGISTERS.iter().chain(Debug::REGISTERS);
        registers.filter(|register| register.id == encoding).collect::<Vec<_>>()
    };
    for (name, encoding, kept) in SYSTEM {
        match kept {
            There => {
                let [register] = by_encoding(*encoding)[..] else {
                    panic!("{name} is not saved, and has no reason not to be");
                };
                assert_eq!(register.name, name.to_lowercase());
            }
            In(places) => assert_saved(name, places),
            Nowhere(reason) => {
                assert!(reason.len() > 10);
                assert!(
                    by_encoding(*encoding).is_empty(),
                    "{name} is saved, in spite of: {reason}"
                );
            }
        }
    }
    for (name, op2) in DEBUG_ARRAYS {
        let [register] = by_encoding(sysreg(2, 0, 0, 0, op2))[..] else {
            panic!("{name} is not saved");
        };
        assert_eq!((register.name, register.shape.count), (&*name.to_lowercase(), 16));
    }
    for (name, places) in OTHERS {
        assert_saved(name, places);
    }
}

#[test]
fn every_device_register_that_a_guest_can_write_is_saved_or_has_a_reason() {
    for (name, kept) in DEVICES {
        match kept {
            In(places) => assert_saved(name, places),
            Nowhere(reason) => assert!(reason.len() > 10),
            There => panic!("{name} has no encoding"),
        }
    }
}

#[test]
fn every_register_that_is_saved_is_one_that_a_guest_can_write_or_is_known_as_more() {
    let mut known: Vec<(RecordType, &str)> = MORE.to_vec();
    let kept = SYSTEM.iter().map(|(_, _, kept)| kept).chain(DEVICES.iter().map(|(_, kept)| kept));
    for kept in kept {
        if let In(places) = kept {
            known.extend(*places);
        }
    }
    known.extend(OTHERS.iter().flat_map(|(_, places)| *places));
    for (kind, table) in tables() {
        for register in table {
            let encoded = SYSTEM.iter().any(|(_, encoding, kept)| {
                *encoding == register.id
                    && matches!(kept, There)
                    && matches!(kind, VcpuSystem | VcpuDebug)
            });
            let array = DEBUG_ARRAYS.iter().any(|(name, _)| name.to_lowercase() == register.name);
            assert!(
                encoded || array || known.contains(&(kind, register.name)),
                "{kind:?} saves {}, of which the lists here know nothing",
                register.name
            );
        }
    }
}
