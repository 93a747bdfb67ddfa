//! The machine that Stasis runs on, as its device tree describes it (Devicetree Specification,
//! chapters 2 and 3, and the bindings of each device).
//!
//! [`Machine::describe`] walks the tree once (`search`); addresses are translated to the CPU's on
//! the way (`bus`); `serial` chooses the console among the UARTs. What is reserved, and so what is
//! free, is computed here too. Where the tree is of no use, [`early`] knows where to say so.

mod bus;
pub mod early;
pub mod give;
pub mod grant;
mod lookup;
pub mod own;
mod reach;
mod search;
mod serial;
#[cfg(test)]
pub(crate) mod tests;
pub mod uplink;
mod window;

use arrayvec::ArrayVec;
use dtoolkit::fdt::Fdt;
use dtoolkit::{Node, Property};
use lookup::Lookup;
pub use reach::Reach;
use stasis_memory::PAGE_SIZE;
use stasis_memory::range::{Pool, Range};

/// Cores that are looked at: as many as a GICv2 can tell apart.
pub const MAX_CORES: usize = 8;
/// Devices of one kind that are looked at: QEMU's `virt` has 32 virtio-mmio slots.
const MAX_DEVICES: usize = 32;
/// SD hosts that are looked at: a Raspberry Pi has two, one of them for its radio.
const MAX_SD_HOSTS: usize = 4;
/// Random bytes that are taken from the firmware.
const MAX_SEED: usize = 64;
/// Ranges of memory.
const MAX_RANGES: usize = 16;
/// Memory is used by whole pages.
/// Memory beyond this is not used: EL2's translation has 39 bits.
const MEMORY_END: u64 = 1 << 39;

/// What is wrong with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// The firmware handed over something else.
    #[error("the device tree at {address:#x} cannot be read")]
    DeviceTree {
        /// Where it should be.
        address: u64,
    },
    /// Without this there is no hypervisor.
    #[error("the device tree has no {what}")]
    Missing {
        /// What it is.
        what: &'static str,
    },
    /// The machine has another interrupt controller.
    #[error(
        "the machine has a GICv3 and no GICv2, which is needed; QEMU's virt has one with -M gic-version=2"
    )]
    OtherGic,
    /// Nobody tells how fast time passes.
    #[error(
        "neither CNTFRQ_EL0 nor the device tree's timer (clock-frequency) tells how fast the counter goes"
    )]
    NoCounterFrequency,
    /// The GIC is not one that helps with guests.
    #[error(
        "the GIC has {found} of the 4 frames GICD, GICC, GICH, GICV: it has no virtualization \
         extensions, or QEMU was started without virtualization=on"
    )]
    GicFrames {
        /// Number of frames.
        found: usize,
    },
}

/// A device's registers and its interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Physical addresses of the first frame.
    pub frame: Range,
    /// The first interrupt, 0 where the device tree names none.
    pub intid: u32,
}

/// The GIC's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GicFrames {
    /// The distributor.
    pub gicd: Range,
    /// The CPU interface.
    pub gicc: Range,
    /// The virtual interface, for EL2.
    pub gich: Range,
    /// The virtual CPU interface, for guests.
    pub gicv: Range,
    /// The maintenance interrupt.
    pub maintenance: u32,
}

/// What kind of UART it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UartKind {
    /// `arm,pl011`.
    Pl011,
    /// `brcm,bcm2835-aux-uart`: the Raspberry Pi's mini UART.
    Mini,
}

/// A UART.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uart {
    /// The UART's kind.
    pub kind: UartKind,
    /// The UART's registers and its interrupt.
    pub device: Device,
}

/// An SD host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SdHost<'a> {
    /// The host's registers and its interrupt.
    pub device: Device,
    /// Which kind it is: one of its `compatible`s.
    pub compatible: &'a str,
    /// What is connected is soldered on: rarely a card, but on QEMU's `raspi4b` it is one.
    pub fixed: bool,
    /// The memory that it reaches by DMA.
    pub reach: Reach,
}

/// How the firmware takes PSCI calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// By HVC.
    Hvc,
    /// By SMC.
    Smc,
}

/// How a core is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// By PSCI CPU_ON.
    Psci,
    /// By an address that is written to this one, in memory (Devicetree Specification, 3.8.1).
    SpinTable(u64),
    /// By no way that is known here.
    Unknown,
}

/// A core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core {
    /// MPIDR_EL1: Aff3, Aff2, Aff1, Aff0.
    pub mpidr: u64,
    /// How it is started.
    pub start: Start,
}

/// Memory that belongs to the firmware, or to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The addresses of the memory.
    pub range: Range,
    /// `no-map`: the memory must not even be read ahead of time.
    pub no_map: bool,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    /// `model`, or the first `compatible`.
    pub model: &'a str,
    /// The boards that it is: the root's `compatible`.
    boards: ArrayVec<&'a str, 4>,
    /// /chosen/bootargs.
    pub bootargs: &'a str,
    /// Random bytes of the firmware's: /chosen/rng-seed, or else kaslr-seed; empty if there are
    /// none. Nobody else may use them.
    pub seed: ArrayVec<u8, MAX_SEED>,
    /// All RAM.
    pub memory: ArrayVec<Range, MAX_RANGES>,
    /// What of it belongs to the firmware.
    pub reserved: ArrayVec<Reservation, MAX_RANGES>,
    /// The boot archive.
    pub initrd: Option<Range>,
    /// Where the device tree lies.
    pub device_tree: Range,
    /// What is wrong with the GIC is said once there is a UART to say it on.
    pub gic: Result<GicFrames, MachineError>,
    /// The console.
    pub uart: Uart,
    /// The console that was asked for and is not there.
    pub lost_console: Option<&'a str>,
    /// The UART that the channel for programs has for itself.
    pub channel: Option<Uart>,
    /// The UART that was asked for as the channel's and is not there, or is the console's.
    pub lost_channel: Option<&'a str>,
    /// The real-time clock.
    pub rtc: Option<Device>,
    /// The virtio-mmio slots.
    pub virtio: ArrayVec<Device, MAX_DEVICES>,
    /// The SD hosts, those for cards first.
    pub sd_hosts: ArrayVec<SdHost<'a>, MAX_SD_HOSTS>,
    /// The Raspberry Pi's power management, which can reset it.
    pub watchdog: Option<Device>,
    /// The Raspberry Pi's random number generator.
    pub random: Option<Device>,
    /// The cores, in the device tree's order.
    pub cores: ArrayVec<Core, MAX_CORES>,
    /// How PSCI is called, where the firmware has it.
    pub psci: Option<Conduit>,
    /// The counter's frequency in Hz, for firmware that has not set CNTFRQ_EL0.
    pub counter_frequency: Option<u64>,
}

