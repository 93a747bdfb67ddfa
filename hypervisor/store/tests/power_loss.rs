//! Power fails, or the device does: every committed checkpoint is still there, byte for byte, and
//! the one under way is whole or absent.

mod common;

use common::{
    Fate, FaultyDisk, Random, add, contents, formatted, formatted_as, golden, mixed, open, read,
};
use proptest::prelude::*;
use stasis_store::layout::VERSION_OF_UNITS;
use stasis_store::{BlockDevice, Compression, Error, Partition, RamDisk, Store};
use std::collections::{BTreeMap, BTreeSet};

/// What a store holds: the contents of each checkpoint by its number.
type State = BTreeMap<u64, Vec<u8>>;

/// A store under test beside what it must hold.
struct Model {
    /// What the open store says that it holds.
    current: State,
    /// What the store may hold after a loss of power: `current`, and what commits that failed had
    /// tried.
    possible: Vec<State>,
    highest_number: u64,
    /// Makes what a checkpoint has.
    contents: fn(u64, usize) -> Vec<u8>,
}

impl Model {
    fn new() -> Self {
        Self { current: State::new(), possible: vec![State::new()], highest_number: 0, contents }
    }

    /// Returns a store that was opened, and holds this.
    fn holding(current: State) -> Self {
        let highest_number = current.keys().last().copied().unwrap_or(0);
        Self { possible: vec![current.clone()], current, highest_number, contents }
    }

    fn attempted(&mut self, state: State, succeeded: bool) {
        if succeeded {
            self.possible = vec![state.clone()];
            self.current = state;
        } else {
            self.possible.push(state);
        }
    }

    fn add<D: BlockDevice>(&mut self, store: &mut Store<D>, reserved: usize, len: usize) {
        let number = store.next_number();
        let Ok(mut writer) = store.begin("it", reserved as u64, 0) else {
            return;
        };
        // Now no slot holds what failed.
        self.possible = vec![self.current.clone()];
        assert!(number > self.highest_number, "number {number} reused");
        let data = (self.contents)(number, len.min(reserved));
        for piece in data.chunks(9000) {
            if writer.write(piece).is_err() {
                assert!(writer.commit().is_err());
                return;
            }
        }
        let mut state = self.current.clone();
        state.insert(number, data);
        let succeeded = writer.commit().is_ok();
        if succeeded {
            self.highest_number = number;
        }
        self.attempted(state, succeeded);
    }

    /// Adds several at once: all are there or none.
    fn add_set<D: BlockDevice>(&mut self, store: &mut Store<D>, lengths: &[usize]) {
        let mut state = self.current.clone();
        let first = store.next_number();
        for (index, &len) in lengths.iter().enumerate() {
            let Ok(mut writer) = store.begin("set/it", len as u64, 0) else {
                store.discard_staged();
                return;
            };
            self.possible = vec![self.current.clone()];
            let number = first + index as u64;
            assert!(number > self.highest_number + index as u64, "number {number} reused");
            let data = (self.contents)(number, len);
            let written = writer.write(&data).is_ok();
            state.insert(number, data);
            if index + 1 == lengths.len() {
                let succeeded = writer.commit().is_ok();
                if !succeeded {
                    store.discard_staged();
                }
                if succeeded {
                    self.highest_number = number;
                }
                return self.attempted(state, succeeded);
            }
            if writer.stage().is_err() || !written {
                store.discard_staged();
                return;
            }
        }
    }

