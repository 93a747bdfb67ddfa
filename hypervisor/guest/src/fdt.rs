//! The device tree of a guest: QEMU's for `virt`, without what is not provided.
//!
//! Deliberately absent are `kaslr-seed` and `rng-seed`, so that a boot repeats to the instruction;
//! and the PMU, GICv2m, PCI, flash and fw_cfg, which a guest's machine does not have or does not
//! show. The bindings are in the kernel's Documentation/devicetree/bindings.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use crate::given::Device;
use stasis_devices::equipment::Equipment;
use stasis_devices::list;
use stasis_devices::machine::{GICC_BASE, GICC_SIZE, GICD_BASE, GICD_SIZE, MAX_VCPUS, TIMER_PPIS};
use stasis_devices::pl011;
use stasis_devices::tree::{GIC_PPI, GIC_SPI, LEVEL_HIGH, PHANDLE_CLOCK, PHANDLE_GIC};

pub use stasis_devices::tree::Writer;

/// Handle of the first clock of the machine's devices that the guest was given.
const PHANDLE_DEVICE_CLOCK: u32 = 0x100;
/// Frequency of QEMU's clock of the PrimeCells, in Hz.
const CLOCK_HZ: u32 = 24_000_000;

/// Lowest bit of the mask of vCPUs in a private interrupt's third cell.
const PPI_CPUS_SHIFT: u32 = 8;

/// The facts that differ from one guest's device tree to the next.
#[derive(Clone, Debug, Default)]
pub struct Machine<'a> {
    /// Guest-physical address of the RAM.
    pub ram_base: u64,
    /// Bytes of RAM.
    pub ram_size: u64,
    /// Number of vCPUs.
    pub vcpus: u8,
    /// The kernel's command line. If it is empty, the tree has no `bootargs`.
    pub bootargs: &'a str,
    /// Guest-physical addresses of the initial RAM disk.
    pub initrd: Option<Range<u64>>,
    /// Frequency of the guest's counter, in Hz, if CNTFRQ_EL0 may say something else.
    pub counter_frequency: Option<u32>,
    /// The parts of the guest's machine that not every guest has.
    pub equipment: Equipment<'a>,
    /// The machine's devices that the guest was given.
    pub given: &'a [Device],
}

/// Returns the flattened device tree of `machine`.
pub fn generate(machine: &Machine<'_>) -> Vec<u8> {
    let mut writer = Writer::new();
    let tree = &mut writer;
    tree.cell("#address-cells", 2);
    tree.cell("#size-cells", 2);
    tree.string("compatible", "linux,dummy-virt");
    tree.string("model", "linux,dummy-virt");
    tree.cell("interrupt-parent", PHANDLE_GIC);
    tree.empty("dma-coherent");

    let uart_path = format!("/{}", pl011::NODE);
    chosen(tree, machine, &uart_path);
    tree.begin("aliases");
    tree.string("serial0", &uart_path);
    tree.end();

    tree.begin(&format!("memory@{:x}", machine.ram_base));
    tree.string("device_type", "memory");
    tree.reg(&[(machine.ram_base, machine.ram_size)]);
    tree.end();
    cpus(tree, machine.vcpus);

    tree.begin("psci");
    tree.strings("compatible", &["arm,psci-1.0", "arm,psci-0.2"]);
    tree.string("method", "hvc");
    tree.end();

    gic(tree);
    timer(tree, machine);
    clock(tree);
    list::describe(&machine.equipment, tree);
    for (n, device) in (0..).zip(machine.given) {
        given(tree, n, device);
    }
    writer.finish()
}

fn chosen(tree: &mut Writer, machine: &Machine<'_>, uart_path: &str) {
    tree.begin("chosen");
    tree.string("stdout-path", uart_path);
    if !machine.bootargs.is_empty() {
        tree.string("bootargs", machine.bootargs);
    }
    if let Some(initrd) = &machine.initrd {
        tree.number("linux,initrd-start", initrd.start);
        tree.number("linux,initrd-end", initrd.end);
    }
    tree.end();
}

