//! A guest over a fake core: what it asks for is answered, and nothing of it is lost.

mod values;

use stasis_state::guest::GuestPowerState;
use stasis_state::vcpu::{Identity, sysreg};
use stasis_state::{GuestState, VcpuState};
use stasis_vgic::{
    ActivePriorities, Control, ListRegister, MachineControl, State, VcpuMask, VirtualInterface,
};

use super::*;
use crate::clock::NEVER;
use crate::exit::{Access, Cause, Exit, Fault, Syndrome, SystemAccess, WordAccess};
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
const WATCHDOG_INTID: u16 = 42;
const DOORBELL_INTID: u16 = 43;

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
    let access =
        Access { write, width, register: 1, sign_extend: false, sixty_four: true, writeback: None };
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
fn what_a_guest_sends_reaches_the_outside() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    let pc = *vcpus[0].core.pc;
    vcpus[0].core.x[1] = u64::from(b'!');
    let next = exit(&mut guest, 0, &mut vcpus[0], abort(0x0900_0000, Width::Word, true), &mut core);
    assert_eq!((next, core.outbox.take().errand), (Next::Enter, Some(Errand::Send(b'!'))));
    assert_eq!(*vcpus[0].core.pc, pc + 4, "the store is behind it");
}

#[test]
fn a_device_reaches_the_ram_of_its_guest_and_marks_what_it_writes() {
    let (guest, _, core) = guest(1);
    let mut ram = FakeRam::new(RAM.len() as usize);
    assert!(!ram.may_have_content(0));
    let mut around =
        outside::Around { record: &guest.record, clock: &guest.clock, host: &core, ram: &mut *ram };
    let Memory { base, ram: reached } = around.memory();
    assert_eq!(base, RAM.start);
    reached.store_u32(0x10, 0xcafe_f00d).unwrap();
    assert_eq!(ram.load_u32(0x10), Ok(0xcafe_f00d));
    assert!(ram.may_have_content(0), "a checkpoint looks at it");
}

#[test]
fn an_access_to_nothing_is_an_abort_in_the_guest() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    let pc = *vcpus[0].core.pc;
    *core.el1.vbar_el1 = 0x4000_0800;
    let next =
        exit(&mut guest, 0, &mut vcpus[0], abort(0x0b00_0000, Width::Word, false), &mut core);
    assert_eq!(next, Next::Enter);
    assert_eq!((*core.el1.elr_el1, *core.el1.far_el1), (pc, 0x0b00_0000));
    assert_eq!(*core.el1.esr_el1, 0x9600_0010, "a synchronous external abort, from EL1");
    assert_eq!(*vcpus[0].core.pc, 0x4000_0800 + 0x200);
}

#[test]
fn an_access_to_ram_that_is_not_found_says_where_and_is_made_again() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    let before = vcpus[0].core.clone();
    let last = guest.ram_base() + guest.ram_size() - 4;
    let fault = Fault::nothing_at(last, 0x1234_5000, true);
    let on_walk = Fault { on_walk: true, cause: Cause::Load, ..fault };
    for exit_by in [
        abort(last, Width::Word, true),
        Exit::DataAbortUnemulatable(fault),
        Exit::DataAbortUnemulatable(on_walk),
        Exit::InstructionAbort(Fault { cause: Cause::Fetch, ..fault }),
        Exit::CacheMaintenance(Fault { cause: Cause::Maintenance, ..fault }),
    ] {
        let next = exit(&mut guest, 0, &mut vcpus[0], exit_by, &mut core);
        assert_eq!(next, Next::NoRam { address: last });
        assert_eq!(vcpus[0].core, before, "{exit_by:?}");
    }
}

#[test]
fn a_handler_that_cannot_be_fetched_is_a_crash_and_not_an_endless_loop() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    *core.el1.vbar_el1 = 0x0b00_0000;
    let fault = Fault::nothing_at(0x0b00_0000, 0x0b00_0000, false);
    let fetch = Exit::InstructionAbort(Fault { cause: Cause::Fetch, ..fault });
    // The way into the handler, and then the handler's own first instruction.
    let next = exit(&mut guest, 0, &mut vcpus[0], fetch, &mut core);
    assert_eq!(next, Next::Enter);
    let pc = *vcpus[0].core.pc;
    let next = exit(&mut guest, 0, &mut vcpus[0], fetch, &mut core);
    assert_eq!(next, Next::Crashed(Crash::ExceptionLoop { pc }));
}

