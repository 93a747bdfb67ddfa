//! A guest: its records and devices, and the answers to what the hardware does not do for it.
//!
//! [`Whole::exit`] answers a trap ([`traps`]). [`Guest::device_interrupt`],
//! [`Guest::timer_interrupt`], [`Guest::receive`] and [`Guest::tick`] bring what happens outside
//! ([`outside`]).
//!
//! All of the guest's state but its RAM is here, in the records of `stasis-state`: what the vCPUs
//! share is in [`Guest`], what each vCPU has for itself is in [`Vcpu`]. Whoever has both the guest
//! and its RAM is a [`Whole`]: only devices need the RAM. While a vCPU is loaded on a core, its
//! [`Vcpu`] belongs to that core, and its system registers and list registers are in the hardware
//! behind [`Host`]. Unloading the vCPU puts them back into the records.

mod outside;
#[cfg(test)]
mod tests;
mod traps;
mod work;

pub use self::traps::{
    Exited, OfUart, OfVirtio, Whole, gicd_word, is_sgir, uart_access, virtio_access,
};
pub use self::work::Taken;

use alloc::boxed::Box;
use alloc::vec::Vec;

use stasis_state::guest;
use stasis_state::guest::Clock;
use stasis_state::machine::Machine;
use stasis_state::records::{GuestState, Records, VcpuRecords, VcpuState};
use stasis_state::timer::settle_lines;
use stasis_state::vcpu::{
    Core, Debug, FpSimd, Identity, Power, PowerState, SystemRegisters, defined_pstate,
};
use stasis_vgic::{VIRTUAL_TIMER, Vgic, VirtualInterface};

use crate::clock::{GuestClock, Pace};
use crate::given::Given;
use crate::inject::El1Registers;
use crate::mmio::Unclaimed;
use crate::once::Once;
use crate::outbox::Outbox;
use crate::register::pstate;
use crate::stop::Crash;
use crate::sysreg::CacheRegister;
use crate::timer;
use stasis_devices::equipment::Equipment;
use stasis_devices::list::{self, Devices, Line};
use stasis_devices::machine::{FIRST_SPI, GICC_BASE, GICD_BASE, PHYSICAL_TIMER};
use stasis_memory::range::Range;

/// Number of INTIDs of the guest's machine, as QEMU's `virt` has it.
pub const NR_IRQS: u16 = 288;

/// The core on which a vCPU is loaded, and the world outside of the guest.
pub trait Host {
    /// The core's virtual interface, and its view of the physical interrupts.
    type Gic: VirtualInterface;
    /// The core's EL1 registers, which are those of the loaded vCPU.
    type El1: El1Registers;

    /// Returns the core's virtual interface.
    fn gic(&mut self) -> &mut Self::Gic;
    /// Returns the core's EL1 registers.
    fn el1(&mut self) -> &mut Self::El1;
    /// Returns the host's CNTPCT, in ticks.
    fn counter(&self) -> u64;
    /// Writes a register that describes the core's caches, if there is a value in `written`.
    /// Returns what it reads then.
    fn cache(&mut self, register: CacheRegister, written: Option<u64>) -> u64;
    /// Adjusts the debug registers to the OS lock, which the vCPU has written: takes them back into
    /// `registers` if the vCPU has them and has locked it, and lends them if the vCPU has unlocked
    /// it and uses them.
    fn os_lock_changed(&mut self, registers: &mut Debug);
    /// Returns whether a debugger outside of the guest has the debug registers, so that the vCPU's
    /// own are in its record.
    fn is_debugged(&self) -> bool {
        false
    }
    /// Returns the machine's time, in seconds since 1970.
    fn wall_time(&self) -> u64;
    /// Returns the outbox for what must be done outside of the guest. The caller of the guest's
    /// logic empties it and carries it out.
    fn outbox(&mut self) -> &mut Outbox;
}

/// What comes after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Enter the guest again.
    Enter,
    /// The vCPU waits for an interrupt: [`Guest::wait`] says how long.
    Wait,
    /// The vCPU has found nothing where the guest has RAM: it is not there yet, or another core
    /// changes stage 2. The vCPU makes its access again.
    NoRam {
        /// Guest-physical address, in RAM; of a table walk, that of the page.
        address: u64,
    },
    /// The vCPU has written what the guest shares with another one, and there is no memory for a
    /// copy: the guest stands still until there is some. The vCPU makes its access again.
    Starved,
    /// This vCPU is off; other vCPUs of the guest are not.
    VcpuOff,
    /// The guest has switched off its machine, or its last vCPU.
    Off,
    /// The guest has reset its machine.
    Reset,
    /// The guest can't go on.
    Crashed(Crash),
}

