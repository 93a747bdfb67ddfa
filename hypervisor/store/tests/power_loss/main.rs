//! Power fails, or the device does: every committed checkpoint is still there, byte for byte, and
//! the one under way is whole or absent.
//!
//! `model` is what a store must hold. Here power fails at each operation of a long script; in
//! `slots` at each write of the catalog, three times in a row; in `sharing` with every outcome of
//! what is shared; in `versions` on the way from one version to the next; in `random` anywhere.

#[path = "../common/mod.rs"]
mod common;
mod model;
mod random;
mod sharing;
mod slots;
mod versions;

use common::{FaultyDisk, add, contents, formatted, formatted_as, mixed, open, read};
use model::{Model, state};
use stasis_store::layout::VERSION_OF_UNITS;
use stasis_store::{BlockDevice, Compression, Error, Partition, Store};

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