    /// Adds a checkpoint that shares most of the `nth`, and has `len` bytes of its own; `replaced`
    /// goes for it.
    fn add_later<D: BlockDevice>(
        &mut self,
        store: &mut Store<D>,
        nth: usize,
        len: usize,
        replaced: Option<usize>,
    ) {
        let Some(of) = self.nth(nth).filter(|_| store.has_maps()) else { return };
        let replaced = replaced.and_then(|nth| self.nth(nth));
        let number = store.next_number();
        store.replace(replaced.as_slice()).unwrap();
        let Ok(mut writer) = store.begin_open("later", 0) else {
            return store.discard_staged();
        };
        self.possible = vec![self.current.clone()];
        assert!(number > self.highest_number, "number {number} reused");
        let (own, shared) = ((self.contents)(number, len), &self.current[&of]);
        let whole = shared.len() / 4096;
        let (from, to) = (whole / 4, whole - whole / 4);
        let written = writer.write(&[1; 4096]).is_ok()
            && writer.share(of, from as u64..to as u64).is_ok()
            && writer.write(&own).is_ok()
            && writer.rewrite(0, &[2; 64]).is_ok();
        if !written {
            assert!(writer.commit().is_err());
            return store.discard_staged();
        }
        let mut state = self.current.clone();
        let header = [[2; 64].as_slice(), &[1; 4032]].concat();
        state.insert(number, [&header, &shared[from * 4096..to * 4096], &own].concat());
        replaced.map(|number| state.remove(&number));
        let succeeded = writer.commit().is_ok();
        if !succeeded {
            store.discard_staged();
        }
        if succeeded {
            self.highest_number = number;
        }
        self.attempted(state, succeeded);
    }

    fn nth(&self, nth: usize) -> Option<u64> {
        self.current.keys().nth(nth % self.current.len().max(1)).copied()
    }

    fn delete<D: BlockDevice>(&mut self, store: &mut Store<D>, nth: usize) {
        let Some(number) = self.nth(nth) else { return };
        let mut state = self.current.clone();
        state.remove(&number);
        let succeeded = store.delete(number).is_ok();
        self.attempted(state, succeeded);
    }

    /// Checks that what was found is possible, and notes it as what the store holds from now on.
    fn reopened<D: BlockDevice>(&mut self, store: &mut Store<D>) {
        let found = state(store);
        assert!(self.possible.contains(&found), "found {:?}", found.keys());
        // What a commit that failed had tried may be there, and then its number is taken.
        let found_number = found.keys().last().copied().unwrap_or(0);
        self.highest_number = self.highest_number.max(found_number);
        self.possible = vec![found.clone()];
        self.current = found;
    }
}

fn state<D: BlockDevice>(store: &mut Store<D>) -> State {
    let numbers: Vec<u64> = store.list().iter().map(|c| c.number).collect();
    let read = |number| (number, read(store, number));
    numbers.into_iter().map(read).collect()
}

/// Fills gaps, deletes and reuses: what a store of 40 blocks goes through.
fn script<D: BlockDevice>(model: &mut Model, store: &mut Store<D>) {
    model.add(store, 30_000, 30_000);
    model.add(store, 40_960, 40_960);
    model.add(store, 50_000, 20_000);
    model.delete(store, 0);
    model.add(store, 60_000, 60_000);
    model.delete(store, 1);
    model.delete(store, 0);
    // Needs the space of all that was deleted, in several pieces.
    model.add(store, 90_000, 90_000);
    model.add(store, 4_096, 4_096);
    model.delete(store, 0);
    model.add(store, 60_000, 60_000);
    model.delete(store, 0);
    model.add_set(store, &[10_000, 20_000, 5_000]);
    // Does not fit as a whole.
    model.add_set(store, &[10_000, 200_000]);
    model.add_set(store, &[4_000, 4_000]);
    script_of_later_ones(model, store);
}

/// Shares, replaces the oldest and one in the midst, and deletes what others share.
fn script_of_later_ones<D: BlockDevice>(model: &mut Model, store: &mut Store<D>) {
    model.delete(store, 0);
    model.add(store, 40_960, 40_960);
    model.add_later(store, 4, 5_000, None);
    model.add_later(store, 5, 9_000, Some(0));
    model.delete(store, 3);
    model.add_later(store, 4, 100, Some(2));
    model.delete(store, 0);
    model.add(store, 60_000, 60_000);
}

