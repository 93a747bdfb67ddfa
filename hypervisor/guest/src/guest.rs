//! A guest: its records and devices, and what it does that the hardware does not.
//!
//! [`Guest::exit`] answers a trap ([`traps`]), [`Guest::interrupt`] and [`Guest::tick`] bring what happens
//! outside ([`outside`]).
//! All of the guest's state but its RAM is here, in the records of `stasis-state`: what its vCPUs share
//! in [`Guest`], what each has for itself in [`Vcpu`]. While a vCPU is loaded on a core, its [`Vcpu`]
//! belongs to that core, and its system registers and list registers are in the hardware behind
//! [`Host`]; whoever unloads it puts them back.

mod outside;
#[cfg(test)]
mod tests;
mod traps;

pub use self::traps::is_in_distributor;

use alloc::boxed::Box;
use alloc::vec::Vec;

use stasis_state::guest;
use stasis_state::guest::Clock;
use stasis_state::records::{GuestState, Records, VcpuRecords, VcpuState};
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

/// INTIDs of the guest's machine, as QEMU's `virt` has them.
pub const NR_IRQS: u16 = 288;
const _: () = assert!(stasis_devices::machine::VIRTUAL_TIMER == VIRTUAL_TIMER);

/// SCTLR_EL1.M and C: loads and stores go through the caches.
const SCTLR_CACHED: u64 = 1 | 1 << 2;

/// The core that a vCPU is loaded on, and the outside of the guest.
pub trait Host {
    /// The core's virtual interface, and what it sees of the physical interrupts.
    type Gic: VirtualInterface;
    /// The EL1 registers that are loaded.
    type El1: El1Registers;

    /// Returns the core's virtual interface.
    fn gic(&mut self) -> &mut Self::Gic;
    /// The EL1 registers that are loaded.
    fn el1(&mut self) -> &mut Self::El1;
    /// CNTPCT.
    fn counter(&self) -> u64;
    /// Writes, if there is a value, and reads what describes the core's caches.
    fn cache(&mut self, register: CacheRegister, written: Option<u64>) -> u64;
    /// Takes back the vCPU's debug registers, if it has them and has locked its OS lock; lends them, if it has unlocked it and uses them.
    fn os_lock_changed(&mut self, registers: &mut Debug);
    /// Seconds since 1970.
    fn wall_time(&self) -> u64;
    /// Returns where to put what must be done outside of the guest. The caller of the guest's logic carries it out.
    fn outbox(&mut self) -> &mut Outbox;
}

/// What comes after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Enter the guest again.
    Enter,
    /// It waits for an interrupt: see [`Guest::wait`].
    Wait,
    /// This vCPU is off; others are not.
    VcpuOff,
    /// The guest has switched its machine off, or its last vCPU.
    Off,
    /// The guest has reset its machine.
    Reset,
    /// The guest can't go on.
    Crashed(Crash),
}

/// What a vCPU waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing: it goes on.
    Over,
    /// To be kicked, or for the host's CNTPCT to be that.
    Until(u64),
}

/// What a vCPU has for itself.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is a record, which says what it is")]
pub struct Vcpu {
    pub core: Core,
    pub system: SystemRegisters,
    pub fp: FpSimd,
    pub debug: Debug,
    pub identity: Identity,
    /// What [`Guest::tick`] last said of it may no longer hold.
    pub deadline_changed: bool,
    /// When its physical timer is due, as the host's CNTPCT.
    timer_due: u64,
}

/// When a guest's devices are due, as the host's CNTPCT: what [`Guest::tick`] has found when it last looked.
#[derive(Clone, Copy, Debug, Default)]
struct DevicesDue {
    /// Nothing changes by itself before that.
    change: u64,
    /// Nor does a line before that.
    line: u64,
}

/// What a guest's vCPUs share. It is several KiB, and so is made in a box: what is built for size copies what it hands on, from frame
/// to frame.
#[derive(Debug)]
pub struct Guest {
    /// Its name and what it needs.
    pub record: guest::Guest,
    /// Its time. It stands still until it is started.
    pub clock: GuestClock,
    clock_record: Clock,
    /// What is stored of whether its machine is on.
    pub power: Option<guest::GuestPower>,
    /// Whether each of its vCPUs is on.
    pub powers: Vec<Power>,
    /// Its interrupt controller.
    pub vgic: Vgic,
    devices: Devices,
    due: DevicesDue,
    unclaimed: Unclaimed,
    unknown_registers: Once<16>,
    unknown_exits: Once<16>,
}