fn cpus(tree: &mut Writer, vcpus: u8) {
    tree.begin("cpus");
    tree.cell("#address-cells", 1);
    tree.cell("#size-cells", 0);
    // The affinity of MPIDR_EL1 is Aff0 alone, as in a GICv2 system of up to eight CPUs under QEMU.
    for affinity in 0..u32::from(vcpus) {
        tree.begin(&format!("cpu@{affinity:x}"));
        tree.string("device_type", "cpu");
        tree.string("compatible", "arm,armv8");
        tree.cell("reg", affinity);
        tree.string("enable-method", "psci");
        tree.end();
    }
    tree.end();
}

fn gic(tree: &mut Writer) {
    tree.begin(&format!("intc@{GICD_BASE:x}"));
    tree.string("compatible", "arm,cortex-a15-gic");
    tree.reg(&[(GICD_BASE, GICD_SIZE), (GICC_BASE, GICC_SIZE)]);
    tree.empty("interrupt-controller");
    tree.cell("#interrupt-cells", 3);
    tree.cell("#address-cells", 0);
    tree.cell("phandle", PHANDLE_GIC);
    tree.end();
}

fn timer(tree: &mut Writer, machine: &Machine<'_>) {
    let cpus = (1 << u32::from(machine.vcpus.min(MAX_VCPUS))) - 1;
    let flags = LEVEL_HIGH | cpus << PPI_CPUS_SHIFT;
    let interrupts = TIMER_PPIS.map(|number| [GIC_PPI, number, flags]);
    tree.begin("timer");
    tree.strings("compatible", &["arm,armv8-timer", "arm,armv7-timer"]);
    tree.cells("interrupts", interrupts.as_flattened());
    tree.empty("always-on");
    if let Some(frequency) = machine.counter_frequency {
        tree.cell("clock-frequency", frequency);
    }
    tree.end();
}

fn clock(tree: &mut Writer) {
    tree.begin("apb-pclk");
    tree.string("compatible", "fixed-clock");
    tree.cell("#clock-cells", 0);
    tree.cell("clock-frequency", CLOCK_HZ);
    tree.string("clock-output-names", "clk24mhz");
    tree.cell("phandle", PHANDLE_CLOCK);
    tree.end();
}

/// Writes the nodes of the `n`th device that the guest was given, and of its clock. The device's
/// node has its name on the machine and its address in the guest.
fn given(tree: &mut Writer, n: u32, device: &Device) {
    let phandle = PHANDLE_DEVICE_CLOCK + n;
    if let Some((_, hz)) = device.grant.clocks {
        tree.begin(&format!("device-clock-{n}"));
        tree.string("compatible", "fixed-clock");
        tree.cell("#clock-cells", 0);
        tree.cell("clock-frequency", hz);
        tree.cell("phandle", phandle);
        tree.end();
    }
    let name = device.grant.path.rsplit('/').next().and_then(|last| last.split('@').next());
    let address = device.frames.first().map_or(0, |frame| frame.start);
    tree.begin(&format!("{}@{address:x}", name.unwrap_or("device")));
    strings(tree, "compatible", &device.grant.compatible);
    let frames: Vec<(u64, u64)> =
        device.frames.iter().map(|frame| (frame.start, frame.len())).collect();
    tree.reg(&frames);
    let interrupts = device.grant.interrupts.iter().zip(&device.spis);
    let interrupts: Vec<u32> = interrupts.flat_map(|(of, spi)| [GIC_SPI, *spi, of.flags]).collect();
    if !interrupts.is_empty() {
        tree.cells("interrupts", &interrupts);
    }
    if let Some((names, _)) = &device.grant.clocks {
        tree.cells("clocks", &alloc::vec![phandle; names.len().max(1)]);
        strings(tree, "clock-names", names);
    }
    for (name, value) in &device.grant.properties {
        tree.bytes(name, value);
    }
    tree.end();
}

fn strings(tree: &mut Writer, name: &str, values: &[String]) {
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    tree.strings(name, &values);
}

#[cfg(test)]
mod tests;