#[test]
fn power_lost_at_any_operation_leaves_every_committed_checkpoint_whole() {
    power_lost_at_any_operation(3, 0, 8);
    power_lost_at_any_operation(2, 0, 2);
}

#[test]
fn power_lost_with_writes_under_way_leaves_every_committed_checkpoint_whole() {
    power_lost_at_any_operation(3, 3, 4);
}

#[test]
fn power_lost_while_a_store_compresses_leaves_every_committed_checkpoint_whole() {
    power_lost_at_any_operation(5, 3, 1);
}

/// Cuts the power at each operation of a disk with a store of this version that has `depth` writes
/// under way, with this many outcomes, and goes on from each.
fn power_lost_at_any_operation(version: u32, depth: usize, outcomes: u64) {
    let mut fresh = formatted_as(40, version);
    if version >= VERSION_OF_UNITS {
        open(&mut fresh).set_compression(Compression::Lz4).unwrap();
    }
    let contents = if version >= VERSION_OF_UNITS { mixed } else { contents };
    let mut crashes = 0;
    for at in 0.. {
        let mut disk = FaultyDisk::new(fresh.clone()).with_depth(depth);
        // Opening it takes one flush.
        disk.power_fails_at = Some(at + 1);
        let mut model = Model { contents, ..Model::new() };
        let mut store = open(&mut disk);
        script(&mut model, &mut store);
        if !disk.power_failed() {
            break;
        }
        for seed in 0..outcomes {
            let mut survivor = FaultyDisk::new(disk.some_outcome(seed)).with_depth(depth);
            let mut model = Model { possible: model.possible.clone(), contents, ..Model::new() };
            let mut store = open(&mut survivor);
            model.reopened(&mut store);
            // The store goes on from there, and what it does then is as safe: power fails once
            // more.
            survivor.power_fails_at = Some(survivor.operations + 1 + seed as usize * 2);
            let mut store = open(&mut survivor);
            script(&mut model, &mut store);
            let mut store = open(survivor.some_outcome(seed + 1));
            model.reopened(&mut store);
            crashes += 1;
        }
    }
    assert!(crashes > 25 * outcomes, "only {crashes} crashes simulated");
}

/// The byte at which a superblock's checksum ends and its version begins.
const SUPERBLOCK_CRC_END: usize = 12;

/// Returns what becomes of the writes to superblock and catalog that were not flushed: for each a
/// digit, kept, lost or torn. What is beyond the catalog is kept.
fn outcome(disk: &FaultyDisk, mut digits: usize) -> RamDisk {
    disk.after_power_loss_at(|at| {
        if at >= stasis_store::layout::FIRST_DATA_BLOCK as usize * 4096 {
            return Fate::Kept;
        }
        // Of a superblock, nothing changes in the second half.
        let torn = if at < 0x1_0000 { Fate::Cut(SUPERBLOCK_CRC_END) } else { Fate::Torn };
        let fate = [Fate::Kept, Fate::Lost, torn][digits % 3];
        digits /= 3;
        fate
    })
}

/// Deletes or adds something, in a store whose catalog has several sectors.
fn change<D: BlockDevice>(model: &mut Model, store: &mut Store<D>, which: usize) {
    match which {
        0 => model.add(store, 4_000, 4_000),
        1 => model.add_set(store, &[500, 600]),
        nth => model.delete(store, nth - 2),
    }
}

