//! What the fuzz target of the channel runs, with bounded random bytes.

#[path = "../../../tests/fuzz/src/channel.rs"]
mod channel;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_line_of_any_bytes_keeps_to_the_rules(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        channel::run(&data);
    }
}
