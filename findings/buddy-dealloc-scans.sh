#!/bin/sh
# A free in buddy_system_allocator takes as long as there are free blocks of that size: the buddy is looked for in a list, from its first block to its last.
#
# Why it matters: a buddy allocator is taken for its bound, the logarithm of the memory's size, and this crate is made for kernels, which free with interrupts
# masked. After a phase that leaves every other block free, each free that finds no buddy walks over all of them.
#
# Source: D. E. Knuth, The Art of Computer Programming, volume 1, section 2.5: the buddy's address is computed, and a tag in the buddy itself says whether it is free.
#
# Needs cargo.
set -eu

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "dealloc"
version = "0.0.0"
edition = "2021"

[dependencies]
buddy_system_allocator = { version = "=0.13.0", default-features = false }
TOML
cat > src/main.rs <<'RUST'
use buddy_system_allocator::Heap;
use std::alloc::Layout;
use std::time::{Duration, Instant};

const BLOCK: Layout = unsafe { Layout::from_size_align_unchecked(64, 64) };

/// Returns the shortest of 64 frees of a block whose buddy is in use, while `free` other blocks of its size are free.
fn one_free(free: usize) -> Duration {
    let arena = vec![0_u64; (2 * free + 256) * BLOCK.size() / 8 + 4096];
    let start = arena.as_ptr().addr().next_multiple_of(16384);
    let mut heap = Heap::<32>::empty();
    unsafe { heap.init(start, (2 * free + 256) * BLOCK.size()) };
    let mut blocks: Vec<_> = std::iter::repeat_with(|| heap.alloc(BLOCK)).map_while(Result::ok).collect();
    blocks.sort();
    // Every other one is free, so none of them finds its buddy.
    let mut others = blocks.into_iter().step_by(2);
    others.by_ref().take(free).for_each(|block| unsafe { heap.dealloc(block, BLOCK) });
    let time = |block| {
        let start = Instant::now();
        unsafe { heap.dealloc(block, BLOCK) };
        start.elapsed()
    };
    others.take(64).map(time).min().unwrap()
}

fn main() {
    let (few, many) = (one_free(64), one_free(65536));
    eprintln!("{} ns among 64 free blocks, {} ns among 65536", few.as_nanos(), many.as_nanos());
    println!("{}", if many > 20 * few { "more than 20 times" } else { "much alike" });
}
RUST
cargo build --quiet --release 2> cargo.log || { cat cargo.log; exit 1; }
FOUND=$(target/release/dealloc 2> times.log)

echo "version:     buddy_system_allocator 0.13.0"
echo "expectation: a free takes about as long among 65536 free blocks as among 64"
echo "behaviour:   it looks at each of them"
echo "seen:        $FOUND: $(cat times.log)"
[ "$FOUND" = "more than 20 times" ] || { echo "changed: it was more than 20 times"; exit 1; }
