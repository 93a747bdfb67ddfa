//! Each test breaks one rule of a guest that is admitted otherwise.

use super::*;
use alloc::string::ToString;
use alloc::vec;
use stasis_guest::Start;
use stasis_state::device::SharedMemory;
use stasis_state::guest::{GuestPower, GuestPowerState};

const MIB: u64 = 1 << 20;
const COUNTER_HZ: u64 = 62_500_000;
const START: Start = Start { entry: RAM_BASE, x0: 0 };
const RAM: Range = Range { start: RAM_BASE, end: RAM_BASE + 4 * MIB };

/// ID registers of a core like QEMU's Cortex-A72, as far as guests are shown any.
fn cpu() -> Identity {
    let mut identity = Identity::default();
    *identity.ctr_el0 = 0x8444_c004;
    *identity.dczid_el0 = 4;
    *identity.id_aa64pfr0_el1 = 0x1111;
    *identity.id_aa64isar0_el1 = 0x1_0000;
    *identity.id_aa64mmfr0_el1 = 0x1124;
    identity
}

/// Returns a guest with two vCPUs that was made on this machine and stored.
fn stored(name: &str) -> GuestState {
    let identities: Vec<Identity> = (0..2).map(|index| identity::present(&cpu(), index)).collect();
    let pace = Pace::of_machine(COUNTER_HZ);
    let (mut guest, mut vcpus) = Guest::new(name, RAM, &identities, START, pace, 0).unwrap();
    let mut state = GuestState::reset(2);
    let records = guest.records(vcpus.iter_mut(), 0, 0);
    state.guest = records.guest.clone();
    state.clock = records.clock.clone();
    *state.distributor = records.distributor.clone();
    for (to, from) in state.vcpus.iter_mut().zip(&records.vcpus) {
        to.power = from.power.clone();
        to.identity = from.identity.clone();
        to.cpu_interface = from.cpu_interface.clone();
    }
    state
}

/// What the machine of the tests has.
struct Machine {
    identity: Identity,
    counter_hz: u64,
    any_speed: bool,
    must_be_on: bool,
    free_memory: u64,
    guests: Vec<GuestConfig>,
    regions: Vec<SharedRegion>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            identity: cpu(),
            counter_hz: COUNTER_HZ,
            any_speed: false,
            must_be_on: false,
            free_memory: 64 * MIB,
            guests: vec![],
            regions: vec![],
        }
    }
}

impl Machine {
    fn terms(&self) -> Terms<'_> {
        Terms {
            identity: &self.identity,
            counter_hz: self.counter_hz,
            any_speed: self.any_speed,
            must_be_on: self.must_be_on,
            free_memory: self.free_memory,
            guests: &self.guests,
            regions: &self.regions,
        }
    }

    /// Returns why a guest is refused at the first look, and at the second one.
    fn refusals(&self, state: &GuestState, occupant: Option<Occupant>) -> [Option<String>; 2] {
        let look = self.terms().look(state, occupant).err();
        let admit = self.terms().admit(state, occupant).err();
        [look, admit].map(|refusal| refusal.map(|refusal| refusal.to_string()))
    }

    /// Asserts that a guest is refused at both looks, in these words.
    fn refuses(&self, state: &GuestState, occupant: Option<Occupant>, words: &str) {
        assert_eq!(self.refusals(state, occupant), [Some(words.into()), Some(words.into())]);
    }
}

const LINUX: Occupant = Occupant { name: "linux", vcpus: 2, ram: RAM };

#[test]
fn a_guest_goes_on_where_it_was_stored_in_its_place_or_in_a_new_one() {
    let (machine, state) = (Machine::default(), stored("linux"));
    for occupant in [None, Some(LINUX)] {
        assert_eq!(machine.refusals(&state, occupant), [None, None]);
        let admitted = machine.terms().admit(&state, occupant).unwrap();
        assert_eq!((admitted.guest.name(), admitted.vcpus.len()), ("linux", 2));
        assert_eq!(admitted.then, RunState::Running);
    }
}

#[test]
fn a_guest_that_was_off_is_off_again() {
    let mut state = stored("linux");
    state.power = GuestPower::of(GuestPowerState::Off);
    let admitted = Machine::default().terms().admit(&state, None).unwrap();
    assert_eq!(admitted.then, RunState::Off);
}

#[test]
fn a_guest_that_must_be_on_is_refused_at_once_if_it_was_off() {
    let machine = Machine { must_be_on: true, ..Machine::default() };
    let mut state = stored("linux");
    assert_eq!(machine.refusals(&state, Some(LINUX)), [None, None]);
    for power in [GuestPowerState::Off, GuestPowerState::Reset] {
        state.power = GuestPower::of(power);
        machine.refuses(&state, Some(LINUX), "the guest is off there");
    }
}

#[test]
fn a_guest_is_resumed_from_one_checkpoint_at_a_time() {
    let (linux, rt) = (stored("linux"), stored("rt"));
    assert_eq!(check_distinct(&[&linux, &rt]), Ok(()));
    assert_eq!(check_distinct(&[&linux, &rt, &linux]), Err(Refusal::Twice));
    assert_eq!(Refusal::Twice.to_string(), "two of the checkpoints are of one guest");
}

