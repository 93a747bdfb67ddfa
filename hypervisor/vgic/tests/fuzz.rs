//! What the fuzz target of the distributor runs, with bounded random bytes.

use proptest::collection::vec;
use proptest::prelude::*;

#[path = "../../../tests/fuzz/src/distributor.rs"]
mod distributor;

/// More than these with PROPTEST_CASES.
fn config() -> ProptestConfig {
    let set = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: set.unwrap_or(256), failure_persistence: None, ..Default::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_bytes_are_accesses_that_harm_nothing(bytes in vec(any::<u8>(), 0..2000)) {
        distributor::run(&bytes);
    }
}
