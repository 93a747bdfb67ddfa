//! Power fails, or the device does, while volumes are written: each is as one of its flushes has
//! left it, the last that has ended or the one under way, and every checkpoint has its volumes as
//! of its instant.

mod common;

use common::{FaultyDisk, Random, Writer, contents, formatted, open, read};
use stasis_store::volume::{Before, Source};
use stasis_store::{BlockDevice, Error, RamDisk, Store, VolumeFault};
use std::collections::BTreeMap;

const BLOCK: usize = 4096;
/// Blocks of the volume.
const BLOCKS: usize = 6;

/// What a store holds: volumes by their names, and of each checkpoint the contents and its volume.
type State = (BTreeMap<String, Vec<u8>>, BTreeMap<u64, (Vec<u8>, Vec<u8>)>);

/// A store beside what it must hold.
#[derive(Clone)]
struct Model {
    /// What was committed.
    current: State,
    /// What may be there after a loss of power.
    possible: Vec<State>,
    /// What the volume "v" reads as.
    now: Vec<u8>,
}

impl Model {
    fn of(current: State) -> Self {
        let now = current.0.get("v").cloned().unwrap_or_default();
        Self { possible: vec![current.clone()], current, now }
    }

    /// Notes a commit that was tried. What the volume reads as is lost if it failed.
    fn tried(&mut self, state: State, succeeded: bool) -> bool {
        if succeeded {
            *self = Self { now: self.now.clone(), ..Self::of(state) };
        } else {
            self.possible.push(state);
        }
        succeeded
    }

    /// Does what each of these letters says, until something fails: `w` writes blocks, `s` sectors
    /// of one, `l` makes late writes, `z` makes zeros, `f` flushes, `c` stores a checkpoint, `d`
    /// deletes the oldest one, `b` brings back the newest, `y` copies, `t` copies what was not
    /// flushed, too, `x` deletes the copy and what was kept, `m` stores a checkpoint during which
    /// the volume is written and flushed.
    fn run<D: BlockDevice>(&mut self, store: &mut Store<D>, script: &str, seed: u64) {
        let mut random = Random::new(seed);
        for letter in script.chars() {
            if !self.step(store, letter, &mut random) {
                return;
            }
        }
    }

    fn step<D: BlockDevice>(
        &mut self,
        store: &mut Store<D>,
        letter: char,
        random: &mut Random,
    ) -> bool {
        let seed = random.below(1 << 20);
        match letter {
            'w' => {
                let first = random.below(BLOCKS as u64 - 2) as usize;
                self.write(store, first * BLOCK, &contents(seed, 2 * BLOCK))
            }
            's' => {
                let first = random.below(BLOCKS as u64 * 8 - 3) as usize;
                self.write(store, first * 512, &contents(seed, 3 * 512))
            }
            'l' => {
                let (writer, data) = (Writer::default(), contents(seed, 3 * 1024));
                let first = random.below(BLOCKS as u64 * 8 - 6) as usize * 512;
                // Late writes begin only where it is known how much is free.
                store.usage();
                let begun =
                    store.volumes_mut().begin_late("v", first as u64, Box::new(writer.clone()));
                if begun.is_err() {
                    return matches!(begun, Err(Error::Volume(VolumeFault::Full { .. })));
                }
                self.now[first..first + data.len()].copy_from_slice(&data);
                data.chunks(512).all(|sector| writer.write(sector))
            }
            'z' => {
                let first = random.below(BLOCKS as u64 - 3) as usize * BLOCK + 512;
                let done = store.volumes_mut().zero("v", first as u64, 2 * BLOCK as u64).is_ok();
                self.now[first..first + 2 * BLOCK].fill(0);
                done
            }
            'f' => {
                let mut state = self.current.clone();
                state.0.insert("v".into(), self.now.clone());
                let done = store.volumes_mut().flush("v").is_ok();
                self.tried(state, done)
            }
            'c' => self.checkpoint(store, seed, false),
            'm' => self.checkpoint(store, seed, true),
            'd' => {
                let mut state = self.current.clone();
                let Some((number, _)) = state.1.pop_first() else { return true };
                let done = store.delete(number).is_ok();
                self.tried(state, done)
            }
            'b' => self.bring_back(store),
            'y' => {
                let mut state = self.current.clone();
                let flushed = state.0["v"].clone();
                if state.0.insert("copy".into(), flushed).is_some() {
                    return true;
                }
                let done = store.copy_volume(Source::Volume("v"), "copy", 0).is_ok();
                self.tried(state, done)
            }
            't' => {
                let mut state = self.current.clone();
                // The volume as it is, also what was not flushed.
                if state.0.insert("v-twin".into(), self.now.clone()).is_some() {
                    return true;
                }
                let Ok(taken) = store.take_instants(&["v"]) else { return false };
                let done = store.copy_taken(&taken, "twin", 0).is_ok();
                self.tried(state, done)
            }
            _ => {
                let names: Vec<String> = self.current.0.keys().cloned().collect();
                names.iter().filter(|name| *name != "v").all(|name| {
                    let mut state = self.current.clone();
                    state.0.remove(name);
                    let done = store.delete_volume(name).is_ok();
                    self.tried(state, done)
                })
            }
        }
    }

