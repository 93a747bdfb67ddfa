//! The walk through the device tree. The first of a kind counts.

use super::bus::{Bus, device};
use super::lookup::Lookup;
use super::serial::MAX_UARTS;
use super::{
    Conduit, Core, Device, GicFrames, MAX_CORES, MAX_DEVICES, MAX_RANGES, MAX_SD_HOSTS,
    MachineError, Reservation, SdHost, Start, Uart, UartKind,
};
use arrayvec::ArrayVec;
use dtoolkit::Node;
use dtoolkit::fdt::FdtNode;
use stasis_memory::range::Range;

/// GICs of version 2.
pub const GICS: [&str; 2] = ["arm,gic-400", "arm,cortex-a15-gic"];
/// GICs of version 3.
const OTHER_GICS: [&str; 1] = ["arm,gic-v3"];
/// PSCI, in the versions that can start a core.
const PSCI: [&str; 3] = ["arm,psci", "arm,psci-0.2", "arm,psci-1.0"];
/// The SD hosts that follow the SD Host Controller Simplified Specification, as far as a card needs
/// it.
const SD_HOSTS: [&str; 4] =
    ["brcm,bcm2711-emmc2", "brcm,bcm2712-sdhci", "brcm,bcm2835-sdhci", "arasan,sdhci-8.9a"];
/// The Raspberry Pi's power management with its watchdog.
const WATCHDOGS: [&str; 3] = ["brcm,bcm2835-pm-wdt", "brcm,bcm2835-pm", "brcm,bcm2712-pm"];

/// The Raspberry Pi's random number generator, and its relatives.
const RANDOM: [&str; 4] =
    ["brcm,bcm2711-rng200", "brcm,iproc-rng200", "brcm,bcm7211-rng200", "brcm,bcm7278-rng200"];

/// What was found.
#[derive(Default)]
pub struct Search<'a> {
    pub memory: ArrayVec<Range, MAX_RANGES>,
    pub reserved: ArrayVec<Reservation, MAX_RANGES>,
    pub gic: Option<Result<GicFrames, MachineError>>,
    pub uarts: ArrayVec<Uart, MAX_UARTS>,
    /// UARTs without a device behind them, such as a Bluetooth chip.
    pub spare_uarts: ArrayVec<Uart, MAX_UARTS>,
    pub rtc: Option<Device>,
    pub virtio: ArrayVec<Device, MAX_DEVICES>,
    pub sd_hosts: ArrayVec<SdHost<'a>, MAX_SD_HOSTS>,
    pub watchdog: Option<Device>,
    pub random: Option<Device>,
    pub cores: ArrayVec<Core, MAX_CORES>,
    pub psci: Option<Conduit>,
    /// The counter's frequency, as the timer's node tells it.
    pub timer_frequency: Option<u64>,
    /// The oscillator of a Raspberry Pi, which its counter counts.
    pub oscillator: Option<u64>,
}

impl<'a> Search<'a> {
    /// Looks at `node`, which is on `bus`, and at all below it.
    pub fn visit(&mut self, node: FdtNode<'a>, bus: &Bus) {
        if !node.enabled() {
            return;
        }
        match node.string("device_type") {
            Some("memory") => bus.frames(node).for_each(|range| push(&mut self.memory, range)),
            Some("cpu") => core(node).into_iter().for_each(|core| push(&mut self.cores, core)),
            _ => {}
        }
        // The first `compatible` is the most specific one.
        let mut compatible = node.compatible().into_iter().flatten();
        compatible.find(|compatible| self.note(compatible, node, bus));
        let reserved = node.name() == "reserved-memory";
        let mut below = None;
        for child in node.children() {
            let below = below.get_or_insert_with(|| bus.below(node));
            if reserved {
                self.reserve(child, below);
            } else {
                self.visit(child, below);
            }
        }
    }