/// Every change, interrupted at every operation, with every outcome for the sectors of the catalog;
/// and what is left is changed and interrupted again, and once more.
#[test]
fn power_lost_three_times_in_a_row_never_makes_a_catalog_that_nobody_wrote() {
    const CHANGES: usize = 9;
    let mut disk = formatted(16);
    let mut model = Model::new();
    let mut store = open(&mut disk);
    for _ in 0..7 {
        model.add(&mut store, 300, 300);
    }
    let mut random = Random::new(1);
    let mut survivors = vec![(disk, model.current)];
    let mut crashes = 0;
    for round in 0..3 {
        let mut seen = BTreeSet::new();
        let mut next = Vec::new();
        for (disk, current) in survivors {
            for which in 0..CHANGES {
                for at in 0.. {
                    let mut faulty = FaultyDisk::new(disk.clone());
                    // Opening it takes one flush.
                    faulty.power_fails_at = Some(at + 1);
                    let mut store = open(&mut faulty);
                    let mut model = Model::holding(current.clone());
                    change(&mut model, &mut store, which);
                    if !faulty.power_failed() {
                        break;
                    }
                    let pending = faulty.unflushed_below(stasis_store::layout::FIRST_DATA_BLOCK);
                    for digits in 0..3usize.pow(pending.min(4) as u32) {
                        let survivor = outcome(&faulty, digits);
                        let mut model = Model { possible: model.possible.clone(), ..Model::new() };
                        model.reopened(&mut open(survivor.clone()));
                        crashes += 1;
                        if seen.insert(survivor.bytes[..0x2_0400].to_vec()) {
                            next.push((survivor, model.current));
                        }
                    }
                }
            }
        }
        // Every outcome is looked at; some are followed, for the time that it takes.
        let followed = if round == 0 { 8 } else { 6 };
        while next.len() > followed {
            let nth = random.below(next.len() as u64) as usize;
            next.swap_remove(nth);
        }
        survivors = next;
    }
    assert!(crashes > 2_000, "only {crashes} crashes simulated");
}

/// Returns the stores that the first version of this code has made: one at rest, and one whose last
/// delete was torn.
fn older_stores() -> [(RamDisk, State); 2] {
    ["1", "1-torn"].map(|name| {
        let disk = golden(name);
        let found = state(&mut open(disk.clone()));
        (disk, found)
    })
}

#[test]
fn a_store_of_version_1_is_read_as_it_was_written() {
    for (disk, found) in older_stores() {
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 6, 7, 8, 9]);
        for (number, data) in found {
            assert!(data == contents(number, data.len()), "checkpoint {number}");
        }
        assert_eq!(open(disk).next_number(), 10);
    }
}

/// A member of a set is deleted, which version 1 can't say, and power fails: at any operation,
/// three times in a row.
#[test]
fn power_lost_while_a_store_of_version_1_goes_to_version_2_leaves_every_checkpoint() {
    for (disk, found) in older_stores() {
        let mut without = found.clone();
        without.remove(&3);
        let mut survivors = vec![disk];
        for _ in 0..3 {
            let mut next = BTreeMap::new();
            for disk in &survivors {
                for at in 0.. {
                    let mut faulty = FaultyDisk::new(disk.clone());
                    faulty.power_fails_at = Some(at);
                    let partition = Partition::whole(&faulty);
                    let _ =
                        Store::open(&mut faulty, partition).and_then(|mut store| store.delete(3));
                    if !faulty.power_failed() {
                        break;
                    }
                    let pending = faulty.unflushed_below(stasis_store::layout::FIRST_DATA_BLOCK);
                    for digits in 0..3usize.pow(pending.min(5) as u32) {
                        let survivor = outcome(&faulty, digits);
                        let mut store = open(survivor.clone());
                        let now = state(&mut store);
                        assert!(now == found || now == without, "at {at}: {:?}", now.keys());
                        assert_eq!(store.find_set("pair").unwrap().members.len(), 2);
                        let evening = store.find_set("evening").unwrap();
                        assert_eq!((evening.count, evening.members.len()), (3, now.len() - 5));
                        if now == found {
                            next.insert(survivor.bytes[..0x2_0600].to_vec(), survivor);
                        }
                    }
                }
            }
            survivors = next.into_values().collect();
        }
    }
}

/// Three checkpoints of which each shares most of the one before, in a store with little room.
fn with_shared() -> (RamDisk, State) {
    let mut model = Model::new();
    let mut store = open(formatted(16));
    model.add(&mut store, 20_480, 20_480);
    model.add_later(&mut store, 0, 100, None);
    model.add_later(&mut store, 1, 4_096, None);
    (store.into_device(), model.current)
}