    fn write<D: BlockDevice>(&mut self, store: &mut Store<D>, at: usize, data: &[u8]) -> bool {
        self.now[at..at + data.len()].copy_from_slice(data);
        store.volumes_mut().write("v", at as u64, data).is_ok()
    }

    fn checkpoint<D: BlockDevice>(
        &mut self,
        store: &mut Store<D>,
        seed: u64,
        writes: bool,
    ) -> bool {
        let number = store.next_number();
        let Ok(instants) = store.take_instants(&["v"]) else { return false };
        let (data, then) = (contents(seed, 5000), self.now.clone());
        let Ok(mut writer) = store.begin("it", 5000, 0) else { return false };
        if writer.set_instants(instants).is_err() || writer.write(&data).is_err() {
            return false;
        }
        if writes {
            let block = contents(seed + 1, BLOCK);
            self.now[BLOCK..2 * BLOCK].copy_from_slice(&block);
            if writer.volumes_mut().write("v", BLOCK as u64, &block).is_err() {
                return false;
            }
            let mut state = self.current.clone();
            state.0.insert("v".into(), self.now.clone());
            let done = writer.volumes_mut().flush("v").is_ok();
            if !self.tried(state, done) {
                return false;
            }
        }
        let mut state = self.current.clone();
        state.1.insert(number, (data, then));
        let done = writer.commit().is_ok();
        self.tried(state, done)
    }

    fn bring_back<D: BlockDevice>(&mut self, store: &mut Store<D>) -> bool {
        let Some((&number, (_, then))) = self.current.1.last_key_value() else { return true };
        let then = then.clone();
        let mut flushed = self.current.clone();
        flushed.0.insert("v".into(), self.now.clone());
        let mut state = flushed.clone();
        let before = format!("v-before-{number}");
        if state.0.contains_key(&before) {
            return true;
        }
        state.0.insert("v".into(), then.clone());
        match store.bring_back(&[number], Before::Kept) {
            Ok(kept) => {
                kept.iter().for_each(|(_, name)| {
                    assert_eq!(name.as_str(), before);
                    state.0.insert(before.clone(), self.now.clone());
                });
                // Late writes that the device has refused are given up.
                let last_flush = &self.current.0["v"];
                assert!(!kept.is_empty() || self.now == then || *last_flush == then);
                self.now = then;
                self.tried(state, true)
            }
            Err(_) => {
                self.possible.push(flushed);
                self.possible.push(state.clone());
                state.0.insert(before, self.now.clone());
                self.tried(state, false)
            }
        }
    }

    /// Checks that what a store holds is possible, and goes on from there.
    fn reopened<D: BlockDevice>(&mut self, store: &mut Store<D>, what: &str) {
        let found = state(store);
        let possible = self.possible.iter().position(|state| *state == found);
        assert!(possible.is_some(), "{what}: {:?} {:?}", found.0.keys(), found.1.keys());
        *self = Self::of(found);
    }
}

fn volume<D: BlockDevice>(store: &mut Store<D>, name: &str) -> Vec<u8> {
    let mut bytes = vec![0; store.volumes_mut().length(name).unwrap() as usize];
    store.volumes_mut().read(name, 0, &mut bytes).unwrap();
    bytes
}

/// Returns what a store holds. The volume of a checkpoint is read from a copy on another disk.
fn state<D: BlockDevice>(store: &mut Store<D>) -> State {
    let names: Vec<String> = store.volumes().iter().map(|one| one.name.to_string()).collect();
    let volumes = names.into_iter().map(|name| (name.clone(), volume(store, &name))).collect();
    let numbers: Vec<u64> = store.list().iter().map(|one| one.number).collect();
    let checkpoints = numbers.into_iter().map(|number| {
        assert_eq!(store.instants(number).unwrap().len(), 1);
        (number, (read(store, number), store.read_instant(number, "v").unwrap()))
    });
    (volumes, checkpoints.collect())
}

/// Reads what a checkpoint has of a volume.
trait ReadInstant {
    fn read_instant(&mut self, number: u64, name: &str) -> Option<Vec<u8>>;
}

impl<D: BlockDevice> ReadInstant for Store<D> {
    fn read_instant(&mut self, number: u64, name: &str) -> Option<Vec<u8>> {
        let mut bytes = vec![0; BLOCKS * BLOCK];
        self.volumes_mut().read_instant(number, name, 0, &mut bytes).ok()?;
        Some(bytes)
    }
}

/// Returns a store with a volume, and what it holds.
fn prepared(blocks: u32) -> (RamDisk, Model) {
    let mut store = open(formatted(blocks));
    store.create_volume("v", (BLOCKS * BLOCK) as u64, 0).unwrap();
    let mut model = Model::of(state(&mut store));
    model.run(&mut store, "wsfcwf", 1);
    (store.into_device(), model)
}

