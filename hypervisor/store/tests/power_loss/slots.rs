//! Power fails while the catalog's slots are written, three times in a row: no two interrupted
//! writes add up to a catalog that nobody wrote.

use crate::common::{Fate, FaultyDisk, Random, formatted, open};
use crate::model::Model;
use stasis_store::layout::FIRST_DATA_BLOCK;
use stasis_store::{BlockDevice, RamDisk, Store};
use std::collections::BTreeSet;

/// The byte at which a superblock's checksum ends and its version begins.
const SUPERBLOCK_CRC_END: usize = 12;

/// Returns what becomes of the writes to superblock and catalog that were not flushed: for each a
/// digit, kept, lost or torn. What is beyond the catalog is kept.
pub fn outcome(disk: &FaultyDisk, mut digits: usize) -> RamDisk {
    disk.after_power_loss_at(|at| {
        if at >= FIRST_DATA_BLOCK as usize * 4096 {
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
                    let pending = faulty.unflushed_below(FIRST_DATA_BLOCK);
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