/// Every outcome of a commit that shares, of a deletion of the oldest and of one in the midst, and
/// of replacing one: all blocks that were not flushed, contents and maps among them. What is left
/// can be filled up, and nothing that was committed is hurt.
#[test]
fn every_outcome_of_a_change_to_what_is_shared_is_the_store_before_or_after_it() {
    let (disk, before) = with_shared();
    let mut crashes = 0;
    for which in 0..6 {
        for at in 0.. {
            let mut faulty = FaultyDisk::new(disk.clone());
            // Opening it takes one flush.
            faulty.power_fails_at = Some(at + 1);
            let mut model = Model::holding(before.clone());
            let mut store = open(&mut faulty);
            match which {
                0..3 => model.add_later(&mut store, 2, 100, [None, Some(0), Some(1)][which]),
                nth => model.delete(&mut store, nth - 3),
            }
            if !faulty.power_failed() {
                break;
            }
            for survivor in faulty.every_outcome(5) {
                let mut store = open(survivor);
                let mut model = Model { possible: model.possible.clone(), ..Model::new() };
                model.reopened(&mut store);
                model.add_later(&mut store, 2, 6_000, None);
                let free = store.usage().largest as usize;
                model.add(&mut store, free, free);
                model.reopened(&mut open(store.into_device()));
                crashes += 1;
            }
        }
    }
    assert!(crashes > 200, "only {crashes} crashes simulated");
}

/// A store of version 1 or 2 is upgraded, and power fails: at any operation, with every outcome,
/// and once more while it is put right.
#[test]
fn power_lost_while_a_store_goes_to_version_3_leaves_every_checkpoint() {
    let mut store = open(formatted_as(14, 2));
    let mut model = Model::new();
    model.add(&mut store, 9_000, 9_000);
    model.add_set(&mut store, &[5_000, 300]);
    model.delete(&mut store, 0);
    let small = (store.into_device(), model.current, 3);
    let [(older, found), _] = older_stores();
    let mut crashes = 0;
    for (disk, found, most) in [small, (older, found, 1)] {
        let mut survivors = vec![disk];
        for round in 0..2 {
            let mut next = BTreeMap::new();
            for disk in &survivors {
                for at in 0.. {
                    let mut faulty = FaultyDisk::new(disk.clone());
                    faulty.power_fails_at = Some(at + 1);
                    let upgraded = open(&mut faulty).upgrade();
                    assert_eq!(upgraded.is_ok(), !faulty.power_failed());
                    if upgraded.is_ok() {
                        break;
                    }
                    for survivor in faulty.every_outcome(most) {
                        let mut store = open(survivor.clone());
                        assert!(state(&mut store) == found, "round {round}, at {at}");
                        store.upgrade().unwrap();
                        let mut model = Model::holding(found.clone());
                        model.add_later(&mut store, 0, 100, Some(1));
                        let mut store = open(store.into_device());
                        assert_eq!(store.version(), 3);
                        model.reopened(&mut store);
                        next.insert(survivor.bytes[..0x3_0000].to_vec(), survivor);
                        crashes += 1;
                    }
                }
            }
            survivors = next.into_values().collect();
        }
    }
    assert!(crashes > 200, "only {crashes} crashes simulated");
}

#[test]
fn a_store_without_room_for_maps_is_not_upgraded() {
    let mut store = open(formatted_as(5, 2));
    add(&mut store, "first", &contents(1, 8_192)).unwrap();
    add(&mut store, "second", &contents(2, 8_192)).unwrap();
    let error = store.upgrade().unwrap_err();
    assert_eq!(error, Error::Full { needed: 8192, free: 4096, largest: 4096 });
    let mut store = open(store.into_device());
    assert_eq!(store.version(), 2);
    store.delete(1).unwrap();
    assert_eq!((store.upgrade().unwrap(), store.version()), (2, 3));
    assert_eq!(read(&mut store, 2), contents(2, 8_192));
}

