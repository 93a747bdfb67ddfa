//! Each protocol under loom, which tries all orders in which cores may do their parts, and all
//! values that they may then read.
//!
//! An interrupt that nobody sends, or a wake-up that is lost, leaves a core waiting for ever: loom
//! says "deadlock". What two cores do at a time that must be one after the other is an access to a
//! cell of loom's, which says "concurrent". Schedulers are the real one.

mod absent;
mod agenda;
mod clones;
mod copies;
mod gate;
mod hold;
pub mod locks;
mod machine;
mod news;
mod sgis;

use loom::model::Builder;

/// The number of times in one order that a core may be interrupted between two steps that it could
/// have done in one go. All known faults of such protocols show with two; each more multiplies the
/// time.
const PREEMPTIONS: usize = 3;

/// Checks a model in all orders with no more than [`PREEMPTIONS`].
fn check(model: impl Fn() + Sync + Send + 'static) {
    check_within(PREEMPTIONS, model);
}

/// Checks a model in all orders with at most `preemptions` preemptions.
fn check_within(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    // Whoever spins passes one at each round.
    builder.max_branches = 10_000;
    builder.check(model);
}
