//! A guest over a fake core: what it asks for is answered, and nothing of it is lost.

mod accesses;
mod devices;
mod values;
mod virtio;

use stasis_state::guest::GuestPowerState;
use stasis_state::vcpu::{Identity, sysreg};
use stasis_state::{GuestState, VcpuState};
use stasis_vgic::{
    ActivePriorities, Control, ListRegister, MachineControl, State, VcpuMask, VirtualInterface,
};

use super::*;
use crate::clock::NEVER;
use crate::exit::{Access, Cause, Exit, Fault, PlainAccess, SystemAccess};
use crate::outbox::{Errand, Report};
use crate::shared::SharedRegion;
use crate::timer::Timer;
use crate::{psci, shared};
use stasis_devices::access::Width;
use stasis_devices::device::{Context, Memory, Verdict};
use stasis_memory::{FakeRam, GuestMemory, GuestRam, Portable};

const FREQUENCY: u64 = 1_000_000;
const PACE: Pace = Pace::of_machine(FREQUENCY);
const WALL_TIME: u64 = 1_800_000_000;
/// An ESR_EL2 with IL set: what was trapped has four bytes.
const ESR: u64 = 1 << 25;

/// A core without a guest in it: list registers that nobody acknowledges from.
#[derive(Default)]
struct Core {
    list_registers: [ListRegister; 4],
    machine_control: MachineControl,
    active_priorities: ActivePriorities,
    el1: SystemRegisters,
    counter: u64,
    outbox: Outbox,
}

impl Host for Core {
    type Gic = Self;
    type El1 = SystemRegisters;

    fn gic(&mut self) -> &mut Self {
        self
    }

    fn el1(&mut self) -> &mut SystemRegisters {
        &mut self.el1
    }

    fn counter(&self) -> u64 {
        self.counter
    }

    fn cache(&mut self, _: CacheRegister, written: Option<u64>) -> u64 {
        written.unwrap_or(0x701f_e00a)
    }

    fn os_lock_changed(&mut self, _: &mut Debug) {}

    fn wall_time(&self) -> u64 {
        WALL_TIME
    }

    fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }
}

impl VirtualInterface for Core {
    fn list_registers(&self) -> usize {
        4
    }

    fn write_list_register(&mut self, n: usize, value: ListRegister) {
        self.list_registers[n] = value;
    }

    fn read_state(&mut self, n: usize) -> State {
        self.list_registers[n].state
    }

    fn write_control(&mut self, _: Control) {}

    fn read_unlisted_ends(&mut self) -> u32 {
        0
    }

    fn read_machine_control(&mut self) -> MachineControl {
        self.machine_control
    }

    fn write_machine_control(&mut self, control: MachineControl) {
        self.machine_control = control;
    }

    fn read_active_priorities(&mut self) -> ActivePriorities {
        self.active_priorities
    }

    fn write_active_priorities(&mut self, active: ActivePriorities) {
        self.active_priorities = active;
    }

    fn read_physical_line(&mut self, _: u16) -> bool {
        false
    }

    fn set_physical_active(&mut self, _: u16, _: bool) {}
}

const UART_INTID: u16 = 33;
fn with_watchdog(us: u64) -> Equipment<'static> {
    Equipment { watchdog_us: Some(us), ..Equipment::default() }
}

const START: Start = Start { entry: 0x4008_0000, x0: 0x4000_0000 };
const RAM: Range = Range::new(0x4000_0000, 4096);

/// Returns a guest of `vcpus` vCPUs, of which the first is loaded on a core.
fn guest(vcpus: usize) -> (Box<Guest>, Vec<Vcpu>, Core) {
    let identities: Vec<Identity> = (0..vcpus)
        .map(|index| {
            let mut identity = Identity::default();
            *identity.mpidr_el1 = psci::mpidr(index);
            identity
        })
        .collect();
    let (mut guest, mut vcpus) = Guest::new("g", RAM, &identities, START, PACE, WALL_TIME).unwrap();
    let mut core = Core::default();
    assert!(guest.power_on(0, &mut vcpus[0]).is_some());
    guest.clock.start(0);
    guest.vgic.load(0, &mut core);
    let _ = guest.vgic.enter(0, &mut core);
    (guest, vcpus, core)
}

