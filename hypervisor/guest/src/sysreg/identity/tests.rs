use proptest::prelude::*;
use stasis_state::register::Record;

use super::*;

/// Returns QEMU's Cortex-A72, with EL2 and EL3 and a PMU.
fn cortex_a72() -> Identity {
    let mut raw = Identity::default();
    *raw.midr_el1 = 0x410f_d083;
    *raw.mpidr_el1 = 0x8000_0003;
    *raw.ctr_el0 = 0x8444_c004;
    *raw.dczid_el0 = 4;
    *raw.id_aa64pfr0_el1 = 0x2222;
    *raw.id_aa64dfr0_el1 = 0x1030_5106;
    *raw.id_aa64isar0_el1 = 0x1_1120;
    *raw.id_aa64mmfr0_el1 = 0x1124;
    raw
}

/// Returns a Cortex-A53, with 40 address bits and 2^6 bytes in its lines, too.
fn cortex_a53() -> Identity {
    let mut raw = cortex_a72();
    *raw.midr_el1 = 0x410f_d034;
    *raw.ctr_el0 = 0x8444_8004;
    *raw.id_aa64mmfr0_el1 = 0x1122;
    raw
}

/// Returns a new CPU: about what QEMU's `max` shows.
fn newer() -> Identity {
    let mut raw = cortex_a72();
    *raw.midr_el1 = 0x000f_0510;
    *raw.ctr_el0 = 0x3_b444_c004;
    *raw.dczid_el0 = 4;
    *raw.id_aa64pfr0_el1 = 0x1301_1111_2111_1112;
    *raw.id_aa64pfr1_el1 = 0x1_0000_0321;
    *raw.id_aa64dfr0_el1 = 0x30_5609;
    *raw.id_aa64isar0_el1 = 0x1221_1111_1021_2120;
    *raw.id_aa64isar1_el1 = 0x0110_2111_2110_2052;
    *raw.id_aa64mmfr0_el1 = 0x0021_0003_2210_1126;
    *raw.id_aa64mmfr1_el1 = 0x1_1112_1202_1322;
    *raw.id_aa64mmfr2_el1 = 0x1221_0011_0100_1011;
    raw
}

#[test]
fn a_cortex_a72_is_shown_without_el2_el3_and_pmu() {
    let shown = present(&cortex_a72(), 1);
    assert_eq!(*shown.id_aa64pfr0_el1, 0x12);
    assert_eq!(*shown.id_aa64dfr0_el1, 0x1030_5006);
    assert_eq!(*shown.id_aa64isar0_el1, 0x1_1120);
    assert_eq!(*shown.id_aa64mmfr0_el1, 0x1122);
    assert_eq!(*shown.midr_el1, 0x410f_d083);
    assert_eq!(*shown.mpidr_el1, 0x8000_0001);
    // And as if its instruction cache were a Cortex-A53's.
    assert_eq!(*shown.ctr_el0, 0x8444_8004);
}

#[test]
fn a_guest_from_elsewhere_was_shown_nothing_that_it_would_miss() {
    // What KVM shows on it.
    let mut raw = cortex_a72();
    *raw.id_aa64pfr0_el1 = 0x1000_0000_0000_0222;
    assert_eq!(check_origin(&raw), Ok(()));
    // More physical addresses, and then atomics.
    *raw.id_aa64mmfr0_el1 = 0x1126;
    assert_eq!(check_origin(&raw), Ok(()));
    *raw.id_aa64isar0_el1 |= 2 << 20;
    let register = "ID_AA64ISAR0_EL1";
    let beyond = IdentityError::Beyond { register, found: 0x21_1120, shown: 0x1_1120 };
    assert_eq!(check_origin(&raw), Err(beyond));
    assert!(matches!(check_origin(&newer()), Err(IdentityError::Beyond { .. })));
}

#[test]
fn what_newer_cpus_add_is_not_shown() {
    let shown = present(&newer(), 0);
    // Neither SVE, RAS, MPAM, AMU, DIT nor half precision; but what it says of speculation.
    assert_eq!(*shown.id_aa64pfr0_el1, 0x1100_0000_0000_0012);
    assert_eq!(*shown.id_aa64pfr1_el1, 0);
    assert_eq!(*shown.id_aa64dfr0_el1, 0x30_5006);
    // No atomics, nor SHA-3 or SHA-512.
    assert_eq!(*shown.id_aa64isar0_el1, 0x1_1120);
    assert_eq!(*shown.id_aa64isar1_el1, 0);
    assert_eq!(*shown.id_aa64mmfr1_el1, 0);
    assert_eq!(*shown.id_aa64mmfr2_el1, 0);
}

