//! Tables of blocks that were placed at random, beside a list of what each block is.

use super::*;
use alloc::vec;
use proptest::prelude::*;

/// A block: where it stands, and whether it is fresh.
type Block = (Option<u32>, bool);

fn lengths_of(blocks: &[Block], nth: usize, most: usize) -> (u32, u32) {
    let (first, fresh) = blocks[nth];
    let rest = &blocks[nth..nth + most];
    let goes_on =
        |(skipped, block): &(u32, &Block)| **block == (first.map(|first| first + *skipped), fresh);
    let run = (0..).zip(rest).take_while(goes_on).count();
    let stale = rest.iter().take_while(|(_, fresh)| !fresh).count();
    (run as u32, stale as u32)
}

proptest! {
    #[test]
    fn runs_are_as_long_as_a_look_at_each_block_says(
        changes in proptest::collection::vec((0..3u8, 0..LEAF_BLOCKS, 1..200u32, 1..5000u32), 0..12),
        nth in 0..LEAF_BLOCKS,
        most in 1..LEAF_BLOCKS,
    ) {
        let mut table = Table::EMPTY;
        let mut blocks: Vec<Block> = vec![(None, false); BLOCKS];
        for (kind, nth, count, first) in changes {
            let count = count.min(LEAF_BLOCKS - nth);
            match kind {
                0 => {
                    table.place(nth, Extent { first, blocks: count });
                    for skipped in 0..count {
                        blocks[(nth + skipped) as usize] = (Some(first + skipped), true);
                    }
                }
                1 => {
                    (nth..nth + count).for_each(|nth| table.clear(nth));
                    blocks[nth as usize..(nth + count) as usize].fill((None, false));
                }
                _ => {
                    table.seal();
                    blocks.iter_mut().for_each(|block| block.1 = false);
                }
            }
        }
        let most = most.min(LEAF_BLOCKS - nth);
        let found = (table.run_length(nth, most), table.stale_length(nth, most));
        prop_assert_eq!(found, lengths_of(&blocks, nth as usize, most as usize));
        for (nth, (place, fresh)) in (0..).zip(&blocks) {
            prop_assert_eq!((table.get(nth), table.is_fresh(nth)), (*place, *fresh));
        }
    }
}
