//! RAM that was never written is not looked at.

mod common;

use std::cell::Cell;

use common::{File, save, state};
use stasis_state::routines::Page;
use stasis_state::written::BLOCK_SIZE;
use stasis_state::{PAGE_SIZE, Plan, Routines, Target, Written};

thread_local! {
    /// Pages that were looked at.
    static LOOKS: Cell<usize> = const { Cell::new(0) };
    /// Bytes that were cleared.
    static CLEARED: Cell<usize> = const { Cell::new(0) };
}

fn routines() -> Routines {
    fn with_content(pages: &[Page]) -> u64 {
        LOOKS.set(LOOKS.get() + pages.len());
        stasis_state::routines::with_content(pages)
    }
    fn clear(bytes: &mut [u8]) {
        CLEARED.set(CLEARED.get() + bytes.len());
        bytes.fill(0);
    }
    Routines { with_content, clear, ..Routines::default() }
}

/// Three blocks, with a byte in the middle one, and where it is.
fn ram() -> (Vec<u8>, Written) {
    let mut ram = vec![0; 3 * BLOCK_SIZE];
    ram[BLOCK_SIZE + 5 * PAGE_SIZE] = 1;
    let mut written = Written::nowhere(ram.len());
    written.mark(BLOCK_SIZE..BLOCK_SIZE + 1);
    (ram, written)
}

#[test]
fn a_checkpoint_is_the_same_and_looks_at_what_was_written() {
    let (ram, written) = ram();
    let state = state(1, ram.len());
    LOOKS.set(0);
    let plan =
        Plan::new(state.records(), &ram, Some(&written), &[], routines(), &mut || ()).unwrap();
    assert_eq!(LOOKS.get(), BLOCK_SIZE / PAGE_SIZE);
    let mut file = File::default();
    plan.write(&mut file, &mut |_, _| ()).unwrap();
    assert_eq!(file, save(&state, &ram).0);
}

#[test]
fn what_is_loaded_counts_as_written_and_the_rest_stays_untouched() {
    let (saved, _) = ram();
    let (mut file, _) = save(&state(1, saved.len()), &saved);
    let checkpoint = stasis_state::read(&mut file, routines(), &mut |_, _| ()).unwrap();
    // Another guest had the memory, and has written its last block.
    let mut ram = vec![0; saved.len()];
    ram[2 * BLOCK_SIZE..].fill(7);
    let mut written = Written::nowhere(ram.len());
    written.mark(2 * BLOCK_SIZE..3 * BLOCK_SIZE);
    CLEARED.set(0);
    let target = Target { ram: &mut ram, written: Some(&mut written), shared: vec![] };
    stasis_state::read_memory(&mut file, &checkpoint, target, routines(), &mut |_, _| ()).unwrap();
    assert!(ram == saved);
    assert_eq!(written.blocks().collect::<Vec<_>>(), [BLOCK_SIZE, 2 * BLOCK_SIZE]);
    // After the page that was loaded, its block counts as written.
    assert_eq!(CLEARED.get(), 2 * BLOCK_SIZE - 6 * PAGE_SIZE);
}
