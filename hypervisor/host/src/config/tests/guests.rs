//! What is said of a guest, and each rule of it that can be broken.

use super::*;

#[test]
fn only_a_guest_that_can_wait_for_memory_takes_it_as_it_writes() {
    let guest = GuestConfig { overcommit: true, ..linux() };
    let configuration = only(&[guest]);
    assert_eq!(parse(&compile(&configuration).unwrap()), Ok(configuration));
    let of = |what| {
        format!(
            "stasis.dtb: guest \"counter\": a guest with {what} needs its memory from the beginning: leave overcommit out"
        )
    };
    let is_not = |change: fn(&mut GuestConfig)| {
        complaint(|guest| {
            guest.overcommit = true;
            change(guest);
        })
    };
    assert_eq!(is_not(|_| ()), of("devices"));
    let without_devices = |guest: &mut GuestConfig| {
        guest.devices = Vec::new();
        guest.dma_trusted = false;
    };
    assert_eq!(is_not(without_devices), of("memory-map = \"identity\""));
    let mut divided = divided();
    divided.guests[0].overcommit = true;
    let refused = compile(&divided).unwrap_err().to_string();
    assert!(refused.contains("a guest with windows needs"), "{refused}");
}

#[test]
fn each_broken_rule_names_guest_and_property() {
    let at = |what: &str| std::format!("stasis.dtb: guest \"counter\": {what}");
    assert_eq!(complaint(|guest| guest.image.clear()), at("image is empty"));
    assert_eq!(complaint(|guest| guest.initrd = Some(String::new())), at("initrd is empty"));
    assert_eq!(complaint(|guest| guest.vcpus = 0), at("0 vCPUs are not possible; 1 to 8 are"));
    assert_eq!(complaint(|guest| guest.vcpus = 9), at("9 vCPUs are not possible; 1 to 8 are"));
    for hz in [0, 999_999, 1_000_000_001, u32::MAX] {
        assert_eq!(
            complaint(|guest| guest.counter_frequency = Some(hz)),
            at(&std::format!(
                "counter-frequency of {hz} Hz is not possible; 1000000 to 1000000000 are"
            ))
        );
    }
    let memory = |bytes: u64| {
        at(&std::format!(
            "memory of {bytes} bytes is not a multiple of 2 MiB, from 2 MiB to 255 GiB"
        ))
    };
    for bytes in [0, 1 << 20, (16 << 20) + 4096, 256 << 30, u64::MAX] {
        assert_eq!(complaint(|guest| guest.memory = bytes), memory(bytes));
    }
    assert_eq!(
        complaint(|guest| guest.cores = vec![1, 2]),
        at("2 cores for 1 vCPUs are too many; one for each is enough")
    );
    assert_eq!(
        complaint(|guest| guest.weight = 0),
        at("a weight of 0 is not possible; 1 to 10000 are")
    );
    assert_eq!(
        complaint(|guest| guest.watchdog_us = Some(101_000_000)),
        at("a watchdog of 101 s is not possible; up to 100 s are")
    );
    for every_us in [0, 999_999, u64::MAX] {
        let periodic = Some(Periodic { every_us, keep: 1, run_share: 50 });
        let complaint = complaint(|guest| guest.periodic = periodic);
        assert!(complaint.contains(": checkpoints every "), "{complaint}");
        assert!(complaint.ends_with(" are not possible; every 1 s to 31536000 s are"));
    }
    let periodic = |keep, run_share| Some(Periodic { every_us: 1_000_000, keep, run_share });
    assert_eq!(
        complaint(|guest| guest.periodic = periodic(0, 50)),
        at("keeping 0 checkpoints is not possible; 1 to 255 are")
    );
    for run_share in [0, 100, 255] {
        assert_eq!(
            complaint(|guest| guest.periodic = periodic(1, run_share)),
            at(&format!("a run share of {run_share} % is not possible; 1 to 99 are"))
        );
    }
    assert_eq!(
        complaint(|guest| guest.well_after_us = 31_536_001_000_000),
        at("well after 31536001 s is not possible; up to 31536000 s are")
    );
    assert_eq!(
        complaint(|guest| guest.cmdline.push('\0')),
        at("cmdline has a NUL character in it")
    );
}

#[test]
fn names_obey_the_rule_of_the_checkpoint_format() {
    assert_eq!(
        complaint(|guest| guest.name = "two words".to_string()),
        "stasis.dtb: guest \"two words\": the name has the character ' '; letters, digits, '-', '_' and '.' are possible, and a letter first"
    );
    assert_eq!(
        complaint(|guest| guest.name = "all".to_string()),
        "stasis.dtb: guest \"all\": \"all\" is what the console calls all guests"
    );
}

#[test]
fn two_guests_with_one_name_for_their_periodic_checkpoints_are_refused() {
    let common = "a-name-of-27-bytes-in-total";
    let guest = |name: &str| GuestConfig { name: name.to_string(), disks: Vec::new(), ..linux() };
    let check = |guests: [GuestConfig; 2]| {
        let guests = guests.map(|guest| GuestConfig { cores: vec![], ..guest }).to_vec();
        check(&Configuration { guests, ..Configuration::default() })
    };
    let both = |first: &str, second: &str| check([guest(first), guest(second)]);
    for (first, second) in [("", "-b"), ("-b", ""), ("-a", "-b")] {
        let (first, second) = (format!("{common}{first}"), format!("{common}{second}"));
        assert_eq!(
            both(&first, &second).unwrap_err().to_string(),
            format!(
                "stasis.dtb: guest \"{second}\": its periodic checkpoints would be called \"{common}.auto\", as those of \"{first}\" are: let the names differ in their first 27 bytes"
            )
        );
        // One of them has none.
        let quiet = GuestConfig { periodic: None, ..guest(&second) };
        assert_eq!(check([guest(&first), quiet.clone()]), Ok(()));
        assert_eq!(check([quiet, guest(&first)]), Ok(()));
    }
    assert_eq!(both("linux", common), Ok(()));
}

#[test]
fn two_guests_of_one_name_are_refused() {
    assert_eq!(
        complaint(|guest| guest.name = "linux".to_string()),
        "stasis.dtb: guest \"linux\": another guest has the same name"
    );
}

#[test]
fn a_guest_that_may_wait_for_memory_gets_no_window_and_others_do() {
    let windows =
        ["rt", "clone"].map(|guest| WindowConfig { guest: guest.into(), at_us: 0, length_us: 1 });
    let plan = CoreConfig { number: 1, frame_us: 1000, windows: windows.to_vec() };
    assert_eq!(check_plan_waits(&plan, ["idle", "spare"].into_iter()), Ok(()));
    let error = check_plan_waits(&plan, ["idle", "clone", "rt"].into_iter()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "guest \"clone\" can't have a window: it shares memory with clones, or has overcommit, and would wait for copies in it"
    );
}
