//! The device tree of a guest: QEMU's for `virt`, less what is not provided.
//!
//! Deliberately absent: `kaslr-seed` and `rng-seed`, so that a boot repeats to the instruction; the PMU, GICv2m,
//! PCI, flash, fw_cfg and GPIO, which the machine does not have. Bindings: the kernel's
//! Documentation/devicetree/bindings.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use dtoolkit::ToPropertyValue;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

use crate::devices::watchdog::REFRESH;
use crate::machine::{
    DOORBELL_BASE, DOORBELL_SPI, DOORBELL_STRIDE, GICC_BASE, GICC_SIZE, GICD_BASE, GICD_SIZE,
    MAX_VCPUS, PRIMECELL_SIZE, RAM_BASE, RTC_BASE, RTC_SPI, TIMER_PPIS, UART_BASE, UART_SPI,
    VIRTIO_BASE, VIRTIO_SPI, VIRTIO_STRIDE, WATCHDOG_BASE, WATCHDOG_SIZE, WATCHDOG_SPI,
};
use crate::shared::{self, Connection};

/// The GIC's handle in the tree.
const PHANDLE_GIC: u32 = 1;
/// The PrimeCells' clock's.
const PHANDLE_CLOCK: u32 = 2;
/// What QEMU's clock of the PrimeCells runs at.
const CLOCK_HZ: u32 = 24_000_000;

/// First cell of a GIC interrupt: shared or private, less 32 or 16.
const GIC_SPI: u32 = 0;
const GIC_PPI: u32 = 1;
/// Third cell of a GIC interrupt.
const EDGE_RISING: u32 = 1;
const LEVEL_HIGH: u32 = 4;
/// Where the third cell has a private interrupt's mask of vCPUs.
const PPI_CPUS_SHIFT: u32 = 8;

/// What differs from one guest to the next.
#[derive(Clone, Debug, Default)]
pub struct Machine<'a> {
    /// Bytes of RAM.
    pub ram_size: u64,
    /// Number of vCPUs.
    pub vcpus: u8,
    /// The kernel's command line; nothing is said where it is empty.
    pub bootargs: &'a str,
    /// Where the initial RAM disk is, in guest-physical addresses.
    pub initrd: Option<Range<u64>>,
    /// Number of virtio-mmio slots with a device behind them.
    pub virtio_slots: u32,
    /// What its counter runs at, in Hz, where CNTFRQ_EL0 may say something else.
    pub counter_frequency: Option<u32>,
    /// The watchdog, if there is one: the seconds within which it must be fed, or 0.
    pub watchdog: Option<u32>,
    /// What it shares with others.
    pub shared: &'a [Connection<'a>],
}

/// Writes the device tree of `machine`.
pub fn generate(machine: &Machine<'_>) -> Vec<u8> {
    let mut tree = DeviceTree::new();
    let root = &mut tree.root;
    put(root, "#address-cells", 2u32);
    put(root, "#size-cells", 2u32);
    put(root, "compatible", "linux,dummy-virt");
    put(root, "model", "linux,dummy-virt");
    put(root, "interrupt-parent", PHANDLE_GIC);
    put(root, "dma-coherent", EMPTY);

    let uart = format!("pl011@{UART_BASE:x}");
    root.add_child(chosen(machine, &uart));
    let mut aliases = node("aliases");
    put(&mut aliases, "serial0", format!("/{uart}"));
    root.add_child(aliases);

    let mut memory = node(&format!("memory@{RAM_BASE:x}"));
    put(&mut memory, "device_type", "memory");
    put(&mut memory, "reg", reg(&[(RAM_BASE, machine.ram_size)]));
    root.add_child(memory);
    root.add_child(cpus(machine.vcpus));

    let mut psci = node("psci");
    put(&mut psci, "compatible", list(&["arm,psci-1.0", "arm,psci-0.2"]));
    put(&mut psci, "method", "hvc");
    root.add_child(psci);

    root.add_child(gic());
    root.add_child(timer(machine));
    root.add_child(clock());
    root.add_child(primecell(&uart, "arm,pl011", UART_BASE, UART_SPI, &["uartclk", "apb_pclk"]));
    let rtc = format!("pl031@{RTC_BASE:x}");
    root.add_child(primecell(&rtc, "arm,pl031", RTC_BASE, RTC_SPI, &["apb_pclk"]));
    if let Some(seconds) = machine.watchdog {
        root.add_child(watchdog(seconds));
    }
    for (n, connection) in machine.shared.iter().enumerate() {
        root.add_child(shared_memory(n, connection));
    }
    for slot in 0..machine.virtio_slots {
        root.add_child(virtio(slot));
    }
    tree.to_dtb()
}

