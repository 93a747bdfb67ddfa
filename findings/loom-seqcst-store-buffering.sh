#!/bin/sh
# loom shows an execution that Rust's memory model forbids: two threads that each store one flag and then load the other's, all with
# SeqCst, both read the old value. With a SeqCst fence between store and load, loom, too, finds that one of them sees the other.
#
# Why it matters: "write mine, then look at yours" is how cores agree who must stop for whom. Under loom such a protocol fails although it is
# right; and who weakens its check until loom is content tests another protocol. Written with fences it can be checked as it is.
#
# Source: the documentation of the crate loom says of SeqCst accesses that they count as acquire and release.
#
# Needs cargo.
set -eu

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "store-buffering"
version = "0.0.0"
edition = "2021"

[dependencies]
loom = "=0.7.3"
TOML
cat > src/main.rs <<'RUST'
use loom::sync::atomic::{fence, AtomicBool, Ordering::SeqCst};
use loom::{sync::Arc, thread};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Returns in how many of loom's executions neither thread sees the other's flag.
fn executions_in_which_nobody_sees(fenced: bool) -> usize {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    COUNT.store(0, Ordering::Relaxed);
    loom::model(move || {
        let flags = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let sees = move |flags: &[AtomicBool; 2], me: usize| {
            flags[me].store(true, SeqCst);
            if fenced {
                fence(SeqCst);
            }
            flags[1 - me].load(SeqCst)
        };
        let theirs = flags.clone();
        let other = thread::spawn(move || sees(&theirs, 1));
        let first = sees(&flags, 0);
        if !other.join().unwrap() && !first {
            COUNT.fetch_add(1, Ordering::Relaxed);
        }
    });
    COUNT.load(Ordering::Relaxed)
}

fn main() {
    let bare = executions_in_which_nobody_sees(false);
    let fenced = executions_in_which_nobody_sees(true);
    println!("without a fence: {}, with one: {fenced}", if bare > 0 { "some" } else { "none" });
}
RUST
cargo run --quiet > out.log 2> cargo.log || { cat cargo.log; exit 1; }
FOUND=$(cat out.log)

echo "version:     loom 0.7.3, $(rustc --version)"
echo "expectation: SeqCst accesses have one order for all threads, so in no execution do both load the old value"
echo "behaviour:   loom explores executions in which both do; a SeqCst fence between store and load rules them out"
echo "seen:        executions in which nobody sees the other: $FOUND"
[ "$FOUND" = "without a fence: some, with one: 0" ] || { echo "changed: it was \"without a fence: some, with one: 0\""; exit 1; }
