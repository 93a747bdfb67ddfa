//! What the fuzz target of the block maps runs, with bounded random bytes.

#[path = "../../../tests/fuzz/src/maps.rs"]
mod maps;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn maps_of_any_bytes_end_and_hurt_nobody(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        maps::run(&data);
    }
}
