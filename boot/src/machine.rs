//! The machine, as its device tree describes it (Devicetree Specification, chapters 2 and 3; the
//! bindings of arm,gic, arm,pl011, arm,psci, virtio,mmio and of the SD hosts).

use arrayvec::ArrayVec;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{FdtStringListIterator, Node, Property};
use stasis_arch::boot::MAX_CORES;
use stasis_vm::range::Range;

/// Devices of one kind that are looked at: QEMU's `virt` has 32 virtio-mmio slots.
const MAX_DEVICES: usize = 32;
/// SD hosts that are looked at: a Raspberry Pi has two, one of them for its radio.
const MAX_SD_HOSTS: usize = 4;
/// The SD hosts that follow the SD Host Controller Simplified Specification, as far as a card needs it.
const SD_HOSTS: [&str; 4] =
    ["brcm,bcm2711-emmc2", "brcm,bcm2712-sdhci", "brcm,bcm2835-sdhci", "arasan,sdhci-8.9a"];
/// Ranges of memory.
const MAX_RANGES: usize = 16;
/// The first INTID of an SPI.
const FIRST_SPI: u32 = 32;

/// What is wrong with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    #[error("the device tree at {address:#x} cannot be read")]
    DeviceTree { address: u64 },
    #[error("the device tree has no {what}")]
    Missing { what: &'static str },
    #[error(
        "the GIC has {found} of the 4 frames GICD, GICC, GICH, GICV: it has no virtualization \
         extensions, or QEMU was started without virtualization=on"
    )]
    GicFrames { found: usize },
}

/// A device's registers and its interrupt.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// Physical addresses of the first frame.
    pub frame: Range,
    /// The first interrupt, 0 where the device tree names none.
    pub intid: u32,
}

/// The GIC's frames.
#[derive(Clone, Copy, Debug)]
pub struct GicFrames {
    pub gicd: Range,
    pub gicc: Range,
    pub gich: Range,
    pub gicv: Range,
    /// The maintenance interrupt.
    pub maintenance: u32,
}

/// An SD host.
#[derive(Clone, Copy, Debug)]
pub struct SdHost<'a> {
    pub device: Device,
    /// Which kind it is: one of its `compatible`s.
    pub compatible: &'a str,
    /// What is connected is soldered on: rarely a card, but on QEMU's `raspi4b` it is one.
    pub fixed: bool,
}

/// How the firmware takes PSCI calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    Hvc,
    Smc,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    /// `model`, or the first `compatible`.
    pub model: &'a str,
    /// /chosen/bootargs.
    pub bootargs: &'a str,
    pub memory: ArrayVec<Range, MAX_RANGES>,
    /// What of it belongs to the firmware.
    pub reserved: ArrayVec<Range, MAX_RANGES>,
    pub initrd: Option<Range>,
    pub device_tree: Range,
    /// What is wrong with the GIC is said once there is a UART to say it on.
    pub gic: Result<GicFrames, MachineError>,
    pub uart: Device,
    pub rtc: Option<Device>,
    pub virtio: ArrayVec<Device, MAX_DEVICES>,
    /// Those for cards first.
    pub sd_hosts: ArrayVec<SdHost<'a>, MAX_SD_HOSTS>,
    /// MPIDR_EL1 of each core.
    pub cores: ArrayVec<u64, MAX_CORES>,
    /// Without PSCI there is one core, and no way to switch the machine off.
    pub psci: Option<Conduit>,
}

