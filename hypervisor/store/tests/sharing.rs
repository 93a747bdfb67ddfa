//! Checkpoints that share blocks: whatever is added, shared, replaced and deleted, each reads back
//! bit for bit, and what is free is what is in nobody's contents or map.

mod common;

use common::{add, contents, formatted, formatted_as, mixed, open, read};
use proptest::prelude::*;
use stasis_store::layout::BLOCK;
use stasis_store::{BlockDevice, Compression, Error, RamDisk, Store, Writer};
use std::collections::BTreeMap;
use std::ops::Range;

/// A part of a new checkpoint: whole blocks of another one, or bytes.
#[derive(Clone, Debug)]
enum Part {
    Shared(u64, Range<u64>),
    Bytes(Vec<u8>),
}

/// Writes the parts, and returns what the checkpoint reads as.
fn write<D: BlockDevice>(
    writer: &mut Writer<'_, D>,
    model: &BTreeMap<u64, Vec<u8>>,
    parts: &[Part],
) -> Vec<u8> {
    let mut expected = Vec::new();
    for part in parts {
        match part {
            Part::Shared(of, blocks) => {
                writer.share(*of, blocks.clone()).unwrap();
                let bytes = blocks.start as usize * BLOCK..blocks.end as usize * BLOCK;
                expected.extend_from_slice(&model[of][bytes]);
            }
            Part::Bytes(bytes) => {
                bytes.chunks(7000).for_each(|piece| writer.write(piece).unwrap());
                expected.extend_from_slice(bytes);
            }
        }
    }
    assert_eq!(writer.written(), expected.len() as u64);
    expected
}

/// Adds a checkpoint of these parts.
fn add_parts<D: BlockDevice>(
    store: &mut Store<D>,
    model: &mut BTreeMap<u64, Vec<u8>>,
    parts: &[Part],
) -> u64 {
    let mut writer = store.begin_open("it", 0).unwrap();
    let expected = write(&mut writer, model, parts);
    let number = writer.commit().unwrap().number;
    model.insert(number, expected);
    number
}

fn check<D: BlockDevice>(store: &mut Store<D>, model: &BTreeMap<u64, Vec<u8>>) {
    let numbers: Vec<u64> = store.list().iter().map(|one| one.number).collect();
    assert_eq!(numbers, model.keys().copied().collect::<Vec<_>>());
    for (number, expected) in model {
        assert!(read(store, *number) == *expected, "checkpoint {number}");
    }
}

#[test]
fn a_later_checkpoint_costs_what_changed_and_survives_the_one_before() {
    let mut store = open(formatted(400));
    let mut model = BTreeMap::new();
    let first = contents(1, 300 * BLOCK);
    let one = add_parts(&mut store, &mut model, &[Part::Bytes(first)]);
    let before = store.usage().free;
    let changed = contents(2, 3 * BLOCK);
    let parts = [Part::Shared(one, 0..100), Part::Bytes(changed), Part::Shared(one, 103..300)];
    let two = add_parts(&mut store, &mut model, &parts);
    assert_eq!(before - store.usage().free, 4 * BLOCK as u64, "three blocks, and a map");
    check(&mut store, &model);
    store.delete(one).unwrap();
    model.remove(&one);
    let mut store = open(store.into_device());
    check(&mut store, &model);
    assert_eq!(
        store.usage().free,
        (400 - 301) * BLOCK as u64,
        "the three blocks, and a map, are free"
    );
    // What is free is written, and what is shared is not.
    add_parts(&mut store, &mut model, &[Part::Bytes(contents(3, 98 * BLOCK))]);
    assert_eq!(store.usage().free, 0);
    check(&mut store, &model);
    store.delete(two).unwrap();
}