#[test]
fn a_guest_that_does_not_feed_its_watchdog_is_told_and_then_ended() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    let control = abort(0x0910_0000, Width::Word, false);
    assert!(guest.devices.watchdog.is_none());
    let nothing = exit(&mut guest, 0, &mut vcpus[0], control, &mut core);
    assert_eq!((nothing, *core.el1.far_el1), (Next::Enter, 0x0910_0000), "it has none");

    guest.equip(&with_watchdog(1000));
    let mut tick = |guest: &mut Guest, counter| {
        core.counter = counter;
        guest.tick(0, &mut vcpus[0], &mut core)
    };
    assert_eq!(tick(&mut guest, 0), 500);
    assert_eq!(tick(&mut guest, 500), 1000);
    assert!(*guest.vgic.distributor().spi_level.first().unwrap() & 1 << (WATCHDOG_INTID - 32) != 0);
    assert_eq!(guest.crash(), None);
    assert_eq!(tick(&mut guest, 1000), 1000);
    assert_eq!(guest.crash(), Some(Crash::Device(Verdict::NotFed)));
    let records = guest.records(vcpus.iter_mut(), 1000, WALL_TIME);
    assert_eq!(*records.devices.watchdog.unwrap().wcs, 0b111, "it is stored");
}

#[test]
fn a_watchdog_that_is_fed_stays_quiet() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    guest.equip(&with_watchdog(1000));
    for round in 1..=10 {
        core.counter = round * 400;
        let refresh = abort(0x0910_1000, Width::Word, true);
        assert_eq!(exit(&mut guest, 0, &mut vcpus[0], refresh, &mut core), Next::Enter);
        assert!(vcpus[0].deadline_changed);
        assert_eq!(guest.tick(0, &mut vcpus[0], &mut core), core.counter + 500);
    }
    assert_eq!(guest.crash(), None);
}

#[test]
fn every_vcpu_knows_what_another_one_has_found_of_the_devices() {
    let (mut guest, mut vcpus, mut core) = guest(2);
    guest.equip(&with_watchdog(1000));
    for (index, vcpu) in vcpus.iter_mut().enumerate() {
        assert_eq!(guest.tick(index, vcpu, &mut core), 500);
    }
    core.counter = 400;
    exit(&mut guest, 0, &mut vcpus[0], abort(0x0910_1000, Width::Word, true), &mut core);
    assert_eq!(guest.tick(0, &mut vcpus[0], &mut core), 900);
    assert!(!vcpus[1].deadline_changed);
    assert_eq!(guest.tick(1, &mut vcpus[1], &mut core), 900);
    core.counter = 899;
    assert_eq!(guest.tick(1, &mut vcpus[1], &mut core), 900);
    core.counter = 900;
    assert_eq!(guest.tick(1, &mut vcpus[1], &mut core), 1400);
    assert!(*guest.vgic.distributor().spi_level.first().unwrap() & 1 << (WATCHDOG_INTID - 32) != 0);
}

#[test]
fn behind_the_distributors_registers_is_nothing() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    exit(&mut guest, 0, &mut vcpus[0], abort(0x0800_1000, Width::Word, false), &mut core);
    assert_eq!(*core.el1.far_el1, 0x0800_1000);
}

#[test]
fn an_access_waits_for_the_vcpu_whose_list_registers_have_the_answer() {
    const ISPENDR1: u64 = 0x0800_0204;
    let (mut guest, mut vcpus, mut core) = guest(2);
    let mut other = Core::default();
    for (register, value) in [(0x0800_0000, 1), (0x0800_0104, 2), (0x0800_0820, 0x0200)] {
        vcpus[0].core.x[1] = value;
        exit(&mut guest, 0, &mut vcpus[0], abort(register, Width::Word, true), &mut core);
    }
    // The UART's interrupt goes into a list register of vCPU 1.
    guest.vgic.load(1, &mut other);
    let _ = guest.vgic.enter(1, &mut other);
    let _ = guest.vgic.set_spi_level(UART_INTID, true);
    let _ = guest.vgic.enter(1, &mut other);
    let (pc, read) = (*vcpus[0].core.pc, abort(ISPENDR1, Width::Word, false));
    let needed = answer(&mut guest, 0, &mut vcpus[0], &read, VcpuMask::NONE, &mut core);
    assert_eq!((needed, *vcpus[0].core.pc), (Err(VcpuMask::only(1)), pc), "nothing was done");
    let _ = guest.vgic.sync(1, &mut other);
    let next = answer(&mut guest, 0, &mut vcpus[0], &read, VcpuMask::only(1), &mut core);
    assert_eq!((next, vcpus[0].core.x[1], *vcpus[0].core.pc), (Ok(Next::Enter), 2, pc + 4));
}