#[test]
fn power_lost_while_formatting_leaves_the_old_store_or_none_or_an_empty_one() {
    let mut old = formatted(40);
    let mut store = open(&mut old);
    for n in 0..3 {
        add(&mut store, "old", &contents(n, 10_000)).unwrap();
    }
    let old_state = state(&mut store);
    let partition = Partition::whole(&old);
    for at in 0..7 {
        let mut disk = FaultyDisk::new(old.clone());
        disk.power_fails_at = Some(at);
        Store::format(&mut disk, partition).unwrap_err();
        for seed in 0..24 {
            match Store::open(disk.some_outcome(seed), partition) {
                Ok(mut store) => {
                    let found = state(&mut store);
                    assert!(found.is_empty() || found == old_state);
                }
                Err(error) => assert_eq!(error, Error::Unformatted),
            }
        }
    }
}

#[test]
fn space_freed_by_a_delete_is_not_written_before_the_older_catalog_forgot_it() {
    for reopened in [false, true] {
        let mut disk = FaultyDisk::new(formatted(11));
        let mut store = open(&mut disk);
        let first = add(&mut store, "first", &contents(1, 40_960)).unwrap();
        store.delete(first).unwrap();
        if reopened {
            store = open(store.into_device());
        }
        let mut writer = store.begin("second", 40_960, 0).unwrap();
        writer.write(&contents(2, 40_960)).unwrap();
        drop(writer);
        // Whichever of the slots is lost now, nothing is listed that was overwritten.
        for offset in stasis_store::layout::SLOT_OFFSET {
            let mut damaged = disk.some_outcome(1);
            damaged.bytes[offset as usize + 20] ^= 1;
            assert!(open(damaged).list().is_empty(), "reopened: {reopened}");
        }
    }
}

#[test]
fn a_write_that_fails_late_fails_its_own_checkpoint_and_no_other() {
    let data = contents(1, 200_000);
    // Opening the store takes one flush; eight writes are what is gathered at once.
    for nth in 0..8 {
        let mut disk = FaultyDisk::new(formatted(200)).with_depth(4);
        disk.fails_at = vec![1 + nth];
        let mut store = open(disk);
        let mut writer = store.begin("given-up", 200_000, 0).unwrap();
        let _ = writer.write(&data);
        drop(writer);
        let second = add(&mut store, "second", &data).unwrap();
        assert!(read(&mut store, second) == data, "write {nth} came late");

        let failing = store.device_mut();
        failing.fails_at = vec![failing.operations + nth];
        assert!(add(&mut store, "third", &data).is_err(), "write {nth} has failed");
        let fourth = add(&mut store, "fourth", &data).unwrap();
        assert!(read(&mut store, fourth) == data);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Add { reserved: usize, len: usize },
    Later { of: usize, len: usize, replaced: Option<usize> },
    Begin { reserved: usize },
    Delete { nth: usize },
    Reopen,
    PowerLoss { seed: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0usize..150_000, 0usize..150_000)
            .prop_map(|(reserved, len)| Op::Add { reserved, len }),
        4 => (0usize..8, 0usize..30_000, prop::option::of(0usize..8))
            .prop_map(|(of, len, replaced)| Op::Later { of, len, replaced }),
        1 => (0usize..150_000).prop_map(|reserved| Op::Begin { reserved }),
        4 => (0usize..8).prop_map(|nth| Op::Delete { nth }),
        1 => Just(Op::Reopen),
        2 => (0u64..1000).prop_map(|seed| Op::PowerLoss { seed }),
    ]
}

