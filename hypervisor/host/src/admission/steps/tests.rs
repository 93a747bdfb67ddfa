//! Resumes on a machine that notes what is done, and fails where it is told to.

use super::*;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

/// What was done, and what will fail.
#[derive(Default)]
struct Machine {
    /// The guests that are on the machine.
    existing: Vec<&'static str>,
    /// The regions that every guest shares, but for one.
    regions: Vec<Shared>,
    /// The guest that shares nothing.
    alone: &'static str,
    /// The guest that is not admitted.
    refuses: &'static str,
    /// The guest whose memory is not loaded.
    damaged: &'static str,
    /// The guests that have disks.
    disks: Vec<&'static str>,
    /// Whether the store has no room to keep what the disks had become.
    is_full: bool,
    done: Vec<String>,
}

/// Why the machine of the tests has not resumed a guest.
#[derive(Debug, PartialEq)]
enum Failed {
    Refused(Refusal),
    Admission,
    Load(LoadFailed<&'static str>),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<LoadFailed<&'static str>> for Failed {
    fn from(failed: LoadFailed<&'static str>) -> Self {
        Self::Load(failed)
    }
}

impl Steps for Machine {
    type Guest = String;
    type Error = Failed;
    type LoadError = &'static str;

    fn admit(&mut self, state: &GuestState) -> Result<String, Failed> {
        let name = state.guest.name_text();
        self.done.push(format!("admit {name}"));
        if name == self.refuses { Err(Failed::Admission) } else { Ok(name.to_string()) }
    }

    fn is_in_place(&self, guest: &String) -> bool {
        self.existing.contains(&guest.as_str())
    }

    fn regions(&self, guest: &String, _: &[&str]) -> Vec<Shared> {
        if guest == self.alone { vec![] } else { self.regions.clone() }
    }

    fn bring_back(&mut self, guests: &[String]) -> Result<Vec<bool>, &'static str> {
        let have_disks = guests.iter().map(|guest| self.disks.contains(&guest.as_str())).collect();
        match self.disks.is_empty() {
            true => {}
            false if self.is_full => return Err("no room"),
            false => self.done.push("bring back".to_string()),
        }
        Ok(have_disks)
    }

    fn lose(&mut self, guest: &mut String) {
        self.done.push(format!("lose {guest}"));
    }

    fn load(
        &mut self,
        index: usize,
        guest: &mut String,
        puts_back: &[bool],
        can_give_up: bool,
    ) -> Result<(), &'static str> {
        let until = if can_give_up { "a key" } else { "the end" };
        self.done.push(format!("load {index} {guest} {puts_back:?} until {until}"));
        if guest == self.damaged { Err("damaged") } else { Ok(()) }
    }

    fn run(&mut self, guests: Vec<String>) -> Result<(), Failed> {
        self.done.push(format!("run {}", guests.join(" ")));
        Ok(())
    }
}

impl Machine {
    /// Resumes guests of these names.
    fn resume(&mut self, names: &[&str]) -> Result<Vec<Stays<'static>>, Failed> {
        let states: Vec<GuestState> = names.iter().map(|name| stored(name)).collect();
        resume(self, &states.iter().collect::<Vec<_>>())
    }
}

/// Returns a guest as a checkpoint has it, as far as the steps look at it.
fn stored(name: &str) -> GuestState {
    let mut state = GuestState::reset(1);
    state.guest.set_name(name);
    state
}

#[test]
fn guests_are_all_admitted_then_all_loaded_and_then_they_run() {
    let mut machine = Machine::default();
    assert_eq!(machine.resume(&["a", "b"]), Ok(vec![]));
    let done = ["admit a", "admit b", "load 0 a [] until a key", "load 1 b [] until a key"];
    assert_eq!(machine.done, [&done[..], &["run a b"]].concat());
}

#[test]
fn a_guest_that_is_refused_leaves_all_memory_as_it_was() {
    let mut machine = Machine { refuses: "b", existing: vec!["a", "b"], ..Machine::default() };
    assert_eq!(machine.resume(&["a", "b", "c"]), Err(Failed::Admission));
    assert_eq!(machine.done, ["admit a", "admit b"]);
}

#[test]
fn two_checkpoints_of_one_guest_are_refused_before_anything_is_done() {
    let mut machine = Machine::default();
    assert_eq!(machine.resume(&["a", "b", "a"]), Err(Failed::Refused(Refusal::Twice)));
    assert_eq!(machine.done, [""; 0]);
}

#[test]
fn no_guest_runs_if_the_memory_of_one_is_not_loaded() {
    let mut machine = Machine { damaged: "b", existing: vec!["a", "b", "c"], ..Machine::default() };
    let lost = vec!["a".to_string(), "b".to_string()];
    let failed = LoadFailed { why: "damaged", lost };
    assert_eq!(machine.resume(&["new", "a", "b", "c"]), Err(Failed::Load(failed)));
    let last = machine.done.last().unwrap();
    assert_eq!(last, "load 2 b [] until the end", "the others were not touched");
}