#[test]
fn a_bell_that_is_rung_stays_until_the_guest_has_answered() {
    const DOORBELL: u64 = 0x0911_0000;
    let (mut guest, mut vcpus, mut core) = guest(1);
    let mut access = |guest: &mut Guest, offset, value, write| {
        vcpus[0].core.x[1] = value;
        let abort = abort(DOORBELL + offset, Width::Word, write);
        exit(guest, 0, &mut vcpus[0], abort, &mut core);
        (vcpus[0].core.x[1], core.outbox.take().errand)
    };
    access(&mut guest, 0x8, 1, true);
    assert_eq!(access(&mut guest, 0x8, 1, true).1, None, "it has none");
    let ring = SharedRegion {
        name: "ring".into(),
        size: 4096,
        guests: ["a", "b"].map(String::from).to_vec(),
    };
    let shared = &shared::connections(std::slice::from_ref(&ring), "b")[..];
    guest.equip(&Equipment { shared, ..Equipment::default() });
    assert_eq!(access(&mut guest, 0x8, 0, true).1, Some(Errand::Ring { region: 0, peer: 0 }));
    assert_eq!(access(&mut guest, 0x8, 2, true).1, None, "there is no guest 2");
    let level = |guest: &Guest| guest.vgic.distributor().spi_level[0] >> (DOORBELL_INTID - 32) & 1;
    assert_eq!(level(&guest), 0);
    let _ = guest.rung(0, 0b01);
    let _ = guest.rung(1, 0b01);
    assert_eq!((level(&guest), guest.vgic.distributor().spi_level[0].count_ones()), (1, 1));
    assert_eq!(access(&mut guest, 0xc, 0, false).0, 0b01);
    access(&mut guest, 0xc, 0b01, true);
    assert_eq!(level(&guest), 0);
}

#[test]
fn an_access_to_nothing_is_reported_once_for_its_page() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    let mut access = |address| {
        *vcpus[0].core.pc = 0x4008_0000;
        exit(&mut guest, 0, &mut vcpus[0], abort(address, Width::Word, true), &mut core);
        match core.outbox.take().errand {
            Some(Errand::Report(report)) => Some(report),
            _ => None,
        }
    };
    let report = access(0x0b00_0010).unwrap();
    let (cause, address, pc) = (Cause::Store, 0x0b00_0010, 0x4008_0000);
    assert_eq!(report, Report::NothingThere { cause, address, pc });
    assert_eq!(
        report.to_string(),
        "Store at 0xb000010, which nothing there can answer, from PC 0x40080000"
    );
    assert_eq!(access(0x0b00_0020), None);
    assert!(access(0x0b00_1000).is_some());
}

#[test]
fn a_typed_byte_is_read_by_the_guest() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    let _ = guest.receive(b'a');
    exit(&mut guest, 0, &mut vcpus[0], abort(0x0900_0000, Width::Word, false), &mut core);
    assert_eq!(vcpus[0].core.x[1], u64::from(b'a'));
}