impl<'a> Machine<'a> {
    /// Finds the machine in the device tree at physical address `address`.
    ///
    /// # Safety
    ///
    /// `address` is that of the device tree that the boot protocol hands over, in mapped memory that
    /// is not written for `'a`.
    pub unsafe fn find(address: u64) -> Result<Self, MachineError> {
        // SAFETY: the caller's; a blob that is none is recognised by its header.
        let fdt = unsafe { Fdt::from_raw(address as *const u8) }
            .map_err(|_| MachineError::DeviceTree { address })?;
        let mut found = Search::default();
        found.visit(fdt.root(), &Bus::root());
        found.sd_hosts.sort_unstable_by_key(|host| host.fixed);
        let chosen = fdt.find_node("/chosen");
        let text = |name| chosen.and_then(|node| node.string(name)).unwrap_or("");
        let mut reserved: ArrayVec<Range, MAX_RANGES> = fdt
            .memory_reservations()
            .map(|r| Range::new(r.address(), r.size()))
            .take(MAX_RANGES)
            .collect();
        reserved.extend(found.reserved.iter().copied().take(reserved.remaining_capacity()));
        let root = fdt.root();
        Ok(Self {
            model: root.string("model").or(root.string("compatible")).unwrap_or("unnamed"),
            bootargs: text("bootargs"),
            memory: found.memory,
            reserved,
            initrd: chosen.and_then(|node| {
                let start = node.integer("linux,initrd-start")?;
                Some(Range::new(start, node.integer("linux,initrd-end")?.checked_sub(start)?))
            }),
            device_tree: Range::new(address, fdt.data().len() as u64),
            gic: found.gic.unwrap_or(Err(MachineError::Missing { what: "GICv2" })),
            uart: found.uart.ok_or(MachineError::Missing { what: "PL011 UART" })?,
            rtc: found.rtc,
            virtio: found.virtio,
            sd_hosts: found.sd_hosts,
            cores: found.cores,
            psci: found.psci,
        })
    }
}

/// Where the addresses of a bus's devices are, seen from the CPU: its `ranges`, translated.
#[derive(Clone)]
struct Bus {
    /// Start on the bus, start for the CPU, length. None at all: the bus is transparent.
    windows: ArrayVec<(u64, u64, u64), MAX_RANGES>,
}

impl Bus {
    fn root() -> Self {
        Self { windows: ArrayVec::new() }
    }

    fn translate(&self, address: u64) -> Option<u64> {
        if self.windows.is_empty() {
            return Some(address);
        }
        self.windows.iter().find_map(|&(start, cpu, len)| {
            let offset = address.checked_sub(start)?;
            (offset < len).then_some(cpu + offset)
        })
    }

    /// The bus that `node` is.
    fn below(&self, node: FdtNode) -> Self {
        let mut windows = ArrayVec::new();
        for range in node.ranges().ok().flatten().into_iter().flatten() {
            let window = (|| {
                let cpu = self.translate(range.parent_bus_address().ok()?)?;
                Some((range.child_bus_address().ok()?, cpu, range.length().ok()?))
            })();
            // More windows than any board has are left out, and what lies behind them is not found.
            let _ = window.map(|window| windows.try_push(window));
        }
        if windows.is_empty() { self.clone() } else { Self { windows } }
    }
}

/// What was found on the way through the device tree. The first of a kind counts.
#[derive(Default)]
struct Search<'a> {
    memory: ArrayVec<Range, MAX_RANGES>,
    reserved: ArrayVec<Range, MAX_RANGES>,
    gic: Option<Result<GicFrames, MachineError>>,
    uart: Option<Device>,
    rtc: Option<Device>,
    virtio: ArrayVec<Device, MAX_DEVICES>,
    sd_hosts: ArrayVec<SdHost<'a>, MAX_SD_HOSTS>,
    cores: ArrayVec<u64, MAX_CORES>,
    psci: Option<Conduit>,
}