    /// Notes `node` as a device that is `compatible`, and returns whether such devices are known.
    fn note(&mut self, compatible: &'a str, node: FdtNode<'a>, bus: &Bus) -> bool {
        let is = |names: &[&str]| names.contains(&compatible);
        if is(&GICS) {
            self.gic.get_or_insert_with(|| gic_frames(node, bus));
        } else if is(&OTHER_GICS) {
            self.gic.get_or_insert(Err(MachineError::OtherGic));
        } else if let Some(kind) = UartKind::of(compatible) {
            let uart = device(node, bus).map(|device| Uart { kind, device });
            uart.into_iter().for_each(|uart| {
                push(&mut self.uarts, uart);
                if node.children().next().is_none() {
                    push(&mut self.spare_uarts, uart);
                }
            });
        } else if is(&["arm,pl031"]) {
            self.rtc = self.rtc.or(device(node, bus));
        } else if is(&["virtio,mmio"]) {
            device(node, bus).into_iter().for_each(|slot| push(&mut self.virtio, slot));
        } else if is(&SD_HOSTS) {
            sd_host(compatible, node, bus).into_iter().for_each(|host| self.note_sd_host(host));
        } else if is(&WATCHDOGS) {
            self.watchdog = self.watchdog.or(device(node, bus));
        } else if is(&RANDOM) {
            self.random = self.random.or(device(node, bus));
        } else if is(&PSCI) {
            self.psci = match node.string("method") {
                Some("hvc") => Some(Conduit::Hvc),
                Some("smc") => Some(Conduit::Smc),
                _ => None,
            };
        } else if is(&["arm,armv8-timer"]) {
            self.timer_frequency = node.integer("clock-frequency");
        } else if is(&["fixed-clock"]) && node.string("clock-output-names") == Some("osc") {
            self.oscillator = node.integer("clock-frequency");
        } else {
            return false;
        }
        true
    }

    /// Notes an SD host. Hosts that a card can be pulled out of come first.
    fn note_sd_host(&mut self, host: SdHost<'a>) {
        let place = self.sd_hosts.partition_point(|other| other.fixed <= host.fixed);
        let _ = self.sd_hosts.try_insert(place, host);
    }

    /// Notes a child of /reserved-memory. One without addresses asks an operating system to choose
    /// some.
    fn reserve(&mut self, node: FdtNode, bus: &Bus) {
        if node.enabled() {
            let no_map = node.property("no-map").is_some();
            bus.frames(node)
                .for_each(|range| push(&mut self.reserved, Reservation { range, no_map }));
        }
    }
}

/// Keeps the first ones that there is room for.
fn push<T, const N: usize>(list: &mut ArrayVec<T, N>, item: T) {
    let _ = list.try_push(item);
}

fn sd_host<'a>(compatible: &'a str, node: FdtNode<'a>, bus: &Bus) -> Option<SdHost<'a>> {
    let fixed = node.property("non-removable").is_some();
    Some(SdHost { device: device(node, bus)?, compatible, fixed, reach: bus.reach() })
}

fn gic_frames(node: FdtNode, bus: &Bus) -> Result<GicFrames, MachineError> {
    let frames: ArrayVec<Range, 4> = bus.frames(node).take(4).collect();
    let &[gicd, gicc, gich, gicv] = frames.as_slice() else {
        return Err(MachineError::GicFrames { found: frames.len() });
    };
    const MAINTENANCE_PPI: u32 = 25;
    let maintenance = node.first_interrupt().unwrap_or(MAINTENANCE_PPI);
    Ok(GicFrames { gicd, gicc, gich, gicv, maintenance })
}

fn core(node: FdtNode) -> Option<Core> {
    let mpidr = node.reg().ok().flatten()?.next()?.address().ok()?;
    let start = match node.string("enable-method") {
        Some("psci") => Start::Psci,
        Some("spin-table") => match node.integer("cpu-release-addr") {
            Some(release) if release.is_multiple_of(8) => Start::SpinTable(release),
            _ => Start::Unknown,
        },
        // One core alone need not be started.
        _ => Start::Unknown,
    };
    Some(Core { mpidr, start })
}