#[test]
fn a_guest_whose_counter_is_slower_needs_the_leave_of_a_person() {
    let state = stored("linux");
    let mut machine = Machine { counter_hz: 2 * COUNTER_HZ, ..Machine::default() };
    let [look, admit] = machine.refusals(&state, None);
    assert_eq!(look, admit);
    assert!(look.unwrap().starts_with("the guest's counter runs at 62500000 Hz"));
    machine.any_speed = true;
    assert_eq!(machine.refusals(&state, None), [None, None]);
}

#[test]
fn a_guest_whose_machine_can_t_be_made_is_refused_by_the_device() {
    let mut state = stored("g");
    assert_eq!(Machine::default().refusals(&state, None), [None, None], "its file does not say it");
    state.machine = Some(Box::new(state.machine()));
    assert_eq!(Machine::default().refusals(&state, None), [None, None]);
    state.machine.as_mut().unwrap().base[5] += 0x1000;
    let [early, late] = Machine::default().refusals(&state, None);
    let line = "the guest's machine has: PL031 at 0x9011000 with interrupt 34; this version of Stasis can make: PL031 at 0x9010000 with interrupt 34";
    assert_eq!((early, late.as_deref()), (None, Some(line)));
}

#[test]
fn a_guest_that_is_larger_than_what_is_free_is_refused() {
    let machine = Machine { free_memory: 2 * MIB, ..Machine::default() };
    let words = "the guest has 4194304 bytes of RAM; there are 2097152";
    let [look, admit] = machine.refusals(&stored("linux"), None);
    assert_eq!((look.as_deref(), admit.as_deref()), (Some(words), Some(words)));
    assert_eq!(machine.refusals(&stored("linux"), Some(LINUX)), [None, None], "it has its own");
}

#[test]
fn a_guest_does_not_fit_in_the_place_of_a_larger_one() {
    let ram = Range::new(RAM_BASE, 6 * MIB);
    let words = |vcpus, memory| {
        format!(
            "the checkpoint has 2 vCPUs and 4 MiB of memory; guest \"linux\" is configured with {vcpus} and {memory} MiB"
        )
    };
    let (machine, state) = (Machine::default(), stored("linux"));
    machine.refuses(&state, Some(Occupant { ram, ..LINUX }), &words(2, 6));
    machine.refuses(&state, Some(Occupant { vcpus: 3, ..LINUX }), &words(3, 4));
}

#[test]
fn a_guest_does_not_fit_in_the_place_of_one_with_fewer_vcpus() {
    let words = "the guest has 2 vCPUs; there are 1";
    Machine::default().refuses(&stored("linux"), Some(Occupant { vcpus: 1, ..LINUX }), words);
}

#[test]
fn a_guest_does_not_fit_in_the_place_of_one_with_its_memory_elsewhere() {
    let ram = Range::new(RAM_BASE + 2 * MIB, 4 * MIB);
    let words = "the checkpoint has its memory at 0x40000000, and guest \"linux\" at 0x40200000; remove \"linux\" first";
    Machine::default().refuses(&stored("linux"), Some(Occupant { ram, ..LINUX }), words);
}

#[test]
fn a_guest_that_was_shown_what_the_cores_lack_is_refused() {
    let mut machine = Machine::default();
    *machine.identity.id_aa64isar0_el1 = 0;
    for occupant in [None, Some(LINUX)] {
        let [look, admit] = machine.refusals(&stored("linux"), occupant);
        assert_eq!(look, admit);
        assert!(look.unwrap().contains("CRC32"));
    }
}

#[test]
fn a_guest_with_a_device_of_the_machine_is_not_resumed() {
    let mut config = GuestConfig::new("linux", "Image", 4 * MIB);
    config.devices.push("/pl031@9010000".into());
    let mut machine = Machine { guests: vec![config], ..Machine::default() };
    let words = "guest \"linux\" is configured with the machine's device \"/pl031@9010000\", of which the checkpoint has no state";
    let [look, admit] = machine.refusals(&stored("linux"), None);
    assert_eq!((look, admit.as_deref()), (None, Some(words)));
    machine.guests[0].name = "rt".into();
    assert_eq!(machine.refusals(&stored("linux"), None), [None, None], "it is another guest's");
}

#[test]
fn a_guest_that_shared_nothing_is_not_resumed_as_one_that_does() {
    let guests = vec!["linux".into(), "rt".into()];
    let region = SharedRegion { name: "ring".into(), size: 2 * MIB, guests };
    let machine = Machine { regions: vec![region], ..Machine::default() };
    let words =
        "guest \"linux\" is configured to share memory \"ring\", and the checkpoint does not";
    let [look, admit] = machine.refusals(&stored("linux"), None);
    assert_eq!((look, admit.as_deref()), (None, Some(words)));
    assert_eq!(machine.refusals(&stored("other"), None), [None, None]);
}

#[test]
fn a_guest_that_shared_what_is_not_here_is_refused_before_its_memory_is_read() {
    let mut state = stored("linux");
    let mut shared = SharedMemory::default();
    shared.name[..4].copy_from_slice(b"ring");
    (shared.base[0], shared.size[0], shared.peers[0]) = (0x1000_0000, 1 << 40, 1);
    state.devices.shared = Some(shared);
    let words =
        "the checkpoint shares memory \"ring\", and guest \"linux\" is none of those that do here";
    Machine::default().refuses(&state, None, words);
}
