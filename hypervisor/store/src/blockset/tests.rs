use super::*;
use alloc::collections::BTreeSet;
use proptest::prelude::*;

const fn extent(first: u32, blocks: u32) -> Extent {
    Extent { first, blocks }
}

#[test]
fn a_part_that_is_full_takes_no_page() {
    let mut set = BlockSet::new(10..3 * PAGE_BLOCKS + 5);
    assert_eq!(set.insert(extent(0, 20)), 10, "blocks before the range are no part of it");
    assert_eq!(set.insert(extent(20, PAGE_BLOCKS - 21)), u64::from(PAGE_BLOCKS) - 21);
    assert_eq!(set.gap(0, u32::MAX, 1, 5), Some(extent(PAGE_BLOCKS - 1, 5)));
    set.insert(extent(PAGE_BLOCKS - 1, 1));
    set.insert(extent(PAGE_BLOCKS, 2 * PAGE_BLOCKS));
    assert_eq!((set.pages.len(), set.spare.len(), set.free()), (1, 1, 5));
    set.insert(extent(3 * PAGE_BLOCKS, 4));
    set.remove(extent(7, 2 * PAGE_BLOCKS));
    assert_eq!(set.free(), 2 * u64::from(PAGE_BLOCKS) - 3 + 1);
    assert_eq!(set.gap(0, u32::MAX, 1, u32::MAX), Some(extent(10, 2 * PAGE_BLOCKS - 3)));
}

#[test]
fn beyond_the_bound_of_memory_blocks_count_as_taken() {
    let parts = MAX_PAGES as u32 + 3;
    let mut set = BlockSet::new(0..parts * PAGE_BLOCKS);
    for part in 0..parts {
        set.insert(extent(part * PAGE_BLOCKS + 7, 1));
    }
    assert_eq!(set.free(), MAX_PAGES as u64 * u64::from(PAGE_BLOCKS - 1));
    assert_eq!(set.free_from((parts - 1) * PAGE_BLOCKS, 1), None);
    set.remove(extent((parts - 1) * PAGE_BLOCKS, 1));
    assert_eq!(set.free_from((parts - 1) * PAGE_BLOCKS, 1), None, "there is no page to say it in");
    assert_eq!(set.gap(MAX_PAGES as u32 * PAGE_BLOCKS, u32::MAX, 1, 1), None);
}

proptest! {
    #[test]
    fn a_set_agrees_with_a_list_of_its_blocks(
        changes in prop::collection::vec((any::<bool>(), 0u32..2_500, 1u32..700), 1..40),
        queries in prop::collection::vec((0u32..2_600, 1u32..300, 1u32..300), 1..20),
    ) {
        // Around the end of a part.
        let base = PAGE_BLOCKS - 1_000;
        let range = base + 100..base + 2_100;
        let mut set = BlockSet::new(range.clone());
        let mut model = BTreeSet::new();
        for (insert, first, blocks) in changes {
            let blocks = extent(base + first, blocks);
            let all = (blocks.first..blocks.first + blocks.blocks).filter(|one| range.contains(one));
            if insert {
                let new = all.filter(|one| model.insert(*one)).count();
                prop_assert_eq!(set.insert(blocks), new as u64);
            } else {
                for one in all {
                    model.remove(&one);
                }
                set.remove(blocks);
            }
            prop_assert_eq!(set.free(), (range.len() - model.len()) as u64);
        }
        for block in base..base + 2_200 {
            let taken = !range.contains(&block) || model.contains(&block);
            prop_assert_eq!(set.free_from(block, 1).is_none(), taken, "block {}", block);
        }
        for (from, least, most) in queries {
            let (from, most) = (base + from, most.max(least));
            let is_free = |one: u32| range.contains(&one) && !model.contains(&one);
            let starts = (from..range.end).filter(|one| is_free(*one));
            let mut starts = starts.filter(|one| *one == from.max(range.start) || !is_free(one - 1));
            let length = |first: u32| (first..).take_while(|one| is_free(*one)).take(most as usize).count() as u32;
            let expected = starts.find(|first| length(*first) >= least);
            let expected = expected.map(|first| extent(first, length(first)));
            prop_assert_eq!(set.gap(from, u32::MAX, least, most), expected);
        }
    }
}