proptest! {
    // A case takes long; PROPTEST_CASES raises their number.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    #[test]
    fn any_sequence_of_operations_faults_and_power_losses_agrees_with_the_model(
        ops in prop::collection::vec(op(), 1..30),
        fails_at in prop::collection::vec(0usize..120, 0..12),
        seed in 0u64..1000,
        depth in 0usize..5,
    ) {
        let mut disk = FaultyDisk::new(formatted(60)).with_depth(depth);
        disk.fails_at = fails_at.iter().map(|at| at + 1).collect();
        let mut model = Model::new();
        let mut store = open(disk);
        for op in ops {
            match op {
                Op::Add { reserved, len } => model.add(&mut store, reserved, len),
                Op::Later { of, len, replaced } => {
                    model.add_later(&mut store, of, len, replaced);
                }
                Op::Begin { reserved } => {
                    if let Ok(mut writer) = store.begin("dropped", reserved as u64, 0) {
                        let _ = writer.write(&contents(seed, reserved));
                    }
                }
                Op::Delete { nth } => model.delete(&mut store, nth),
                Op::Reopen => {
                    let mut disk = store.into_device();
                    let partition = Partition::whole(&disk);
                    // Faults pass: each hits one operation.
                    while Store::open(&mut disk, partition).is_err() {}
                    disk.fails_at.retain(|at| *at != disk.operations);
                    store = open(disk);
                    model.reopened(&mut store);
                }
                Op::PowerLoss { seed } => {
                    let outcome: RamDisk = store.into_device().some_outcome(seed);
                    let mut disk = FaultyDisk::new(outcome).with_depth(depth);
                    // Opening it, which takes one flush, goes well.
                    disk.fails_at = fails_at.iter().map(|at| at + 1).collect();
                    store = open(disk);
                    model.reopened(&mut store);
                }
            }
            prop_assert_eq!(&state(&mut store), &model.current);
        }
        let mut store = open(store.into_device().some_outcome(seed));
        model.reopened(&mut store);
    }
}

#[test]
fn a_set_is_there_when_its_last_is_committed_and_not_before() {
    let mut store = open(formatted(40));
    let stage = |store: &mut Store<RamDisk>| {
        let mut writer = store.begin("set/a", 10_000, 0).unwrap();
        writer.write(&contents(1, 10_000)).unwrap();
        writer.stage().unwrap();
    };
    stage(&mut store);
    assert!(store.list().is_empty());
    let free = store.usage().free;
    store.discard_staged();
    assert!(store.usage().free > free, "what was given up takes no room");
    stage(&mut store);
    assert_eq!(add(&mut store, "set/b", &contents(2, 9_000)).unwrap(), 2);
    let mut store = open(store.into_device());
    assert_eq!(read(&mut store, 1), contents(1, 10_000));
    assert_eq!(read(&mut store, 2), contents(2, 9_000));
    store.delete_all(&[1, 7]).expect_err("7 is not there");
    assert_eq!(store.list().len(), 2, "so none is deleted");
    store.delete_all(&[1, 2]).unwrap();
    assert!(store.list().is_empty());
}

#[test]
fn the_number_of_pages_is_kept_where_it_was_told() {
    let mut store = open(formatted(40));
    for pages in [0, 7, u64::MAX] {
        let mut writer = store.begin("it", 10, 0).unwrap();
        writer.set_pages(pages);
        writer.write(&[1; 10]).unwrap();
        writer.commit().unwrap();
    }
    let store = open(store.into_device());
    let pages: Vec<_> = store.list().iter().map(|c| c.pages.map(|pages| pages.get())).collect();
    assert_eq!(pages, [None, Some(7), None]);
}

#[test]
fn numbers_are_never_given_out_twice() {
    let mut random = Random::new(7);
    let mut store = open(FaultyDisk::new(formatted(40)));
    let mut highest = 0;
    for round in 0..100 {
        if let Ok(number) = add(&mut store, "it", &contents(round, 5_000)) {
            assert!(number > highest);
            highest = number;
        }
        if let Some(last) = store.list().last().map(|c| c.number) {
            store.delete(last).unwrap();
        }
        if random.below(3) == 0 {
            store = open(store.into_device());
        }
    }
    assert!(highest >= 100);
}