#[test]
fn an_absent_feature_that_is_less_than_zero_stays_absent() {
    let mut raw = cortex_a72();
    *raw.id_aa64pfr0_el1 = 0x00ff_2222;
    *raw.id_aa64mmfr0_el1 = 0xff00_1124;
    let shown = present(&raw, 0);
    assert_eq!(*shown.id_aa64pfr0_el1, 0x00ff_0012);
    assert_eq!(*shown.id_aa64mmfr0_el1, 0xff00_1122);
}

#[test]
fn guests_of_all_boards_go_on_on_all_boards() {
    for made in [cortex_a53(), cortex_a72(), newer()] {
        for host in [cortex_a53(), cortex_a72(), newer()] {
            let mut host = host;
            // The newer one has another number of breakpoints, which is a rule of its own.
            *host.id_aa64dfr0_el1 = *made.id_aa64dfr0_el1;
            let shown = super::made(&made, 0, Some(Granule::Kib4), Reach::Anywhere).unwrap();
            assert_eq!(check(&shown, &host, 0), Ok(()));
        }
    }
}

#[test]
fn a_guest_that_goes_nowhere_else_is_shown_the_caches_as_they_are() {
    for raw in [cortex_a53(), cortex_a72(), newer()] {
        let shown = made(&raw, 0, None, Reach::Alike).unwrap();
        assert_eq!(shown.ctr_el0, raw.ctr_el0);
        assert_eq!(check(&shown, &raw, 0), Ok(()));
        let portable = made(&raw, 0, None, Reach::Anywhere).unwrap();
        assert_eq!(Identity { ctr_el0: portable.ctr_el0, ..shown }, portable, "all else is equal");
    }
    // The guest goes on where the caches need as little, and is refused where they need more.
    let shown = made(&cortex_a72(), 0, None, Reach::Alike).unwrap();
    let error = check(&shown, &cortex_a53(), 0).unwrap_err();
    assert_eq!(error.to_string(), "the guest's CTR_EL0.L1Ip is 3, and this machine's is 2");
}

#[test]
fn pages_of_16_kib_are_shown_to_a_kernel_that_asks_for_them() {
    let tgran16 = |raw: &Identity, granule| {
        let shown = made(raw, 0, granule, Reach::Anywhere).unwrap();
        *shown.id_aa64mmfr0_el1 >> 20 & 0xf
    };
    // The field of `max` is 2, which is more than is shown.
    assert_eq!(tgran16(&newer(), Some(Granule::Kib16)), 1);
    for granule in [None, Some(Granule::Kib4), Some(Granule::Kib64)] {
        assert_eq!(tgran16(&newer(), granule), 0, "{granule:?}");
        assert_eq!(tgran16(&cortex_a72(), granule), 0, "{granule:?}");
    }
}

#[test]
fn a_kernel_whose_pages_the_cpu_has_not_is_refused_with_those_that_it_has() {
    let error = made(&cortex_a72(), 0, Some(Granule::Kib16), Reach::Anywhere).unwrap_err();
    assert_eq!(
        error.to_string(),
        "its kernel has pages of 16 KiB, which this machine's CPU does not have; take one with pages of 4 KiB or 64 KiB"
    );
    // TGran64 and TGran4 say by 0xf that there is none.
    let mut raw = newer();
    *raw.id_aa64mmfr0_el1 = *raw.id_aa64mmfr0_el1 & !0xff00_0000 | 0x0f00_0000;
    let error = made(&raw, 0, Some(Granule::Kib64), Reach::Anywhere).unwrap_err().to_string();
    assert!(error.ends_with("take one with pages of 4 KiB or 16 KiB"), "{error}");
    *raw.id_aa64mmfr0_el1 = 0xff00_0000 | 1 << 20;
    let error = made(&raw, 0, Some(Granule::Kib4), Reach::Anywhere).unwrap_err().to_string();
    assert!(error.ends_with("take one with pages of 16 KiB"), "{error}");
}

#[test]
fn a_guest_with_pages_of_16_kib_goes_on_only_where_they_are() {
    let saved = made(&newer(), 0, Some(Granule::Kib16), Reach::Anywhere).unwrap();
    assert_eq!(check(&saved, &newer(), 0), Ok(()));
    let mut without = newer();
    *without.id_aa64mmfr0_el1 &= !(0xf << 20);
    assert_eq!(
        check(&saved, &without, 0).unwrap_err().to_string(),
        "the guest's ID_AA64MMFR0_EL1.TGran16 is 1, and this machine's is 0"
    );
}