#[test]
fn what_can_not_be_shared_is_refused_and_the_rest_can_be_committed() {
    let mut store = open(formatted(40));
    let one = add(&mut store, "it", &contents(1, 2 * BLOCK + 1)).unwrap();
    let mut writer = store.begin_open("two", 0).unwrap();
    for (of, blocks) in [(one, 0..3), (one, Range { start: 2, end: 1 }), (one, 0..u64::MAX)] {
        let error = writer.share(of, blocks).unwrap_err();
        assert!(matches!(error, Error::BadShare { number: 1, blocks: 2, .. }), "{error}");
    }
    assert!(matches!(writer.share(9, 0..1), Err(Error::NoSuchCheckpoint { .. })));
    writer.write(&[1]).unwrap();
    let error = writer.share(one, 0..1).unwrap_err().to_string();
    assert_eq!(
        error,
        "blocks 0..1 of checkpoint 1 can't be shared: it has 2 whole ones, and 1 bytes are before them"
    );
    let two = writer.commit().unwrap().number;
    assert_eq!(read(&mut store, two), [1]);

    let mut store = open(formatted_as(40, 2));
    let one = add(&mut store, "it", &contents(1, 2 * BLOCK)).unwrap();
    let mut writer = store.begin_open("two", 0).unwrap();
    let error = writer.share(one, 0..1).unwrap_err().to_string();
    assert_eq!(
        error,
        "a store of version 2 can't share blocks between checkpoints: `store upgrade` makes it one of version 3"
    );
}

#[test]
fn a_header_is_written_last() {
    for version in [2, 3, 5] {
        // In what is gathered, in what is partly gathered, and on the disk.
        for len in [10, 3 * BLOCK, 40 * BLOCK, 100 * BLOCK + 5] {
            let mut store = open(formatted_as(200, version));
            if version == 5 {
                store.set_compression(Compression::Lz4).unwrap();
            }
            let mut writer = store.begin_open("it", 0).unwrap();
            let mut expected = contents(4, len);
            writer.write(&expected).unwrap();
            writer.rewrite(2, &[7; 8]).unwrap();
            expected[2..10].fill(7);
            let beyond = writer.rewrite(len as u64 - 1, &[0; 2]).unwrap_err();
            assert!(matches!(beyond, Error::BadRewrite { .. }), "{beyond}");
            let number = writer.commit().unwrap().number;
            assert!(read(&mut store, number) == expected, "{len} bytes, version {version}");
        }
    }
}

#[test]
fn a_header_that_is_another_checkpoints_is_not_written() {
    let mut store = open(formatted(100));
    let mut model = BTreeMap::new();
    let one = add_parts(&mut store, &mut model, &[Part::Bytes(contents(1, 50 * BLOCK))]);
    let mut writer = store.begin_open("two", 0).unwrap();
    writer.share(one, 0..2).unwrap();
    writer.write(&[1; 2 * BLOCK]).unwrap();
    assert!(matches!(writer.rewrite(0, &[9]), Err(Error::BadRewrite { possible: 0, .. })));
    drop(writer);
    let mut writer = store.begin_open("two", 0).unwrap();
    writer.write(&[1; 2 * BLOCK]).unwrap();
    writer.share(one, 0..2).unwrap();
    writer.write(&[2; BLOCK]).unwrap();
    writer.rewrite(BLOCK as u64, &[3; BLOCK]).unwrap();
    assert!(writer.rewrite(2 * BLOCK as u64, &[9]).is_err());
    let two = writer.commit().unwrap().number;
    let first = &model[&one][..2 * BLOCK];
    let expected = [&[1; BLOCK][..], &[3; BLOCK], first, &[2; BLOCK]].concat();
    model.insert(two, expected);
    check(&mut store, &model);
}

#[test]
fn a_full_disk_in_the_midst_loses_nothing_and_older_space_is_found() {
    let mut store = open(formatted(100));
    let mut model = BTreeMap::new();
    let one = add_parts(&mut store, &mut model, &[Part::Bytes(contents(1, 40 * BLOCK))]);
    let two = add_parts(&mut store, &mut model, &[Part::Bytes(contents(2, 40 * BLOCK))]);
    let mut writer = store.begin_open("three", 0).unwrap();
    let error = writer.write(&contents(3, 40 * BLOCK)).unwrap_err();
    assert!(matches!(error, Error::NoRoom { .. }), "{error}");
    assert_eq!(writer.commit().unwrap_err(), Error::WriterFailed);
    check(&mut store, &model);
    // Deleted now, in the older catalog still: found in the midst of the next one.
    store.delete(one).unwrap();
    model.remove(&one);
    let parts = [Part::Shared(two, 0..40), Part::Bytes(contents(4, 58 * BLOCK))];
    add_parts(&mut store, &mut model, &parts);
    check(&mut store, &model);
    assert_eq!(store.usage().free, 0);
}