fn chosen(machine: &Machine<'_>, uart: &str) -> DeviceTreeNode {
    let mut chosen = node("chosen");
    put(&mut chosen, "stdout-path", format!("/{uart}"));
    if !machine.bootargs.is_empty() {
        put(&mut chosen, "bootargs", machine.bootargs);
    }
    if let Some(initrd) = &machine.initrd {
        put(&mut chosen, "linux,initrd-start", initrd.start);
        put(&mut chosen, "linux,initrd-end", initrd.end);
    }
    chosen
}

fn cpus(vcpus: u8) -> DeviceTreeNode {
    let mut cpus = node("cpus");
    put(&mut cpus, "#address-cells", 1u32);
    put(&mut cpus, "#size-cells", 0u32);
    // The MPIDR's affinity: Aff0 alone, as a GICv2 system of up to eight has it under QEMU.
    for affinity in 0..u32::from(vcpus) {
        let mut cpu = node(&format!("cpu@{affinity:x}"));
        put(&mut cpu, "device_type", "cpu");
        put(&mut cpu, "compatible", "arm,armv8");
        put(&mut cpu, "reg", affinity);
        put(&mut cpu, "enable-method", "psci");
        cpus.add_child(cpu);
    }
    cpus
}

fn gic() -> DeviceTreeNode {
    let mut gic = node(&format!("intc@{GICD_BASE:x}"));
    put(&mut gic, "compatible", "arm,cortex-a15-gic");
    put(&mut gic, "reg", reg(&[(GICD_BASE, GICD_SIZE), (GICC_BASE, GICC_SIZE)]));
    put(&mut gic, "interrupt-controller", EMPTY);
    put(&mut gic, "#interrupt-cells", 3u32);
    put(&mut gic, "#address-cells", 0u32);
    put(&mut gic, "phandle", PHANDLE_GIC);
    gic
}

fn timer(machine: &Machine<'_>) -> DeviceTreeNode {
    let cpus = (1 << u32::from(machine.vcpus.min(MAX_VCPUS))) - 1;
    let flags = LEVEL_HIGH | cpus << PPI_CPUS_SHIFT;
    let interrupts: Vec<u32> =
        TIMER_PPIS.iter().flat_map(|&number| [GIC_PPI, number, flags]).collect();
    let mut timer = node("timer");
    put(&mut timer, "compatible", list(&["arm,armv8-timer", "arm,armv7-timer"]));
    put(&mut timer, "interrupts", interrupts);
    put(&mut timer, "always-on", EMPTY);
    if let Some(frequency) = machine.counter_frequency {
        put(&mut timer, "clock-frequency", frequency);
    }
    timer
}

fn clock() -> DeviceTreeNode {
    let mut clock = node("apb-pclk");
    put(&mut clock, "compatible", "fixed-clock");
    put(&mut clock, "#clock-cells", 0u32);
    put(&mut clock, "clock-frequency", CLOCK_HZ);
    put(&mut clock, "clock-output-names", "clk24mhz");
    put(&mut clock, "phandle", PHANDLE_CLOCK);
    clock
}

