//! Hosts that cannot go on with a guest.

mod common;

use common::{edit::Edited, load, ram, save, state};
use stasis_state::{HostFacts, RecordType};
use zerocopy::IntoBytes;

fn host() -> HostFacts {
    HostFacts {
        vcpus: 4,
        memory: 1 << 30,
        prio_bits: 5,
        ram: 0x4000_0000..0x80_0000_0000,
        ram_unit: 2 << 20,
        dist_base: 0x0800_0000,
        cpu_base: 0x0801_0000,
    }
}

#[track_caller]
fn refused(host: &HostFacts, line: &str) {
    let error = host.check(&state(4, 2 << 20)).unwrap_err();
    assert_eq!(error.to_string(), line);
}

#[test]
fn a_host_that_has_what_the_guest_needs_takes_it() {
    assert_eq!(host().check(&state(4, 2 << 20)), Ok(()));
}

#[test]
fn what_a_host_lacks_is_named_with_both_numbers() {
    refused(&HostFacts { vcpus: 2, ..host() }, "the guest has 4 vCPUs; there are 2");
    refused(
        &HostFacts { memory: 2048, ..host() },
        "the guest has 2097152 bytes of RAM; there are 2048",
    );
    refused(
        &HostFacts { prio_bits: 4, ..host() },
        "the guest's GIC has 5 priority bits; this machine's 4",
    );
    refused(
        &HostFacts { dist_base: 0x2c00_1000, ..host() },
        "the guest's GICD is at 0x8000000; here it would be at 0x2c001000",
    );
}

#[test]
fn ram_may_be_anywhere_that_a_guest_reaches_but_where_its_devices_are() {
    let with_ram_at = |base| {
        let mut state = state(4, 2 << 20);
        *state.guest.ram_base = base;
        host().check(&state).map_err(|error| error.to_string())
    };
    assert_eq!(with_ram_at(0x5000_0000), Ok(()));
    assert_eq!(with_ram_at(0x7f_ffe0_0000), Ok(()));
    for base in [0, 0x3fff_f000, 0x4000_1000, 0x80_0000_0000, !0xfff] {
        let why = "in 0x40000000 to 0x8000000000, at a multiple of 0x200000";
        let refusal = format!("the guest's RAM is at {base:#x}; here it would be {why}");
        assert_eq!(with_ram_at(base), Err(refusal));
    }
    let narrow = HostFacts { ram: 0x4000_0000..0x4000_0800, ..host() };
    assert!(narrow.check(&state(4, 2 << 20)).is_err(), "it does not end there");
}

#[test]
fn ram_that_the_host_would_give_more_of_than_it_has_is_refused() {
    for size in [4096, (2 << 20) - 4096, (2 << 20) + 4096, 3 << 20, (4 << 20) - 4096] {
        let line = host().check(&state(1, size)).unwrap_err().to_string();
        let expected =
            format!("the guest has {size} bytes of RAM; here it has a multiple of 0x200000");
        assert_eq!(line, expected);
    }
    assert_eq!(host().check(&state(1, 4 << 20)), Ok(()));
}

#[test]
fn a_file_that_claims_more_memory_than_there_is_costs_nothing_but_its_refusal() {
    let mut file = Edited::from_file(&save(&state(1, 4096), &ram(".")).0);
    let mut guest = state(1, 4096).guest;
    let pages = 0xffff_fe00u32;
    *guest.ram_size = u64::from(pages) * 4096;
    file.record(RecordType::Guest, 0).body = guest.as_bytes().to_vec();
    let checkpoint = load(&file.to_file()).unwrap();
    assert_eq!(
        host().check(&checkpoint.state).unwrap_err().to_string(),
        "the guest has 17592183947264 bytes of RAM; there are 1073741824"
    );
}