#[test]
fn what_is_staged_is_not_given_out_while_room_is_looked_for() {
    let mut store = open(formatted(100));
    let one = add(&mut store, "one", &contents(1, 40 * BLOCK)).unwrap();
    let two = add(&mut store, "two", &contents(2, 40 * BLOCK)).unwrap();
    store.delete(one).unwrap();
    let mut writer = store.begin_open("set/a", 0).unwrap();
    writer.write(&contents(3, 15 * BLOCK)).unwrap();
    writer.stage().unwrap();
    let mut writer = store.begin_open("set/b", 0).unwrap();
    writer.write(&contents(4, 41 * BLOCK)).unwrap();
    let last = writer.commit().unwrap().number;
    for (number, seed, blocks) in [(two, 2, 40), (last - 1, 3, 15), (last, 4, 41)] {
        assert!(read(&mut store, number) == contents(seed, blocks * BLOCK), "checkpoint {number}");
    }
}

/// Writes a checkpoint in which every second block stands elsewhere, so that its map has several
/// leaves.
fn scattered(store: &mut Store<RamDisk>, model: &mut BTreeMap<u64, Vec<u8>>, blocks: u64) -> u64 {
    let one = add_parts(store, model, &[Part::Bytes(contents(1, blocks as usize * BLOCK))]);
    let parts: Vec<Part> = (0..blocks)
        .map(|at| match at % 2 {
            0 => Part::Shared(one, at..at + 1),
            _ => Part::Bytes(vec![at as u8; BLOCK]),
        })
        .collect();
    add_parts(store, model, &parts)
}

#[test]
fn a_map_of_many_runs_shares_its_leaves() {
    let mut store = open(formatted(8_000));
    let mut model = BTreeMap::new();
    let two = scattered(&mut store, &mut model, 3_000);
    let before = store.usage().free;
    // A page more in front, and one changed in the midst: everything behind is at another place of
    // the file.
    let parts = [
        Part::Bytes(vec![1; 2 * BLOCK]),
        Part::Shared(two, 1..1_500),
        Part::Bytes(vec![2; BLOCK]),
        Part::Shared(two, 1_501..3_000),
    ];
    let three = add_parts(&mut store, &mut model, &parts);
    let used = (before - store.usage().free) / BLOCK as u64;
    assert_eq!(used, 3 + 3, "three blocks of contents, the two leaves that were cut, and the root");
    check(&mut store, &model);
    store.delete(two).unwrap();
    model.remove(&two);
    let mut store = open(store.into_device());
    check(&mut store, &model);
    let mut reader = store.open_checkpoint(three).unwrap();
    let expected = &model[&three];
    let places = [0, 2_999, 1_500, 7, 1_501, 2_000];
    for at in places {
        let mut block = [0; BLOCK];
        reader.read_at(at * BLOCK as u64, &mut block).unwrap();
        assert!(block == expected[at as usize * BLOCK..][..BLOCK], "block {at}");
    }
    let mut writer = store.begin_open("four", 0).unwrap();
    for (at, len) in places.into_iter().zip([0, 1, 511, 9_000, 513, 70_000]) {
        let offset = at as usize * BLOCK + 300;
        let mut found: Vec<u8> = Vec::new();
        writer.write(&[1; 9_000]).unwrap();
        writer.read_of(three, offset as u64, len, &mut |piece| found.extend(piece)).unwrap();
        assert!(found == expected[offset..][..len], "{len} bytes at {offset}");
    }
    let beyond = writer.read_of(three, expected.len() as u64 - 1, 2, &mut |_| ()).unwrap_err();
    assert!(matches!(beyond, Error::ReadBeyondEnd { .. }));
    writer.commit().unwrap();
    store.check_map(three).unwrap();
}