/// Returns a load of `width` into X1, or a store of X1.
fn abort(ipa: u64, width: Width, write: bool) -> Exit {
    let access = Access {
        write,
        width,
        register: 1,
        sign_extend: false,
        sixty_four: true,
        writeback: None,
        second: None,
    };
    Exit::DataAbort { ipa, virtual_address: ipa, access }
}

/// A guest with RAM of its own.
struct WithRam<'a>(&'a mut Guest, FakeRam);

impl Whole for WithRam<'_> {
    type Ram = GuestRam<Portable>;

    fn parts(&mut self) -> (&mut Guest, &mut GuestRam<Portable>) {
        (self.0, &mut self.1)
    }
}

/// Returns the answer to an exit of a guest whose RAM is zeros.
fn answer(
    guest: &mut Guest,
    index: usize,
    vcpu: &mut Vcpu,
    exit: &Exit,
    held: VcpuMask,
    core: &mut Core,
) -> Result<Next, VcpuMask> {
    let ram = FakeRam::new(RAM.len() as usize);
    let exited = &mut Exited { index, vcpu, host: core, esr: ESR };
    WithRam(guest, ram).exit(exited, exit, held)
}

/// Returns the answer to an exit that needs no other vCPU held.
fn exit(guest: &mut Guest, index: usize, vcpu: &mut Vcpu, exit: Exit, core: &mut Core) -> Next {
    answer(guest, index, vcpu, &exit, VcpuMask::NONE, core).unwrap()
}

fn call(core: &mut Core, guest: &mut Guest, vcpu: &mut Vcpu, arguments: [u64; 4]) -> Next {
    vcpu.core.x[..4].copy_from_slice(&arguments);
    exit(guest, 0, vcpu, Exit::Hvc { imm: 0 }, core)
}

#[test]
fn cpu_on_starts_the_other_vcpu_and_nobody_else() {
    const CPU_ON_64: u64 = 0xc400_0003;
    let (mut guest, mut vcpus, mut core) = guest(3);
    assert!(guest.power_on(2, &mut vcpus[2]).is_none());
    let next = call(&mut core, &mut guest, &mut vcpus[0], [CPU_ON_64, 2, 0x4010_0000, 7]);
    assert_eq!((next, vcpus[0].core.x[0], core.outbox.kick.0), (Next::Enter, 0, 1 << 2));
    assert!(guest.power_on(2, &mut vcpus[2]).is_some());
    assert!(guest.power_on(1, &mut vcpus[1]).is_none());
    assert_eq!((*vcpus[2].core.pc, vcpus[2].core.x[0]), (0x4010_0000, 7));
}

#[test]
fn the_last_vcpu_that_goes_off_takes_the_guest_with_it() {
    const CPU_OFF: u64 = 0x8400_0002;
    const CPU_ON_64: u64 = 0xc400_0003;
    let (mut guest, mut vcpus, mut core) = guest(2);
    call(&mut core, &mut guest, &mut vcpus[0], [CPU_ON_64, 1, 0x4010_0000, 0]);
    assert!(guest.power_on(1, &mut vcpus[1]).is_some());
    assert_eq!(call(&mut core, &mut guest, &mut vcpus[0], [CPU_OFF, 0, 0, 0]), Next::VcpuOff);
    let next = exit(&mut guest, 1, &mut vcpus[1], Exit::Hvc { imm: 0 }, &mut core);
    assert_eq!(next, Next::Enter, "an unknown function is answered");
    vcpus[1].core.x[0] = CPU_OFF;
    let next = exit(&mut guest, 1, &mut vcpus[1], Exit::Hvc { imm: 0 }, &mut core);
    assert_eq!(next, Next::Off);
}

#[test]
fn what_is_stored_says_that_a_guest_is_off_or_has_reset_its_machine() {
    const SYSTEM_OFF: u64 = 0x8400_0008;
    const SYSTEM_RESET: u64 = 0x8400_0009;
    for (function, next, state) in [
        (SYSTEM_OFF, Next::Off, GuestPowerState::Off),
        (SYSTEM_RESET, Next::Reset, GuestPowerState::Reset),
    ] {
        let (mut guest, mut vcpus, mut core) = guest(2);
        let stored = owned(&guest.records(vcpus.iter_mut(), 0, 0));
        assert_eq!(stored.power_state(), GuestPowerState::On);
        assert_eq!(call(&mut core, &mut guest, &mut vcpus[0], [function, 0, 0, 0]), next);
        let stored = owned(&guest.records(vcpus.iter_mut(), 0, 0));
        assert_eq!(stored.power_state(), state);
    }
}

