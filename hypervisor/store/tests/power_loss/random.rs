//! Any sequence of operations, faults and losses of power.

use crate::common::{FaultyDisk, contents, formatted, open};
use crate::model::{Model, state};
use proptest::prelude::*;
use stasis_store::{Partition, RamDisk, Store};

#[derive(Clone, Debug)]
enum Op {
    Add { reserved: usize, len: usize },
    Later { of: usize, len: usize, replaced: Option<usize> },
    Begin { reserved: usize },
    Delete { nth: usize },
    Reopen,
    PowerLoss { seed: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0usize..150_000, 0usize..150_000)
            .prop_map(|(reserved, len)| Op::Add { reserved, len }),
        4 => (0usize..8, 0usize..30_000, prop::option::of(0usize..8))
            .prop_map(|(of, len, replaced)| Op::Later { of, len, replaced }),
        1 => (0usize..150_000).prop_map(|reserved| Op::Begin { reserved }),
        4 => (0usize..8).prop_map(|nth| Op::Delete { nth }),
        1 => Just(Op::Reopen),
        2 => (0u64..1000).prop_map(|seed| Op::PowerLoss { seed }),
    ]
}

proptest! {
    // A case takes long; PROPTEST_CASES raises their number.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    #[test]
    fn any_sequence_of_operations_faults_and_power_losses_agrees_with_the_model(
        ops in prop::collection::vec(op(), 1..30),
        fails_at in prop::collection::vec(0usize..120, 0..12),
        seed in 0u64..1000,
        depth in 0usize..5,
    ) {
        let mut disk = FaultyDisk::new(formatted(60)).with_depth(depth);
        disk.fails_at = fails_at.iter().map(|at| at + 1).collect();
        let mut model = Model::new();
        let mut store = open(disk);
        for op in ops {
            match op {
                Op::Add { reserved, len } => model.add(&mut store, reserved, len),
                Op::Later { of, len, replaced } => {
                    model.add_later(&mut store, of, len, replaced);
                }
                Op::Begin { reserved } => {
                    if let Ok(mut writer) = store.begin("dropped", reserved as u64, 0) {
                        let _ = writer.write(&contents(seed, reserved));
                    }
                }
                Op::Delete { nth } => model.delete(&mut store, nth),
                Op::Reopen => {
                    let mut disk = store.into_device();
                    let partition = Partition::whole(&disk);
                    // Faults pass: each hits one operation.
                    while Store::open(&mut disk, partition).is_err() {}
                    disk.fails_at.retain(|at| *at != disk.operations);
                    store = open(disk);
                    model.reopened(&mut store);
                }
                Op::PowerLoss { seed } => {
                    let outcome: RamDisk = store.into_device().some_outcome(seed);
                    let mut disk = FaultyDisk::new(outcome).with_depth(depth);
                    // Opening it, which takes one flush, goes well.
                    disk.fails_at = fails_at.iter().map(|at| at + 1).collect();
                    store = open(disk);
                    model.reopened(&mut store);
                }
            }
            prop_assert_eq!(&state(&mut store), &model.current);
        }
        let mut store = open(store.into_device().some_outcome(seed));
        model.reopened(&mut store);
    }
}