/// What a random history does next.
#[derive(Clone, Debug)]
enum Step {
    /// A checkpoint after the `of`th: for each part, whether it is shared, how far behind the last
    /// shared block it begins, and how many blocks it has.
    Later {
        of: usize,
        parts: Vec<(bool, u64, u64)>,
        tail: usize,
        replaces: Option<usize>,
    },
    /// Two at once, each after another.
    Set {
        of: [usize; 2],
    },
    /// One that is written and given up.
    Dropped {
        of: usize,
        blocks: usize,
    },
    Delete {
        nth: usize,
    },
    Reopen,
    /// Begins or ends to compress, in a history of a store that does.
    Compress(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let parts = prop::collection::vec((any::<bool>(), 0u64..9, 1u64..30), 0..12);
    prop_oneof![
        6 => (0usize..9, parts, 0usize..9_000, prop::option::of(0usize..9))
            .prop_map(|(of, parts, tail, replaces)| Step::Later { of, parts, tail, replaces }),
        1 => [0usize..9, 0usize..9].prop_map(|of| Step::Set { of }),
        1 => (0usize..9, 0usize..60).prop_map(|(of, blocks)| Step::Dropped { of, blocks }),
        3 => (0usize..9).prop_map(|nth| Step::Delete { nth }),
        1 => Just(Step::Reopen),
        1 => any::<bool>().prop_map(Step::Compress),
    ]
}

/// A store of a small disk, what it must hold, and which blocks each checkpoint shares.
struct History {
    store: Store<RamDisk>,
    model: BTreeMap<u64, Vec<u8>>,
    /// For each block of each checkpoint what is in it: a number that only blocks which are shared
    /// have in common.
    blocks: BTreeMap<u64, Vec<u64>>,
    next_block: u64,
    compresses: bool,
}

impl History {
    fn new(compresses: bool) -> Self {
        let mut store = open(formatted(if compresses { 200 } else { 400 }));
        if compresses {
            store.set_compression(Compression::Lz4).unwrap();
        }
        let (model, blocks) = (BTreeMap::new(), BTreeMap::new());
        Self { store, model, blocks, next_block: 0, compresses }
    }

    fn nth(&self, nth: usize) -> Option<u64> {
        self.model.keys().nth(nth % self.model.len().max(1)).copied()
    }

    fn new_blocks(&mut self, count: u64) -> impl Iterator<Item = u64> + use<> {
        let from = self.next_block;
        self.next_block += count;
        from..self.next_block
    }

    /// Makes the parts of a checkpoint after `of`, and the numbers of its blocks.
    fn parts(
        &mut self,
        of: Option<u64>,
        shape: &[(bool, u64, u64)],
        tail: usize,
    ) -> (Vec<Part>, Vec<u64>) {
        let (mut parts, mut numbers, mut at) = (Vec::new(), Vec::new(), 0);
        let contents = if self.compresses { mixed } else { contents };
        let whole = of.map_or(0, |of| (self.model[&of].len() / BLOCK) as u64);
        for &(shared, skipped, count) in shape {
            at += skipped;
            if let (true, Some(of), true) = (shared, of, at < whole) {
                let range = at..whole.min(at + count);
                numbers.extend(&self.blocks[&of][range.start as usize..range.end as usize]);
                at = range.end;
                parts.push(Part::Shared(of, range));
            } else {
                parts.push(Part::Bytes(contents(self.next_block, count as usize * BLOCK)));
                numbers.extend(self.new_blocks(count));
            }
        }
        parts.push(Part::Bytes(contents(self.next_block, tail)));
        numbers.extend(self.new_blocks(tail.div_ceil(BLOCK) as u64));
        (parts, numbers)
    }

    /// Writes these parts, if there is room; `None` else.
    fn write(
        writer: &mut Writer<'_, RamDisk>,
        model: &BTreeMap<u64, Vec<u8>>,
        parts: &[Part],
    ) -> Option<Vec<u8>> {
        let mut expected = Vec::new();
        for part in parts {
            let written = match part {
                Part::Shared(of, blocks) => {
                    let bytes = blocks.start as usize * BLOCK..blocks.end as usize * BLOCK;
                    expected.extend_from_slice(&model[of][bytes]);
                    writer.share(*of, blocks.clone())
                }
                Part::Bytes(bytes) => {
                    expected.extend_from_slice(bytes);
                    bytes.chunks(9000).try_for_each(|piece| writer.write(piece))
                }
            };
            match written {
                Ok(()) => {}
                Err(Error::NoRoom { .. }) => return None,
                Err(error) => panic!("{error}"),
            }
        }
        Some(expected)
    }

    fn committed(&mut self, number: u64, bytes: Vec<u8>, blocks: Vec<u64>) {
        self.model.insert(number, bytes);
        self.blocks.insert(number, blocks);
    }