#[test]
fn an_instruction_cache_that_needs_more_than_the_guest_does_is_refused() {
    // A checkpoint of an older Stasis, which showed what there was.
    let mut saved = present(&cortex_a72(), 0);
    *saved.ctr_el0 = 0x8444_c004;
    assert_eq!(check(&saved, &cortex_a72(), 0), Ok(()));
    let error = check(&saved, &cortex_a53(), 0).unwrap_err();
    assert_eq!(error.to_string(), "the guest's CTR_EL0.L1Ip is 3, and this machine's is 2");
}

#[test]
fn each_promise_that_a_cpu_cannot_keep_is_named() {
    let refused = |change: fn(&mut Identity), line: &str| {
        let mut host = cortex_a72();
        change(&mut host);
        let error = check(&present(&cortex_a72(), 0), &host, 0).unwrap_err();
        assert_eq!(error.to_string(), line);
    };
    refused(
        |host| *host.id_aa64mmfr0_el1 = 0x1121,
        "the guest's ID_AA64MMFR0_EL1.PARange is 2, and this machine's is 1",
    );
    refused(
        |host| *host.id_aa64dfr0_el1 = 0x1030_3106,
        "the guest's ID_AA64DFR0_EL1.BRPs is 5, and this machine's is 3",
    );
    refused(|host| *host.dczid_el0 = 5, "the guest's DCZID_EL0.BS is 4, and this machine's is 5");
    refused(
        |host| *host.dczid_el0 = 0x14,
        "the guest's DCZID_EL0.DZP is 0, and this machine's is 1",
    );
    refused(
        |host| *host.ctr_el0 = 0x8444_c003,
        "the guest's CTR_EL0.IminLine is 4, and this machine's is 3",
    );
}

#[test]
fn a_guest_does_not_go_on_without_what_it_was_shown() {
    let saved = present(&cortex_a72(), 0);
    let mut without_crypto = cortex_a72();
    *without_crypto.id_aa64isar0_el1 = 0x1_0000;
    let error = check(&saved, &without_crypto, 0).unwrap_err();
    assert_eq!(error.to_string(), "the guest's ID_AA64ISAR0_EL1.AES is 2, and this machine's is 0");

    let mut smaller_lines = cortex_a72();
    *smaller_lines.ctr_el0 = 0x8443_c004;
    let error = check(&saved, &smaller_lines, 0).unwrap_err();
    assert_eq!(error, IdentityError::Missing { field: "CTR_EL0.DminLine", found: 4, available: 3 });
}

#[test]
fn a_guest_that_need_not_maintain_its_caches_does_not_go_on_where_it_must() {
    // As an older Stasis showed it.
    let mut saved = present(&newer(), 0);
    *saved.ctr_el0 = *newer().ctr_el0;
    let mut host = newer();
    *host.ctr_el0 &= !(1 << 29);
    let error = check(&saved, &host, 0).unwrap_err();
    assert_eq!(error, IdentityError::Missing { field: "CTR_EL0.DIC", found: 1, available: 0 });
}

#[test]
fn a_file_cannot_claim_features_that_are_never_shown() {
    let host = newer();
    let mut saved = present(&host, 0);
    *saved.id_aa64pfr1_el1 = 0x100;
    assert_eq!(
        check(&saved, &host, 0),
        Err(IdentityError::Unsupported { register: "ID_AA64PFR1_EL1", found: 0x100 })
    );
}

#[test]
fn a_vcpu_keeps_its_number() {
    let host = present(&cortex_a72(), 0);
    assert!(matches!(check(&host, &cortex_a72(), 1), Err(IdentityError::Affinity { .. })));
}

#[test]
fn every_register_of_the_identity_can_be_read_by_its_encoding() {
    for register in Identity::REGISTERS {
        assert_eq!(get(&Identity::default(), register.id), Some(0), "{}", register.name);
    }
}

#[test]
fn every_field_lies_in_a_register_that_is_limited_to_its_fields() {
    for field in FIELDS {
        assert!(field.name.starts_with("ID_AA64"), "{}", field.name);
        assert!(LIMITED.iter().any(|(register, _)| *register == field.register), "{}", field.name);
    }
}

proptest! {
    #[test]
    fn what_a_host_shows_it_accepts_again(words in prop::array::uniform13(any::<u64>()), index in 0_usize..8) {
        let mut raw = Identity::default();
        for (register, word) in Identity::REGISTERS.iter().zip(words) {
            *value_mut(&mut raw, register.id).unwrap() = word;
        }
        let shown = present(&raw, index);
        prop_assert_eq!(check(&shown, &raw, index), Ok(()));
        // To show what was shown changes nothing.
        let again = present(&shown, index);
        prop_assert_eq!(again, shown);
    }
}