/// The end of a vCPU's wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The wait is over: the vCPU goes on.
    Over,
    /// The vCPU waits until it is kicked, or until the host's CNTPCT reads this.
    Until(u64),
}

/// The state that a vCPU has for itself. The core that runs the vCPU holds the vCPU's own lock.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is a record, which says what it is")]
pub struct Vcpu {
    pub core: Core,
    pub system: SystemRegisters,
    pub fp: FpSimd,
    pub debug: Debug,
    pub identity: Identity,
    /// Whether the time that [`Guest::tick`] last returned for this vCPU may be wrong now.
    pub deadline_changed: bool,
    /// The host's CNTPCT at which the vCPU's physical timer is due.
    timer_due: u64,
}

/// Where the first vCPU of a guest begins. Its other registers are 0.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Guest-physical address of the first instruction.
    pub entry: u64,
    /// X0: the address of the device tree.
    pub x0: u64,
}

/// The times at which a guest's devices are due, as the host's CNTPCT. [`Guest::tick`] computes
/// them when it looks at the devices.
#[derive(Clone, Copy, Debug)]
struct DevicesDue {
    /// No device changes by itself before this time.
    change: u64,
    /// No line rises by itself before this time.
    line: u64,
}

impl DevicesDue {
    /// The next [`Guest::tick`] looks at the devices.
    const UNKNOWN: Self = Self { change: 0, line: 0 };
}

/// The state that a guest's vCPUs share. Once the guest can run, the caller of any method holds the
/// lock of this state.
///
/// The type takes several KiB and is made in a box: code that is built for size would copy it from
/// frame to frame.
#[derive(Debug)]
pub struct Guest {
    /// The guest's name, and what it needs.
    pub record: guest::Guest,
    /// The guest's clock. It stands still until it is started.
    pub clock: GuestClock,
    clock_record: Clock,
    /// The record of a guest that has switched its machine off, or has reset it. None if it has
    /// done neither.
    pub power: Option<guest::GuestPower>,
    /// The power record of each vCPU: whether it is on.
    pub powers: Vec<Power>,
    /// The guest's interrupt controller.
    pub vgic: Vgic,
    devices: Devices,
    /// Which devices these are, as it is stored.
    machine: Box<Machine>,
    due: DevicesDue,
    unclaimed: Unclaimed,
    unknown_registers: Once<16>,
    unknown_exits: Once<16>,
}

impl Guest {
    /// Returns a guest at reset, and its vCPUs.
    ///
    /// `ram` is the range of its RAM in its map. Its first vCPU is on and will begin at `start`;
    /// the others are off. `identities` has what each vCPU sees of its CPU. `wall_time` is in
    /// seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`stasis_vgic::Error`] if the guest can't have a GIC with this number of vCPUs.
    pub fn new(
        name: &str,
        ram: Range,
        identities: &[Identity],
        start: Start,
        pace: Pace,
        wall_time: u64,
    ) -> Result<(Box<Self>, Vec<Vcpu>), stasis_vgic::Error> {
        let mut state = GuestState::reset(identities.len() as u8);
        state.guest.set_name(name);
        *state.guest.ram_base = ram.start;
        *state.guest.ram_size = ram.len();
        *state.clock.cntfrq = pace.guest_hz();
        *state.clock.wall_time = wall_time;
        state.distributor = Vgic::distributor_at_reset(NR_IRQS, identities.len() as u8);
        *state.distributor.dist_base = GICD_BASE;
        *state.distributor.cpu_base = GICC_BASE;
        for (vcpu, identity) in state.vcpus.iter_mut().zip(identities) {
            vcpu.identity = identity.clone();
            *vcpu.power.state = PowerState::Off as u8;
            *vcpu.core.pstate = pstate::RESET;
        }
        if let Some(first) = state.vcpus.first_mut() {
            *first.power.state = PowerState::On as u8;
            *first.core.pc = start.entry;
            first.core.x[0] = start.x0;
        }
        Self::restored(state, pace)
    }

