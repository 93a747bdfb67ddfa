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

use alloc::boxed::Box;
use alloc::vec::Vec;

use stasis_state::devices::DeviceRecords;
use stasis_state::guest::Clock;
use stasis_state::records::{GuestState, Records, VcpuRecords, VcpuState};
use stasis_state::vcpu::{
    Core, Debug, FpSimd, Identity, Power, PowerState, SystemRegisters, defined_pstate,
};
use stasis_state::{device, guest};
use stasis_vgic::{Vgic, VirtualInterface};

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
use stasis_devices::machine::{
    DOORBELL_SPI, GICC_BASE, GICD_BASE, RTC_SPI, TIMER_PPIS, UART_SPI, WATCHDOG_SPI,
};
use stasis_devices::pl031::Rtc;
use stasis_devices::{pl011, watchdog};
use stasis_memory::range::Range;

/// INTIDs of the guest's machine, as QEMU's `virt` has them.
pub const NR_IRQS: u16 = 288;
/// The first SPI's INTID.
const FIRST_SPI: u16 = 32;
/// The UART's INTID.
pub const UART_INTID: u16 = FIRST_SPI + UART_SPI as u16;
/// The clock's INTID.
pub const RTC_INTID: u16 = FIRST_SPI + RTC_SPI as u16;
/// The watchdog's INTID.
pub const WATCHDOG_INTID: u16 = FIRST_SPI + WATCHDOG_SPI as u16;
/// The first doorbell's INTID.
pub const DOORBELL_INTID: u16 = FIRST_SPI + DOORBELL_SPI as u16;
/// The virtual timer's INTID, in the guest and on the core.
pub const VIRTUAL_TIMER: u16 = 16 + TIMER_PPIS[2] as u16;
/// The physical timer's INTID.
pub const PHYSICAL_TIMER: u16 = 16 + TIMER_PPIS[1] as u16;

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
    uart: device::Pl011,
    rtc: Rtc,
    watchdog: Option<device::Watchdog>,
    shared: Option<device::SharedMemory>,
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
            uart: state.devices.pl011,
            rtc: Rtc::restored(state.devices.pl031, *state.clock.wall_time),
            watchdog: state.devices.watchdog,
            shared: state.devices.shared,
            clock_record: state.clock,
            power: state.power,
            powers,
            due: DevicesDue::default(),
            unclaimed: Unclaimed::default(),
            unknown_registers: Once::new(),
            unknown_exits: Once::new(),
        });
        pl011::settle(&mut guest.uart);
        // No vCPU is loaded yet, and so none has to be kicked.
        let _ = guest.update_uart_line();
        Ok((guest, vcpus))
    }

    /// Gives a guest that has not started a watchdog: one that must be fed within this many microseconds from the start, or, with
    /// 0, one that the guest has to start.
    pub fn add_watchdog(&mut self, microseconds: u64) {
        let ticks = u128::from(microseconds) * u128::from(*self.clock_record.cntfrq) / 1_000_000;
        self.watchdog = Some(watchdog::new(ticks.try_into().unwrap_or(u64::MAX)));
    }

    /// Gives a guest that has not started memory that it shares with others.
    pub fn share(&mut self, shared: Option<device::SharedMemory>) {
        self.shared = shared;
    }

    /// Links the interrupts of the machine's devices that it was given. Before a vCPU is loaded.
    pub fn take_devices(&mut self, given: &Given) -> Result<(), stasis_vgic::Error> {
        given.interrupts.iter().try_for_each(|(physical, spi)| {
            self.vgic.link(FIRST_SPI + *spi as u16, physical.intid as u16)
        })
    }

    /// Whether the guest has come to an end by what it did not do.
    pub fn crash(&self) -> Option<Crash> {
        let bitten = self.watchdog.as_ref().is_some_and(watchdog::has_bitten);
        bitten.then_some(Crash::Watchdog)
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
            devices: DeviceRecords {
                pl011: &self.uart,
                pl031: &self.rtc.state,
                watchdog: self.watchdog.as_ref(),
                shared: self.shared.as_ref(),
            },
        }
    }
}