impl Guest {
    /// A guest at reset, whose RAM is there in its map. Its first vCPU will start at `entry` with `x0`, once it is there.
    pub fn new(
        name: &str,
        ram: Range,
        identities: &[Identity],
        entry: u64,
        x0: u64,
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
            *first.core.pc = entry;
            first.core.x[0] = x0;
        }
        Self::restored(state, pace)
    }

    /// A guest as it was saved; the reader has checked its state.
    pub fn restored(
        state: GuestState,
        pace: Pace,
    ) -> Result<(Box<Self>, Vec<Vcpu>), stasis_vgic::Error> {
        let mut interfaces = Vec::new();
        let mut powers = Vec::new();
        let mut vcpus = Vec::new();
        for vcpu in state.vcpus {
            let VcpuState { core, system, fp, debug, power, identity, cpu_interface } = vcpu;
            interfaces.push(cpu_interface);
            powers.push(power);
            let (deadline_changed, timer_due) = (true, 0);
            vcpus.push(Vcpu { core, system, fp, debug, identity, deadline_changed, timer_due });
        }
        let mut guest = Box::new(Self {
            record: state.guest,
            clock: GuestClock::restored(&state.clock, pace),
            vgic: Vgic::from_state(state.distributor, interfaces.into_iter())?,
            devices: Devices::restored(state.devices, *state.clock.wall_time),
            clock_record: state.clock,
            power: state.power,
            powers,
            due: DevicesDue::default(),
            unclaimed: Unclaimed::default(),
            unknown_registers: Once::new(),
            unknown_exits: Once::new(),
        });
        // No vCPU is loaded yet, and so none has to be kicked.
        let _ = guest.update_lines();
        Ok((guest, vcpus))
    }

    /// Gives a guest that has not started the devices of its `equipment`, which are at reset.
    pub fn equip(&mut self, equipment: &Equipment<'_>) {
        let mut records = self.devices.records().to_owned();
        let equipment = Equipment { counter_hz: *self.clock_record.cntfrq, ..*equipment };
        list::fit(&mut records, &equipment);
        self.devices = Devices::restored(records, *self.clock_record.wall_time);
    }

    /// Links the interrupts of the machine's devices that it was given. Before a vCPU is loaded.
    pub fn take_devices(&mut self, given: &Given) -> Result<(), stasis_vgic::Error> {
        given.interrupts.iter().try_for_each(|(physical, spi)| {
            self.vgic.link(FIRST_SPI + *spi as u16, physical.intid as u16)
        })
    }

    /// Returns why the guest can't go on, if one of its devices says so.
    pub fn crash(&self) -> Option<Crash> {
        self.devices.verdict().map(Crash::Device)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.record.name_text()
    }

    /// Where it has its RAM.
    pub fn ram_base(&self) -> u64 {
        *self.record.ram_base
    }

    /// Bytes of its RAM.
    pub fn ram_size(&self) -> u64 {
        *self.record.ram_size
    }

    /// Whether a vCPU stores past its caches, or will so when it is switched on: once it turns them on, it is to find nothing in them that
    /// others have loaded.
    pub fn may_turn_caches_on<'a>(&self, mut vcpus: impl Iterator<Item = &'a Vcpu>) -> bool {
        let is_off = |power: &Power| *power.state != PowerState::On as u8;
        self.powers.iter().any(is_off)
            || vcpus.any(|vcpu| *vcpu.system.sctlr_el1 & SCTLR_CACHED != SCTLR_CACHED)
    }

    /// The guest as it is stored. No vCPU is loaded; `counter` and `wall_time` are the host's.
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
            // What a CPU newer than the format has there, it has for what this guest is not shown.
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
            distributor: self.vgic.distributor(),
            vcpus: vcpus.collect(),
            devices: self.devices.records(),
        }
    }
}