    /// Returns a guest as it was stored, and its vCPUs. The reader has checked `state`.
    ///
    /// # Errors
    ///
    /// [`stasis_vgic::Error`] if the GIC's records break a rule.
    pub fn restored(
        state: GuestState,
        pace: Pace,
    ) -> Result<(Box<Self>, Vec<Vcpu>), stasis_vgic::Error> {
        let mut interfaces = Vec::new();
        let mut powers = Vec::new();
        let mut vcpus = Vec::new();
        for vcpu in state.vcpus {
            let VcpuState { core, system, fp, debug, power, identity, mut cpu_interface } = vcpu;
            settle_lines(&mut cpu_interface, &system, *state.clock.cntvct);
            interfaces.push(cpu_interface);
            powers.push(power);
            let (deadline_changed, timer_due) = (true, 0);
            vcpus.push(Vcpu { core, system, fp, debug, identity, deadline_changed, timer_due });
        }
        let devices = Devices::restored(state.devices, *state.clock.wall_time);
        let mut guest = Box::new(Self {
            machine: Box::new(devices.machine()),
            devices,
            record: state.guest,
            clock: GuestClock::restored(&state.clock, pace),
            vgic: Vgic::from_state(state.distributor, interfaces.into_iter())?,
            clock_record: state.clock,
            power: state.power,
            powers,
            due: DevicesDue::UNKNOWN,
            unclaimed: Unclaimed::default(),
            unknown_registers: Once::new(),
            unknown_exits: Once::new(),
        });
        // No vCPU is loaded yet, so none must be kicked.
        let _ = guest.update_lines();
        Ok((guest, vcpus))
    }

    /// Gives a guest that has not started yet the devices of its `equipment`, which are at reset.
    pub fn equip(&mut self, equipment: &Equipment<'_>) {
        let mut records = self.devices.records().to_owned();
        let equipment = Equipment { counter_hz: *self.clock_record.cntfrq, ..*equipment };
        list::fit(&mut records, &equipment);
        self.devices = Devices::restored(records, *self.clock_record.wall_time);
        *self.machine = self.devices.machine();
    }

    /// Links the guest's SPIs to the physical interrupts of the devices that it was given. Call it
    /// before a vCPU is loaded.
    ///
    /// # Errors
    ///
    /// [`stasis_vgic::Error`] if an interrupt can't be linked, or there are too many.
    pub fn take_devices(&mut self, given: &Given) -> Result<(), stasis_vgic::Error> {
        given.interrupts.iter().try_for_each(|(physical, spi)| {
            self.vgic.link(FIRST_SPI + *spi as u16, physical.intid as u16)
        })
    }

    /// Returns why the guest can't go on, if one of its devices says so.
    pub fn crash(&self) -> Option<Crash> {
        self.devices.verdict().map(Crash::Device)
    }

    /// Returns the guest's name.
    pub fn name(&self) -> &str {
        self.record.name_text()
    }

    /// Returns which devices the guest's machine has, and where.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns the guest-physical address of the RAM.
    pub fn ram_base(&self) -> u64 {
        *self.record.ram_base
    }

    /// Returns the bytes of the RAM.
    pub fn ram_size(&self) -> u64 {
        *self.record.ram_size
    }

    /// Returns the guest's records, as they are stored. No vCPU may be loaded. `counter` is the
    /// host's CNTPCT, `wall_time` is in seconds since 1970.
    pub fn records<'a>(
        &'a mut self,
        vcpus: impl Iterator<Item = &'a mut Vcpu>,
        counter: u64,
        wall_time: u64,
    ) -> Records<'a> {
        let now = self.clock.now(counter);
        self.clock.save(counter, &mut self.clock_record);
        *self.clock_record.wall_time = wall_time;
        let interfaces = self.vgic.cpus().iter().zip(&self.powers);
        let vcpus = vcpus.zip(interfaces).map(|(vcpu, (interface, power))| {
            timer::settle(&mut vcpu.system, now);
            // Bits of PSTATE that the format does not know belong to features of a newer CPU, which
            // this guest is not shown.
            *vcpu.core.pstate = defined_pstate(*vcpu.core.pstate);
            VcpuRecords {
                core: &vcpu.core,
                system: &vcpu.system,
                fp: &vcpu.fp,
                debug: &vcpu.debug,
                power,
                identity: &vcpu.identity,
                cpu_interface: &interface.state,
            }
        });
        Records {
            guest: &self.record,
            clock: &self.clock_record,
            power: self.power.as_ref(),
            lineage: None,
            machine: Some(&self.machine),
            distributor: self.vgic.distributor(),
            vcpus: vcpus.collect(),
            devices: self.devices.records(),
        }
    }
}