#[test]
fn a_resume_is_given_up_only_while_no_memory_in_use_was_overwritten() {
    let mut machine = Machine { existing: vec!["a"], ..Machine::default() };
    machine.resume(&["new", "a", "other"]).unwrap();
    let loads =
        ["load 0 new [] until a key", "load 1 a [] until the end", "load 2 other [] until the end"];
    assert_eq!(machine.done[3..6], loads);
}

#[test]
fn disks_are_brought_back_when_the_memory_of_guests_beside_others_was_loaded() {
    let mut machine = Machine { disks: vec!["b"], ..Machine::default() };
    machine.resume(&["a", "b"]).unwrap();
    let done = ["load 0 a [] until a key", "load 1 b [] until a key", "bring back", "run a b"];
    assert_eq!(machine.done[2..], done);
    // A load that is given up, or fails, changes nothing.
    let mut machine = Machine { disks: vec!["a", "b"], damaged: "b", ..Machine::default() };
    let failed = LoadFailed { why: "damaged", lost: vec![] };
    assert_eq!(machine.resume(&["a", "b"]), Err(Failed::Load(failed)));
    assert!(!machine.done.contains(&"bring back".to_string()), "{:?}", machine.done);
}

#[test]
fn disks_are_brought_back_before_the_first_memory_in_use_is_overwritten() {
    let ring = Shared { region: "ring", keeper: None };
    for (existing, regions) in [(vec!["a", "c"], vec![]), (vec![], vec![ring])] {
        let mut machine = Machine { existing, regions, disks: vec!["b"], ..Machine::default() };
        machine.resume(&["a", "b", "c"]).unwrap();
        let back: Vec<usize> = (0..machine.done.len())
            .filter(|n| machine.done[*n] == "bring back" || machine.done[*n].starts_with("load 0"))
            .collect();
        assert_eq!((back, &*machine.done[3]), (vec![3, 4], "bring back"), "{:?}", machine.done);
    }
}

#[test]
fn disks_that_can_not_be_brought_back_cost_no_guest() {
    let mut machine = Machine { existing: vec!["a"], disks: vec!["a"], ..Machine::default() };
    machine.is_full = true;
    let failed = LoadFailed { why: "no room", lost: vec![] };
    assert_eq!(machine.resume(&["new", "a"]), Err(Failed::Load(failed)));
    assert_eq!(machine.done[2..], ["load 0 new [] until a key"]);
}

#[test]
fn a_guest_whose_disks_were_brought_back_is_lost_with_those_that_were_overwritten() {
    let existing = vec!["a", "b", "c"];
    let disks = vec!["b", "new"];
    let mut machine = Machine { damaged: "a", existing, disks, ..Machine::default() };
    let lost = vec!["b".to_string(), "a".to_string()];
    let failed = LoadFailed { why: "damaged", lost };
    assert_eq!(machine.resume(&["a", "b", "c", "new"]), Err(Failed::Load(failed)));
}

#[test]
fn shared_memory_that_others_use_stays_and_is_named_once() {
    let ring = Shared { region: "ring", keeper: Some("rt") };
    let log = Shared { region: "log", keeper: Some("rt") };
    let own = Shared { region: "own", keeper: None };
    let mut machine = Machine { regions: vec![ring, own, log], ..Machine::default() };
    let stay = [("ring", "rt"), ("log", "rt")].map(|(region, keeper)| Stays { region, keeper });
    assert_eq!(machine.resume(&["a", "b"]), Ok(stay.to_vec()));
    assert_eq!(machine.done[2], "load 0 a [false, true, false] until the end");
}

#[test]
fn all_who_share_memory_that_is_put_back_are_lost_before_it_is_overwritten() {
    let ring = Shared { region: "ring", keeper: None };
    for (existing, lost) in [(vec!["a", "b", "c"], vec!["a", "b"]), (vec!["b", "c"], vec!["b"])] {
        let regions = vec![ring];
        let mut machine =
            Machine { existing, regions, alone: "c", damaged: "a", ..Machine::default() };
        let names = lost.iter().map(|name| name.to_string()).collect();
        let failed = LoadFailed { why: "damaged", lost: names };
        assert_eq!(machine.resume(&["a", "b", "c"]), Err(Failed::Load(failed)));
        let loses: Vec<String> = lost.iter().map(|name| format!("lose {name}")).collect();
        let load = ["load 0 a [true] until the end".to_string()];
        assert_eq!(machine.done[3..], [&loses[..], &load].concat());
    }
}

#[test]
fn nobody_is_lost_by_shared_memory_that_others_use() {
    let regions = vec![Shared { region: "ring", keeper: Some("rt") }];
    let existing = vec!["a", "b"];
    let mut machine = Machine { existing, regions, damaged: "a", ..Machine::default() };
    let failed = LoadFailed { why: "damaged", lost: vec!["a".to_string()] };
    assert_eq!(machine.resume(&["a", "b"]), Err(Failed::Load(failed)));
    assert!(!machine.done.contains(&"lose b".to_string()), "{:?}", machine.done);
}