    fn forget(&mut self, number: u64) {
        self.model.remove(&number);
        self.blocks.remove(&number);
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Later { of, parts, tail, replaces } => {
                let of = self.nth(of);
                let (parts, numbers) = self.parts(of, &parts, tail);
                let replaced = replaces.and_then(|nth| self.nth(nth));
                self.store.replace(replaced.as_slice()).unwrap();
                let mut writer = self.store.begin_open("it", 0).unwrap();
                let bytes = Self::write(&mut writer, &self.model, &parts);
                let number = match bytes.is_some().then(|| writer.commit()) {
                    Some(Ok(committed)) => committed.number,
                    None | Some(Err(Error::NoRoom { .. })) => return self.store.discard_staged(),
                    Some(Err(error)) => panic!("{error}"),
                };
                replaced.into_iter().for_each(|number| self.forget(number));
                self.committed(number, bytes.unwrap(), numbers);
            }
            Step::Set { of } => self.run_set(of),
            Step::Dropped { of, blocks } => {
                let of = self.nth(of);
                let mut writer = self.store.begin_open("it", 0).unwrap();
                if let Some(of) = of {
                    writer.share(of, 0..(self.model[&of].len() / BLOCK) as u64).unwrap();
                }
                let _ = writer.write(&vec![0xee; blocks * BLOCK]);
            }
            Step::Delete { nth } => {
                if let Some(number) = self.nth(nth) {
                    self.store.delete(number).unwrap();
                    self.forget(number);
                }
            }
            Step::Compress(on) => {
                let compression = if on { Compression::Lz4 } else { Compression::None };
                if self.compresses {
                    self.store.set_compression(compression).unwrap();
                }
            }
            Step::Reopen => {
                let disk = std::mem::replace(&mut self.store, open(formatted(1))).into_device();
                self.store = open(disk);
            }
        }
    }

    fn run_set(&mut self, of: [usize; 2]) {
        let mut staged = Vec::new();
        let first = self.store.next_number();
        for (index, of) in of.into_iter().enumerate() {
            let of = self.nth(of);
            let (parts, numbers) = self.parts(of, &[(false, 0, 2), (true, 1, 20)], 100);
            let mut writer = self.store.begin_open(&format!("set/{index}"), 0).unwrap();
            let written = Self::write(&mut writer, &self.model, &parts);
            let done = written.is_some().then(|| match index {
                0 => writer.stage(),
                _ => writer.commit().map(drop),
            });
            let (Some(Ok(())), Some(bytes)) = (done, written) else {
                return self.store.discard_staged();
            };
            staged.push((first + index as u64, bytes, numbers));
        }
        staged
            .into_iter()
            .for_each(|(number, bytes, blocks)| self.committed(number, bytes, blocks));
    }

    fn check(&mut self) {
        check(&mut self.store, &self.model);
        if !self.compresses {
            self.check_free();
        }
    }

    fn check_free(&mut self) {
        let distinct: std::collections::BTreeSet<u64> =
            self.blocks.values().flatten().copied().collect();
        let usage = self.store.usage();
        let used = (usage.capacity - usage.free) / BLOCK as u64;
        // Maps of so few runs are one block each, and none if there are no contents. A map that is
        // the same as another's is not shared where it is small.
        let maps = self.model.values().filter(|bytes| !bytes.is_empty()).count();
        assert_eq!(used, (distinct.len() + maps) as u64);
        let freed = self.store.freed_by_each();
        for (number, freed) in self.model.keys().zip(freed) {
            let others = self.blocks.iter().filter(|(other, _)| *other != number);
            let others: std::collections::BTreeSet<_> =
                others.flat_map(|(_, blocks)| blocks).collect();
            let own = self.blocks[number].iter().filter(|one| !others.contains(one)).count();
            let map = usize::from(!self.model[number].is_empty());
            assert_eq!(freed, ((own + map) * BLOCK) as u64, "checkpoint {number}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 8))]

    #[test]
    fn any_history_reads_back_and_leaves_free_what_is_nobodys(steps in prop::collection::vec(step(), 1..40)) {
        let mut history = History::new(false);
        for step in steps {
            history.run(step);
            history.check();
        }
    }

    /// Of a store that compresses, nobody foretells what a checkpoint takes: it is nothing when all
    /// are gone, and what each would free is no more than what all take.
    #[test]
    fn any_history_of_a_store_that_compresses_reads_back(steps in prop::collection::vec(step(), 1..16)) {
        let mut history = History::new(true);
        for step in steps {
            history.run(step);
            history.check();
        }
        let usage = history.store.usage();
        let freed: u64 = history.store.freed_by_each().iter().sum();
        prop_assert!(freed <= usage.capacity - usage.free);
        while history.nth(0).is_some() {
            history.run(Step::Delete { nth: 0 });
        }
        let usage = history.store.usage();
        prop_assert_eq!(usage.free, usage.capacity);
    }
}