#[test]
fn the_physical_timer_fires_when_the_guests_time_has_come() {
    const CNTP_CTL: u16 = sysreg(3, 3, 14, 2, 1);
    const CNTP_CVAL: u16 = sysreg(3, 3, 14, 2, 2);
    let (mut guest, mut vcpus, mut core) = guest(1);
    let mut set = |encoding, value, core: &mut Core| {
        vcpus[0].core.x[1] = value;
        let access = SystemAccess { encoding, rt: 1, is_read: false };
        exit(&mut guest, 0, &mut vcpus[0], Exit::SystemRegister(access), core);
    };
    set(CNTP_CVAL, 500, &mut core);
    set(CNTP_CTL, 1, &mut core);
    assert!(vcpus[0].deadline_changed);
    assert_eq!(guest.tick(0, &mut vcpus[0], core.counter, &mut core), 500);
    let level = |guest: &Guest| *guest.vgic.cpus()[0].state.priv_level >> PHYSICAL_TIMER & 1;
    assert_eq!(level(&guest), 0);
    core.counter = 500;
    assert_eq!(guest.tick(0, &mut vcpus[0], core.counter, &mut core), NEVER);
    assert_eq!(level(&guest), 1);
}

#[test]
fn timers_and_a_watchdog_that_are_set_to_never_keep_nobody_busy() {
    const NEVER_SET: u64 = u64::MAX;
    // The guest's counter is behind the machine's, or ahead of it.
    for (cntvct, counter) in [(0, 1_000_000), (1_000_000, 10)] {
        let (mut guest, mut vcpus, mut core) = guest(1);
        guest.clock.stop(cntvct);
        guest.clock.start(counter);
        core.counter = counter + 1;
        guest.equip(&with_watchdog(1000));
        let (low, high) = (0x0910_0010, 0x0910_0014);
        for address in [low, high] {
            vcpus[0].core.x[1] = NEVER_SET;
            exit(&mut guest, 0, &mut vcpus[0], abort(address, Width::Word, true), &mut core);
        }
        *vcpus[0].system.cntp_ctl_el0 = 1;
        *vcpus[0].system.cntp_cval_el0 = NEVER_SET;
        vcpus[0].deadline_changed = true;
        let due = guest.tick(0, &mut vcpus[0], core.counter, &mut core);
        assert!(due > 1 << 63, "{due:#x}");
        assert_eq!(guest.crash(), None);
        // WFI does not end for its virtual timer.
        let timer = Timer { ctl: 1, cval: NEVER_SET };
        let Wait::Until(until) = guest.wait(0, timer, due, core.counter) else { panic!() };
        assert!(until > 1 << 63, "{until:#x}");
    }
}

#[test]
fn a_restored_guest_has_the_records_of_the_stored_one() {
    let (mut guest, mut vcpus, mut core) = guest(2);
    let _ = guest.receive(b'x');
    let _ = guest.vgic.save(0, &mut core);
    guest.clock.stop(1234);
    let stored = owned(&guest.records(vcpus.iter_mut(), 9999, WALL_TIME));
    assert_eq!(*stored.clock.cntvct, 1234, "its time stands still");
    let (mut again, mut vcpus) = Guest::restored(stored.clone(), PACE).unwrap();
    assert_eq!(owned(&again.records(vcpus.iter_mut(), 5, WALL_TIME)), stored);
    assert_eq!(again.name(), "g");
}

fn owned(records: &Records) -> GuestState {
    let vcpu = |vcpu: &VcpuRecords| VcpuState {
        core: vcpu.core.clone(),
        system: vcpu.system.clone(),
        fp: vcpu.fp.clone(),
        debug: vcpu.debug.clone(),
        power: vcpu.power.clone(),
        identity: vcpu.identity.clone(),
        cpu_interface: vcpu.cpu_interface.clone(),
    };
    GuestState {
        lineage: None,
        machine: records.machine.cloned().map(Box::new),
        guest: records.guest.clone(),
        clock: records.clock.clone(),
        power: records.power.cloned(),
        distributor: records.distributor.clone().into(),
        vcpus: records.vcpus.iter().map(vcpu).collect(),
        devices: records.devices.to_owned(),
    }
}