/// Returns the random bytes that the firmware has put into the device tree.
fn seed(fdt: Fdt<'_>) -> ArrayVec<u8, MAX_SEED> {
    let chosen = fdt.find_node("/chosen");
    let named = |name| chosen.and_then(|node| node.property(name));
    let seed = named("rng-seed").or_else(|| named("kaslr-seed"));
    seed.map(|seed| seed.value().iter().copied().take(MAX_SEED).collect()).unwrap_or_default()
}

impl<'a> Machine<'a> {
    /// Finds the machine in its device tree, which lies at physical address `address`.
    ///
    /// # Errors
    ///
    /// [`MachineError::Missing`] if there is no UART: nobody could be told of anything.
    pub fn describe(fdt: Fdt<'a>, address: u64) -> Result<Self, MachineError> {
        let mut found = search::Search::default();
        fdt.root().children().for_each(|node| found.visit(node, &bus::Bus::root()));
        let chosen = fdt.find_node("/chosen");
        let bootargs = chosen.and_then(|node| node.string("bootargs")).unwrap_or("");
        let mut reserved: ArrayVec<Reservation, MAX_RANGES> = fdt
            .memory_reservations()
            .map(|r| Reservation { range: Range::new(r.address(), r.size()), no_map: false })
            .take(MAX_RANGES)
            .collect();
        reserved.extend(found.reserved.iter().copied().take(reserved.remaining_capacity()));
        let console = serial::choose(fdt, bootargs, &found.uarts);
        let uarts = (&found.uarts[..], &found.spare_uarts[..]);
        let channel = serial::choose_channel(fdt, bootargs, uarts, console.uart);
        let root = fdt.root();
        Ok(Self {
            model: root.string("model").or(root.string("compatible")).unwrap_or("unnamed"),
            boards: root.compatible().into_iter().flatten().take(4).collect(),
            bootargs,
            seed: seed(fdt),
            memory: found.memory,
            reserved,
            initrd: chosen.and_then(|node| {
                let start = node.integer("linux,initrd-start")?;
                Some(Range::new(start, node.integer("linux,initrd-end")?.checked_sub(start)?))
            }),
            device_tree: Range::new(address, fdt.data().len() as u64),
            gic: found.gic.unwrap_or(Err(MachineError::Missing { what: "GICv2" })),
            uart: console.uart.ok_or(MachineError::Missing { what: "PL011 or mini UART" })?,
            lost_console: console.lost,
            channel: channel.uart,
            lost_channel: channel.lost,
            rtc: found.rtc,
            virtio: found.virtio,
            sd_hosts: found.sd_hosts,
            watchdog: found.watchdog,
            random: found.random,
            cores: found.cores,
            psci: found.psci,
            counter_frequency: found.timer_frequency.or(found.oscillator),
        })
    }

    /// Returns whether the machine is this board, by the root's `compatible`.
    pub fn is(&self, board: &str) -> bool {
        self.boards.contains(&board)
    }

    /// Returns for each core whether it can run: the first one does already, and the boot knows how
    /// to start the others or not.
    pub fn startable_cores(&self) -> impl Iterator<Item = bool> {
        let is_startable =
            |core: &Core| self.psci.is_some() || matches!(core.start, Start::SpinTable(_));
        core::iter::once(true).chain(self.cores.iter().skip(1).map(is_startable))
    }

    /// Returns the RAM that EL2 may map: whole pages, without what must not be mapped.
    pub fn mappable_ram(&self) -> Pool {
        let mut pool = Pool::new();
        for range in &self.memory {
            let end = range.end.min(MEMORY_END);
            pool.add(Range { end, ..*range }.inward(PAGE_SIZE));
        }
        for reservation in self.reserved.iter().filter(|reservation| reservation.no_map) {
            pool.remove(reservation.range.outward(PAGE_SIZE));
        }
        // A core that spins reads its release address, wherever the firmware has put it.
        for core in &self.cores {
            if let Start::SpinTable(release) = core.start {
                pool.add(Range::new(release, 8).outward(PAGE_SIZE));
            }
        }
        pool
    }

    /// Returns the RAM that nothing uses, if `image` is where the hypervisor lies.
    pub fn free_ram(&self, image: Range) -> Pool {
        let mut pool = self.mappable_ram();
        let reserved = self.reserved.iter().map(|reservation| reservation.range);
        let releases = self.cores.iter().filter_map(|core| match core.start {
            Start::SpinTable(release) => Some(Range::new(release, 8)),
            _ => None,
        });
        let in_use = [image, self.device_tree].into_iter().chain(self.initrd);
        for range in in_use.chain(reserved).chain(releases) {
            pool.remove(range.outward(PAGE_SIZE));
        }
        pool
    }
}
