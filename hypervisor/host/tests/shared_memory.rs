//! What a configuration may say of shared memory, and what the format can store, are the same.

use stasis_devices::equipment::Equipment;
use stasis_guest::clock::Pace;
use stasis_guest::shared::{self, SharedRegion};
use stasis_guest::{Guest, Start, psci};
use stasis_host::config::{self, Configuration, GuestConfig};
use stasis_memory::range::Range;
use stasis_state::vcpu::Identity;

const SIZES: [u64; 3] = [4096, (128 << 20) - 4096, 128 << 20];

/// Returns whether the records of a guest that has this memory can be written.
fn can_be_stored(configuration: &Configuration) -> bool {
    let mut identity = Identity::default();
    *identity.mpidr_el1 = psci::mpidr(0);
    let ram = Range::new(0x4000_0000, 2 << 20);
    let pace = Pace::of_machine(1_000_000);
    let start = Start { entry: 0x4008_0000, x0: 0x4000_0000 };
    let (mut guest, mut vcpus) = Guest::new("g", ram, &[identity], start, pace, 0).unwrap();
    let shared = &shared::connections(&configuration.shared, "g")[..];
    guest.equip(&Equipment { shared, ..Equipment::default() });
    stasis_state::invariants::check(&guest.records(vcpus.iter_mut(), 0, 0)).is_ok()
}

#[test]
fn whatever_memory_a_configuration_may_share_can_be_stored() {
    let mut accepted = 0;
    for count in 1..=4 {
        for choice in 0..SIZES.len().pow(count) {
            let region = |n: u32| SharedRegion {
                name: format!("r{n}"),
                size: SIZES[choice / SIZES.len().pow(n) % SIZES.len()],
                guests: ["g", "other"].map(String::from).to_vec(),
            };
            let configuration = Configuration {
                guests: ["g", "other"].map(|name| GuestConfig::new(name, "i", 2 << 20)).to_vec(),
                shared: (0..count).map(region).collect(),
                ..Configuration::default()
            };
            let may_be_said = config::check(&configuration).is_ok();
            assert_eq!(may_be_said, can_be_stored(&configuration), "{:?}", configuration.shared);
            accepted += u32::from(may_be_said);
        }
    }
    // All but the last region are one of two sizes, the last one is any.
    assert_eq!(accepted, 3 * (1 + 2 + 4 + 8));
}