#[test]
fn a_pressed_power_key_interrupts_and_comes_up_by_itself_also_after_a_resume() {
    const GPIO: u64 = 0x0903_0000;
    const GPIO_INTID: u16 = 39;
    let (mut guest, mut vcpus, mut core) = guest(1);
    let mut set = |guest: &mut Guest, offset, value| {
        vcpus[0].core.x[1] = value;
        exit(guest, 0, &mut vcpus[0], abort(GPIO + offset, Width::Byte, true), &mut core);
    };
    let level = |guest: &Guest| guest.vgic.distributor().spi_level[0] >> (GPIO_INTID - 32) & 1;
    assert!(!guest.hears_power_key());
    set(&mut guest, 0x40c, 8);
    set(&mut guest, 0x410, 8);
    assert!(guest.hears_power_key());
    // The release counts as well.
    set(&mut guest, 0x408, 8);
    assert_eq!(guest.tick(0, &mut vcpus[0], &mut core), NEVER);
    guest.press_power_key(0);
    assert_eq!(level(&guest), 1, "the edge");
    assert_eq!(guest.tick(0, &mut vcpus[0], &mut core), FREQUENCY / 10);

    vcpus[0].core.x[1] = 8;
    exit(&mut guest, 0, &mut vcpus[0], abort(GPIO + 0x41c, Width::Byte, true), &mut core);
    assert_eq!(level(&guest), 0, "it was cleared");

    let stored = owned(&guest.records(vcpus.iter_mut(), 0, WALL_TIME));
    let (mut resumed, mut vcpus) = Guest::restored(stored, PACE).unwrap();
    let mut core = Core::default();
    resumed.clock.start(0);
    assert_eq!(resumed.tick(0, &mut vcpus[0], &mut core), FREQUENCY / 10);
    assert_eq!(level(&resumed), 0);
    core.counter = FREQUENCY / 10;
    assert_eq!(resumed.tick(0, &mut vcpus[0], &mut core), NEVER);
    assert_eq!(level(&resumed), 1, "the key came up");
    let stored = owned(&resumed.records(vcpus.iter_mut(), core.counter, WALL_TIME));
    let (resumed, _) = Guest::restored(stored, PACE).unwrap();
    assert_eq!(level(&resumed), 1, "an interrupt that is pending stays");
}

#[test]
fn a_guest_that_was_stored_without_a_gpio_controller_has_one_at_reset_and_a_low_line() {
    let (mut guest, mut vcpus, _) = guest(1);
    let mut stored = owned(&guest.records(vcpus.iter_mut(), 0, WALL_TIME));
    // Nothing drove this line there.
    stored.distributor.spi_level[0] = u32::MAX;
    let (resumed, _) = Guest::restored(stored, PACE).unwrap();
    assert_eq!(resumed.vgic.distributor().spi_level[0] >> (39 - 32) & 1, 0);
    assert!(!resumed.hears_power_key());
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
    assert_eq!(guest.tick(0, &mut vcpus[0], &mut core), 500);
    let level = |guest: &Guest| *guest.vgic.cpus()[0].state.priv_level >> PHYSICAL_TIMER & 1;
    assert_eq!(level(&guest), 0);
    core.counter = 500;
    assert_eq!(guest.tick(0, &mut vcpus[0], &mut core), NEVER);
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
        let due = guest.tick(0, &mut vcpus[0], &mut core);
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
        guest: records.guest.clone(),
        clock: records.clock.clone(),
        power: records.power.cloned(),
        distributor: records.distributor.clone().into(),
        vcpus: records.vcpus.iter().map(vcpu).collect(),
        devices: records.devices.to_owned(),
    }
}

#[test]
fn a_load_that_is_answered_at_once_gives_what_any_exit_gives() {
    let (mut guest, mut vcpus, mut core) = guest(2);
    let vcpu = &mut vcpus[0];
    for offset in [0x000, 0x004, 0x008, 0x100, 0x104, 0x404, 0x820, 0xc04, 0xfe0] {
        let word = WordAccess { write: false, ipa: GICD_BASE + offset, register: 1 };
        let before = *vcpu.core.pc;
        vcpu.core.x[1] = u64::MAX;
        let kick = guest.answer_at_once(0, &mut vcpu.core, word, ESR, 0);
        assert_eq!(kick, Some(VcpuMask::NONE), "{offset:#x}");
        let found = vcpu.core.x[1];
        assert_eq!(*vcpu.core.pc, before + 4);
        exit(&mut guest, 0, vcpu, abort(word.ipa, Width::Word, false), &mut core);
        assert_eq!(vcpu.core.x[1], found, "{offset:#x}");
    }
}