fn primecell(
    name: &str,
    compatible: &str,
    base: u64,
    spi: u32,
    clock_names: &[&str],
) -> DeviceTreeNode {
    let mut cell = node(name);
    put(&mut cell, "compatible", list(&[compatible, "arm,primecell"]));
    put(&mut cell, "reg", reg(&[(base, PRIMECELL_SIZE)]));
    put(&mut cell, "interrupts", [GIC_SPI, spi, LEVEL_HIGH]);
    put(&mut cell, "clocks", alloc::vec![PHANDLE_CLOCK; clock_names.len()]);
    put(&mut cell, "clock-names", list(clock_names));
    cell
}

fn watchdog(seconds: u32) -> DeviceTreeNode {
    let mut watchdog = node(&format!("watchdog@{WATCHDOG_BASE:x}"));
    let refresh = WATCHDOG_BASE + REFRESH;
    let frames = [(WATCHDOG_BASE, REFRESH), (refresh, WATCHDOG_SIZE - REFRESH)];
    put(&mut watchdog, "compatible", "arm,sbsa-gwdt");
    put(&mut watchdog, "reg", reg(&frames));
    put(&mut watchdog, "interrupts", [GIC_SPI, WATCHDOG_SPI, LEVEL_HIGH]);
    if seconds > 0 {
        put(&mut watchdog, "timeout-sec", seconds);
    }
    watchdog
}

/// `generic-uio` is for Linux's `uio_pdrv_genirq`, which gives both pieces and the interrupt to a program.
fn shared_memory(n: usize, connection: &Connection<'_>) -> DeviceTreeNode {
    let (base, region) = (shared::address(n), connection.region);
    let doorbell = DOORBELL_BASE + n as u64 * DOORBELL_STRIDE;
    let guests: Vec<&str> = region.guests.iter().map(String::as_str).collect();
    let mut node = node(&format!("shared-memory@{base:x}"));
    put(&mut node, "compatible", list(&["stasis,shared-memory", "generic-uio"]));
    put(&mut node, "reg", reg(&[(base, region.size), (doorbell, DOORBELL_STRIDE)]));
    put(&mut node, "reg-names", list(&["memory", "doorbell"]));
    put(&mut node, "interrupts", [GIC_SPI, DOORBELL_SPI + n as u32, LEVEL_HIGH]);
    put(&mut node, "label", region.name.as_str());
    put(&mut node, "linux,uio-name", region.name.as_str());
    put(&mut node, "stasis,index", u32::from(connection.index));
    put(&mut node, "stasis,guests", list(&guests));
    node
}

fn virtio(slot: u32) -> DeviceTreeNode {
    let base = VIRTIO_BASE + u64::from(slot) * VIRTIO_STRIDE;
    let mut device = node(&format!("virtio_mmio@{base:x}"));
    put(&mut device, "compatible", "virtio,mmio");
    put(&mut device, "reg", reg(&[(base, VIRTIO_STRIDE)]));
    put(&mut device, "interrupts", [GIC_SPI, VIRTIO_SPI + slot, EDGE_RISING]);
    put(&mut device, "dma-coherent", EMPTY);
    device
}

/// The value of a property that says all by being there.
const EMPTY: [u8; 0] = [];

// The names above are literals and addresses, all valid: the unchecked constructors spare an error that cannot be.

fn node(name: &str) -> DeviceTreeNode {
    DeviceTreeNode::new_unchecked(name)
}

fn put(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}

/// A `reg` of two cells each.
fn reg(ranges: &[(u64, u64)]) -> Vec<u8> {
    ranges
        .iter()
        .flat_map(|(base, size)| [base.to_be_bytes(), size.to_be_bytes()].concat())
        .collect()
}

/// A list of strings, each with its NUL.
fn list(strings: &[&str]) -> Vec<u8> {
    let mut joined = String::new();
    for string in strings {
        joined.push_str(string);
        joined.push('\0');
    }
    joined.into_bytes()
}

#[cfg(test)]
mod tests;