impl<'a> Search<'a> {
    fn visit(&mut self, node: FdtNode<'a>, bus: &Bus) {
        if node.string("status").is_some_and(|status| status != "okay" && status != "ok") {
            return;
        }
        match node.string("device_type") {
            Some("memory") => frames(node, bus).for_each(|range| push(&mut self.memory, range)),
            Some("cpu") => {
                let mpidr =
                    node.reg().ok().flatten().and_then(|mut reg| reg.next()?.address().ok());
                mpidr.into_iter().for_each(|mpidr: u64| push(&mut self.cores, mpidr));
            }
            _ => {}
        }
        if node.has_compatible(&["arm,gic-400", "arm,cortex-a15-gic"]) {
            self.gic.get_or_insert_with(|| gic_frames(node, bus));
        } else if node.has_compatible(&["arm,pl011"]) {
            self.uart = self.uart.or(device(node, bus));
        } else if node.has_compatible(&["arm,pl031"]) {
            self.rtc = self.rtc.or(device(node, bus));
        } else if node.has_compatible(&["virtio,mmio"]) {
            device(node, bus).into_iter().for_each(|slot| push(&mut self.virtio, slot));
        } else if node.has_compatible(&SD_HOSTS) {
            sd_host(node, bus).into_iter().for_each(|host| push(&mut self.sd_hosts, host));
        } else if node.has_compatible(&["arm,psci", "arm,psci-0.2", "arm,psci-1.0"]) {
            self.psci = match node.string("method") {
                Some("hvc") => Some(Conduit::Hvc),
                Some("smc") => Some(Conduit::Smc),
                _ => None,
            };
        }
        let below = bus.below(node);
        let reserved = node.name() == "reserved-memory";
        for child in node.children() {
            if reserved {
                frames(child, &below).for_each(|range| push(&mut self.reserved, range));
            } else {
                self.visit(child, &below);
            }
        }
    }
}

/// Keeps the first ones that there is room for.
fn push<T, const N: usize>(list: &mut ArrayVec<T, N>, item: T) {
    let _ = list.try_push(item);
}

fn frames<'a>(node: FdtNode<'a>, bus: &'a Bus) -> impl Iterator<Item = Range> + 'a {
    node.reg()
        .ok()
        .flatten()
        .into_iter()
        .flatten()
        .filter_map(|reg| Some(Range::new(bus.translate(reg.address().ok()?)?, reg.size().ok()?)))
}

fn device(node: FdtNode, bus: &Bus) -> Option<Device> {
    Some(Device { frame: frames(node, bus).next()?, intid: first_interrupt(node).unwrap_or(0) })
}

fn sd_host<'a>(node: FdtNode<'a>, bus: &Bus) -> Option<SdHost<'a>> {
    let compatible = node.compatible()?.find(|name| SD_HOSTS.contains(name))?;
    let fixed = node.property("non-removable").is_some();
    Some(SdHost { device: device(node, bus)?, compatible, fixed })
}

fn gic_frames(node: FdtNode, bus: &Bus) -> Result<GicFrames, MachineError> {
    let frames: ArrayVec<Range, 4> = frames(node, bus).take(4).collect();
    let &[gicd, gicc, gich, gicv] = frames.as_slice() else {
        return Err(MachineError::GicFrames { found: frames.len() });
    };
    const MAINTENANCE_PPI: u32 = 25;
    let maintenance = first_interrupt(node).unwrap_or(MAINTENANCE_PPI);
    Ok(GicFrames { gicd, gicc, gich, gicv, maintenance })
}

/// The INTID of the first entry of `interrupts`: kind (0 is SPI, 1 PPI), number, flags.
fn first_interrupt(node: FdtNode) -> Option<u32> {
    let property = node.property("interrupts")?;
    let (cells, _) = property.value().as_chunks::<4>();
    let cell = |n: usize| cells.get(n).copied().map(u32::from_be_bytes);
    match cell(0)? {
        0 => Some(FIRST_SPI + cell(1)?),
        1 => Some(FIRST_SPI - 16 + cell(1)?),
        _ => None,
    }
}

/// Properties that are absent, and those of another form, are the same to us.
trait Lookup<'a> {
    fn string(self, name: &str) -> Option<&'a str>;
    fn integer(self, name: &str) -> Option<u64>;
    fn has_compatible(self, names: &[&str]) -> bool;
}

impl<'a> Lookup<'a> for FdtNode<'a> {
    /// The first string of a property.
    fn string(self, name: &str) -> Option<&'a str> {
        self.property(name)?.value_as::<FdtStringListIterator<'a>>().ok()?.next()
    }

    /// A property of one or two cells.
    fn integer(self, name: &str) -> Option<u64> {
        let property = self.property(name)?;
        match *property.value() {
            [a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d]).into()),
            [a, b, c, d, e, f, g, h] => Some(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            _ => None,
        }
    }

    fn has_compatible(self, names: &[&str]) -> bool {
        self.compatible().is_some_and(|mut found| found.any(|name| names.contains(&name)))
    }
}