/// The scripts that are interrupted.
const SCRIPTS: [&str; 10] =
    ["wf", "wswfzf", "cwfd", "wcwb", "mwfy", "wfcbwyxf", "wtwsfxt", "lflwlzf", "lclb", "lltfm"];

/// Every outcome of every operation: the blocks and the sectors of catalogs that were not flushed
/// are kept, lost or torn. What is left goes on, and fails again.
#[test]
fn power_lost_at_any_operation_leaves_volumes_as_a_flush_did_and_checkpoints_with_theirs() {
    let (disk, before) = prepared(60);
    let mut crashes = 0;
    for script in SCRIPTS {
        for at in 0.. {
            let mut faulty = FaultyDisk::new(disk.clone());
            // Opening it takes one flush.
            faulty.power_fails_at = Some(at + 1);
            let mut model = before.clone();
            model.run(&mut open(&mut faulty), script, at as u64);
            if !faulty.power_failed() {
                break;
            }
            for (nth, survivor) in faulty.every_outcome(5).enumerate() {
                let what = format!("{script} at {at}, outcome {nth}");
                let mut model = model.clone();
                model.reopened(&mut open(survivor.clone()), &what);
                crashes += 1;
                if nth % 7 == 0 {
                    go_on(survivor, model, nth);
                }
            }
        }
    }
    assert!(crashes > 2_500, "only {crashes} crashes simulated");
}

/// Goes on with what power failure has left, until it fails once more.
fn go_on(survivor: RamDisk, mut model: Model, nth: usize) {
    let mut faulty = FaultyDisk::new(survivor);
    faulty.power_fails_at = Some(2 + nth % 23);
    let script = SCRIPTS[nth % SCRIPTS.len()];
    model.run(&mut open(&mut faulty), script, nth as u64);
    let left = faulty.some_outcome(nth as u64);
    model.reopened(&mut open(left), script);
}

/// In a store that is nearly full, blocks are given out as soon as they are free.
#[test]
fn power_lost_in_a_full_store_leaves_volumes_as_a_flush_did() {
    let (disk, before) = prepared(30);
    for script in ["wfwfwfwfwfwf", "cdwfcdwfcdwfwf", "wbxwbxwbxf"] {
        for at in 0.. {
            let mut faulty = FaultyDisk::new(disk.clone()).with_depth(at % 3);
            faulty.power_fails_at = Some(at + 1);
            let mut model = before.clone();
            model.run(&mut open(&mut faulty), script, at as u64);
            if !faulty.power_failed() {
                break;
            }
            for seed in 0..12 {
                let what = format!("{script} at {at}, seed {seed}");
                model.clone().reopened(&mut open(faulty.some_outcome(seed)), &what);
            }
        }
    }
}

/// The device fails, and the guest goes on writing, in a store in which every block that is free is
/// given out soon: what a failed commit has left on the disk is as it was written, or is no catalog
/// any more.
#[test]
fn a_device_that_fails_leaves_what_was_flushed_and_what_was_tried() {
    for blocks in [26, 60] {
        let (disk, before) = prepared(blocks);
        for script in SCRIPTS {
            for at in 0..60 {
                let mut faulty = FaultyDisk::new(disk.clone());
                faulty.fails_at = vec![at + 1];
                let mut model = before.clone();
                let mut store = open(&mut faulty);
                model.run(&mut store, script, at as u64);
                store.discard_staged();
                // As a guest that resets its disk, if not all was flushed.
                store.volumes_mut().close("v");
                for round in 0..3 {
                    let data = contents(at as u64 + round, 3 * BLOCK);
                    let _ = store.volumes_mut().write("v", round * BLOCK as u64, &data);
                    let _ = store.take_instants(&["v"]);
                    store.discard_staged();
                }
                drop(store);
                for seed in 0..6 {
                    let what = format!("{script}, failed at {at}, seed {seed}");
                    model.clone().reopened(&mut open(faulty.some_outcome(seed)), &what);
                }
            }
        }
    }
}

/// A commit has reached the disk, but its last flush says that it has failed: what it refers to is
/// not written before its catalog is destroyed, however full the store is.
#[test]
fn a_commit_that_is_said_to_have_failed_is_there_whole_or_not_at_all() {
    for rounds in 0..40 {
        let (disk, mut model) = prepared(26);
        let mut store = open(FaultyDisk::new(disk));
        for round in 0..rounds {
            model.run(&mut store, "wf", round);
        }
        model.run(&mut store, "w", rounds);
        // A node, a flush, the catalog, a flush.
        let last = store.device_mut().operations + 3;
        store.device_mut().fails_at = vec![last];
        model.run(&mut store, "f", 0);
        assert_eq!(model.possible.len(), 2, "it failed at the end");
        let refused = store.volumes_mut().write("v", 0, &[1; BLOCK]).unwrap_err();
        assert!(matches!(refused, Error::Volume(VolumeFault::WritesLost { .. })), "{refused}");
        store.volumes_mut().close("v");
        let _ = store.volumes_mut().write("v", 0, &contents(rounds, 5 * BLOCK));
        let left = store.device_mut().some_outcome(1);
        model.reopened(&mut open(left), &format!("after {rounds} rounds"));
    }
}