#[test]
fn a_register_that_needs_no_lock_reads_as_by_any_exit() {
    let (mut guest, mut vcpus, mut core) = guest(2);
    let vcpu = &mut vcpus[1];
    core.counter = 1234;
    let mut found = Vec::new();
    for encoding in 0..=u16::MAX {
        let fields = encoding as u64;
        // Op0, Op2, Op1, CRn, Rt, CRm, and the direction of MRS.
        let iss = fields >> 14 << 20 | (fields & 7) << 17 | (fields >> 11 & 7) << 14;
        let iss = iss | (fields >> 7 & 0xf) << 10 | 1 << 5 | (fields >> 3 & 0xf) << 1;
        let syndrome = |read| Syndrome { esr: 0x18 << 26 | ESR | iss | read, far: 0, hpfar: 0 };
        let mut alone = vcpu.core.clone();
        core::mem::swap(&mut alone, &mut vcpu.core);
        let is_answered = vcpu.read_alone(syndrome(1), || 1234);
        core::mem::swap(&mut alone, &mut vcpu.core);
        if is_answered {
            exit(&mut guest, 1, vcpu, crate::exit::decode(syndrome(1)), &mut core);
            assert!(vcpu.core == alone, "{encoding:#x}");
            found.push(encoding);
        }
        assert!(!vcpu.read_alone(syndrome(0), || 1234), "a write of {encoding:#x}");
    }
    assert!(found.contains(&sysreg(3, 3, 14, 0, 1)) && found.contains(&sysreg(3, 0, 0, 0, 5)));
    assert!(!found.contains(&sysreg(3, 3, 14, 2, 1)) && !found.contains(&sysreg(2, 0, 1, 1, 4)));
}

#[test]
fn an_sgi_is_sent_at_once_and_its_vcpus_are_to_be_kicked() {
    let (mut guest, mut vcpus, _) = guest(3);
    let vcpu = &mut vcpus[0].core;
    let mut store = |guest: &mut Guest, offset: u64, value: u64| {
        vcpu.x[1] = value;
        let word = WordAccess { write: true, ipa: GICD_BASE + offset, register: 1 };
        guest.answer_at_once(0, vcpu, word, ESR, 0)
    };
    const CTLR: u64 = 0;
    const SGIR: u64 = 0xf00;
    // From the start SGIs are enabled; the distributor is not yet.
    assert_eq!(store(&mut guest, SGIR, 0b010 << 16 | 3), Some(VcpuMask::NONE));
    assert_eq!(store(&mut guest, CTLR, 1), Some(VcpuMask(0b111)));
    assert_eq!(store(&mut guest, SGIR, 0b101 << 16 | 3), Some(VcpuMask(0b101)));
    assert_eq!(store(&mut guest, SGIR, 2 << 24 | 3), Some(VcpuMask::NONE));
    assert_eq!(store(&mut guest, SGIR, 1 << 24 | 4), Some(VcpuMask(0b110)));
    let sources = [0, 1, 2].map(|vcpu| {
        let interface = &guest.vgic.cpus()[vcpu].state;
        (interface.sgi_src[3], interface.sgi_src[4])
    });
    assert_eq!(sources, [(1, 0), (1, 1), (1, 1)]);
}

#[test]
fn other_accesses_are_not_answered_at_once() {
    const EE: u64 = 1 << 25;
    let (mut guest, mut vcpus, _) = guest(2);
    let vcpu = &mut vcpus[0].core;
    // What list registers know, what is beside the distributor, what is not aligned, and what is to be turned round.
    for (write, ipa, sctlr) in [
        (false, GICD_BASE + 0x200, 0),
        (false, GICD_BASE + 0x1000, 0),
        (false, GICD_BASE - 4, 0),
        (false, GICD_BASE + 2, 0),
        (false, GICD_BASE, EE),
        (true, GICD_BASE + 0xf00, EE),
        (true, GICD_BASE + 0x280, 0),
        (true, GICD_BASE + 0x300, 0),
    ] {
        let word = WordAccess { write, ipa, register: 1 };
        let before = (*vcpu.pc, vcpu.x[1]);
        assert_eq!(guest.answer_at_once(0, vcpu, word, ESR, sctlr), None, "{ipa:#x}");
        assert_eq!((*vcpu.pc, vcpu.x[1]), before);
    }
}
