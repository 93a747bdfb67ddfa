use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use proptest::prelude::*;

use super::*;

fn linux() -> GuestConfig {
    GuestConfig {
        name: "linux".to_string(),
        image: "vmlinuz".to_string(),
        kind: Some(Kind::Linux),
        initrd: Some("initrd.cpio".to_string()),
        cmdline: "console=ttyAMA0 quiet".to_string(),
        memory: 256 << 20,
        memory_map: MemoryMap::Virt,
        vcpus: 2,
        cores: vec![1, 2],
        weight: 300,
        counter_frequency: Some(62_500_000),
        autostart: true,
        on_crash: Policy::Resume,
        on_reset: Policy::Stop,
        watchdog_us: Some(5_000_000),
        devices: Vec::new(),
        dma_trusted: false,
        overcommit: false,
        portable: true,
        disks: vec![
            DiskConfig { from: Some("root.img".to_string()), ..disk("root", 64 << 20) },
            disk("data", 4096),
        ],
        networks: vec!["lan".to_string(), "wan".to_string()],
        entropy: true,
        terminal: true,
        periodic: Some(Periodic { every_us: 60_000_000, keep: 5, run_share: 70 }),
        well_after_us: 90_000_000,
    }
}

fn disk(volume: &str, size: u64) -> DiskConfig {
    DiskConfig { volume: volume.to_string(), size, from: None }
}

fn bare() -> GuestConfig {
    let devices = vec!["/pl031@9010000".to_string(), "gpio0".to_string()];
    let bare = GuestConfig::new("counter", "counter.elf", 16 << 20);
    let memory_map = MemoryMap::Identity;
    let portable = false;
    GuestConfig { autostart: false, memory_map, portable, devices, dma_trusted: true, ..bare }
}

/// Returns a plan of core 1 for `linux()` and `bare()`, the latter on that core, too.
fn divided() -> Configuration {
    let window =
        |guest: &str, at_us, length_us| WindowConfig { guest: guest.to_string(), at_us, length_us };
    let windows = vec![window("counter", 0, 2000), window("linux", 2000, 8000)];
    let cores = vec![CoreConfig { number: 1, frame_us: 10_000, windows }];
    let guests = vec![linux(), GuestConfig { cores: vec![1], ..bare() }];
    let store = StoreConfig { verify_writes: false };
    let uplink = Some("/virtio_mmio@a003a00".to_string());
    let networks = vec![network("lan", uplink), network("wan", None)];
    Configuration { guests, cores, shared: vec![ring()], networks, store }
}

fn network(name: &str, uplink: Option<String>) -> NetworkConfig {
    NetworkConfig { name: name.to_string(), uplink }
}

/// Memory that both share.
fn ring() -> SharedRegion {
    let guests = vec!["linux".to_string(), "counter".to_string()];
    SharedRegion { name: "ring".to_string(), size: 2 << 20, guests }
}

fn only(guests: &[GuestConfig]) -> Configuration {
    Configuration { guests: guests.to_vec(), ..Configuration::default() }
}

fn complaint(change: impl FnOnce(&mut GuestConfig)) -> String {
    let mut configuration = only(&[linux(), bare()]);
    change(&mut configuration.guests[1]);
    compile(&configuration).expect_err("a broken rule").to_string()
}

/// Returns what `parse` says of a configuration that was changed behind the compiler's back.
fn parse_complaint(change: impl FnOnce(&mut DeviceTreeNode)) -> String {
    let dtb = compile(&only(&[linux()])).unwrap();
    let mut tree = DeviceTree::from_fdt(&Fdt::new(&dtb).unwrap());
    change(tree.root.child_mut("guest@0").unwrap());
    parse(&tree.to_dtb()).expect_err("a broken rule").to_string()
}

fn put(node: &mut DeviceTreeNode, name: &str, value: &[u8]) {
    node.add_property(DeviceTreeProperty::new(name, value).unwrap());
}

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
fn what_was_compiled_is_parsed() {
    assert_eq!(parse(&compile(&divided()).unwrap()).unwrap(), divided());
}

#[test]
fn the_files_of_all_guests_are_listed_once() {
    let mut second = linux();
    second.name = "second".to_string();
    assert_eq!(
        files(&only(&[linux(), second, bare()])),
        ["vmlinuz", "initrd.cpio", "root.img", "counter.elf"]
    );
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
fn devices_that_access_memory_need_trust_and_the_machines_addresses() {
    let at = |what: &str| std::format!("stasis.dtb: guest \"counter\": {what}");
    assert_eq!(
        complaint(|guest| guest.memory_map = MemoryMap::Virt),
        at(
            "devices that access memory need memory-map = \"identity\": they know the machine's addresses"
        )
    );
    assert_eq!(complaint(|guest| guest.devices.clear()), at("dma is said, and it has no devices"));
    let written = |name: &str, value: &[u8]| parse_complaint(|guest| put(guest, name, value));
    assert!(written("dma", b"yes\0").ends_with("\"yes\" is not \"trusted\""));
    assert!(written("dma", b"trusted\0").contains("need memory-map"));
    assert!(
        written("memory-map", b"flat\0").ends_with("\"flat\" is none of \"virt\", \"identity\"")
    );
    // Nothing is needed to have the memory there, and no more than the memory to have plain
    // devices.
    let alone = GuestConfig { memory_map: MemoryMap::Identity, ..linux() };
    assert!(compile(&only(&[alone, GuestConfig { dma_trusted: false, ..bare() }])).is_ok());
}

#[test]
fn devices_are_named_once_and_not_stored() {
    let at = |rest: &str| std::format!("stasis.dtb: guest \"counter\": {rest}");
    for odd in ["", "/", "gpio 0", "/a b", "a/b"] {
        let problem = complaint(|guest| guest.devices = vec![odd.to_string()]);
        assert!(problem.contains("is neither a path"), "{odd}: {problem}");
    }
    assert_eq!(
        complaint(|guest| guest.devices.push("gpio0".to_string())),
        at("device \"gpio0\" is given twice")
    );
    let stored = at("it has devices, whose state can't be stored, and so no checkpoints");
    assert_eq!(complaint(|guest| guest.on_reset = Policy::Resume), stored);
    let periodic = Some(Periodic { every_us: 60_000_000, keep: 5, run_share: 70 });
    assert_eq!(complaint(|guest| guest.periodic = periodic), stored);
    let mut other = bare();
    other.name = "other".to_string();
    let twice = compile(&only(&[bare(), other])).unwrap_err().to_string();
    assert!(twice.contains("guest \"other\": device \"/pl031@9010000\" is given twice"), "{twice}");
}

#[test]
fn each_broken_rule_of_virtio_devices_is_named() {
    let disks = |disks: Vec<DiskConfig>| complaint(|guest| guest.disks = disks);
    let guest = "stasis.dtb: guest \"counter\": ";
    for size in [0, 4095, 6144, (1 << 40) + 4096, 2 << 40] {
        let expected = format!(
            "{guest}volume \"x\": {size} bytes are not a multiple of 4 KiB, from 4 KiB to 1 TiB"
        );
        assert_eq!(disks(vec![disk("x", size)]), expected);
    }
    let twice = format!("{guest}volume \"root\" is behind another disk already");
    assert_eq!(disks(vec![disk("root", 4096)]), twice, "the other guest has it");
    assert!(disks(vec![disk("x", 4096), disk("x", 4096)]).ends_with("another disk already"));
    assert!(disks(vec![disk("a b", 4096)]).starts_with(&format!("{guest}volume \"a b\": ")));
    let many = (0..9).map(|n| disk(&format!("d{n}"), 4096)).collect();
    assert_eq!(disks(many), format!("{guest}9 virtio devices are too many; 8 are possible"));
    let networks = |names: &[&str]| {
        let names = names.iter().map(|name| name.to_string()).collect();
        complaint(|guest| guest.networks = names)
    };
    assert!(networks(&["1"]).starts_with(&format!("{guest}network \"1\": ")));
    assert_eq!(
        networks(&["lan", "lan"]),
        format!("{guest}it has a card in network \"lan\" already")
    );
}

#[test]
fn sizes_without_disks_are_no_configuration() {
    let sizes = "property \"disk-sizes\" is not a list of 64-bit numbers, one for each disk";
    for value in [&[][..], &[0; 8], &[0; 15], &[0; 24]] {
        let complaint = parse_complaint(|guest| put(guest, "disk-sizes", value));
        assert!(complaint.ends_with(sizes), "{complaint}");
    }
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
fn a_missing_or_unknown_property_is_named() {
    let at = |what: &str| std::format!("stasis.dtb: guest \"linux\": {what}");
    for property in ["image", "memory-size", "vcpus"] {
        let complaint = parse_complaint(|node| drop(node.remove_property(property)));
        assert_eq!(complaint, at(&std::format!("property \"{property}\" is missing")));
    }
    assert_eq!(
        parse_complaint(|node| drop(node.remove_property("guest-name"))),
        "stasis.dtb: guest guest@0: property \"guest-name\" is missing"
    );
    assert_eq!(
        parse_complaint(|node| put(node, "memroy-size", &[])),
        at("property \"memroy-size\" is not known")
    );
}

#[test]
fn a_property_of_the_wrong_type_is_named() {
    let at = |what: &str| std::format!("stasis.dtb: guest \"linux\": {what}");
    assert_eq!(
        parse_complaint(|node| put(node, "memory-size", &[0; 4])),
        at("property \"memory-size\" is not a 64-bit number")
    );
    assert_eq!(
        parse_complaint(|node| put(node, "image", b"no NUL")),
        at("property \"image\" is not a string")
    );
    assert_eq!(
        parse_complaint(|node| put(node, "autostart", &[1])),
        at("property \"autostart\" is not empty")
    );
    assert_eq!(
        parse_complaint(|node| put(node, "kind", b"windows\0")),
        at("kind \"windows\" is none of \"linux\", \"elf\", \"raw\"")
    );
    assert_eq!(
        parse_complaint(|node| put(node, "cores", &[0; 6])),
        at("property \"cores\" is not a list of 32-bit numbers")
    );
    assert_eq!(
        parse_complaint(|node| put(node, "on-crash", b"pray\0")),
        at("\"pray\" is none of \"stop\", \"restart\", \"resume\"")
    );
    assert_eq!(
        parse_complaint(|node| put(node, "checkpoint-keep", &[0, 0, 1, 0])),
        at("keeping 256 checkpoints is not possible; 1 to 255 are")
    );
    assert_eq!(
        parse_complaint(|node| drop(node.remove_property("checkpoint-every-us"))),
        at("checkpoint-keep is said without checkpoint-every")
    );
    assert_eq!(
        parse_complaint(|node| {
            drop(node.remove_property("checkpoint-every-us"));
            drop(node.remove_property("checkpoint-keep"));
        }),
        at("checkpoint-run-share is said without checkpoint-every")
    );
    assert_eq!(
        parse_complaint(|node| put(node, "checkpoint-run-share", &[0, 0, 1, 50])),
        at("a run share of 306 % is not possible; 1 to 99 are")
    );
    assert_eq!(
        parse_complaint(|node| put(node, "weight", &[0, 1, 0, 0])),
        at("a weight of 65536 is not possible; 1 to 10000 are")
    );
    assert_eq!(
        parse_complaint(|node| put(node, "vcpus", &[1, 0, 0, 1])),
        at("16777217 vCPUs are not possible; 1 to 8 are")
    );
}

#[test]
fn each_broken_rule_of_a_plan_names_core_and_window() {
    let complaint = |change: fn(&mut Configuration)| {
        let mut configuration = divided();
        change(&mut configuration);
        compile(&configuration).expect_err("a broken rule").to_string()
    };
    let at = |what: &str| std::format!("stasis.dtb: core 1: {what}");
    assert_eq!(
        complaint(|all| all.cores[0].frame_us = 99),
        at("a frame of 99 us is not possible; 100 us to 60 s are")
    );
    assert_eq!(
        complaint(|all| all.cores[0].windows.clear()),
        at("0 windows are not possible; 1 to 64 are")
    );
    assert_eq!(
        complaint(|all| all.cores[0].windows[0].length_us = 49),
        at("window 0: a length of 49 us is not possible; 50 us at least is")
    );
    assert_eq!(
        complaint(|all| all.cores[0].windows[0].length_us = 2001),
        at("window 1: it begins at 2 ms, before the window before it ends, at 2001 us")
    );
    for length_us in [8001, u64::MAX] {
        let mut configuration = divided();
        configuration.cores[0].windows[1].length_us = length_us;
        let end_us = length_us.saturating_add(2000);
        assert_eq!(
            compile(&configuration).unwrap_err().to_string(),
            at(&std::format!("window 1: it ends at {end_us} us, after the frame's end at 10 ms"))
        );
    }
    assert_eq!(
        complaint(|all| all.cores[0].windows[1].guest.push('e')),
        at("window 1: there is no guest \"linuxe\"")
    );
    assert_eq!(
        complaint(|all| all.guests[1].cores.clear()),
        at("window 0: guest \"counter\" is not configured to have a vCPU on this core")
    );
    assert_eq!(
        complaint(|all| all.cores.push(all.cores[0].clone())),
        at("it has another plan already")
    );
    assert_eq!(
        complaint(|all| {
            all.cores[0].windows.remove(0);
            all.cores[0].frame_us = 8000;
            all.cores[0].windows[0].at_us = 0;
        }),
        "stasis.dtb: guest \"counter\": the windows of core 1 fill its frame, and none is this guest's"
    );
}

#[test]
fn a_core_has_time_for_who_has_a_window_or_where_windows_leave_some() {
    let window = |at_us| WindowConfig { guest: "rt".to_string(), at_us, length_us: 500 };
    let plan = |number, windows| CoreConfig { number, frame_us: 1000, windows };
    let plans = [plan(1, vec![window(0)]), plan(2, vec![window(0), window(500)])];
    let open = |guest: &str| (0..4).map(|core| has_time(&plans, core, guest)).collect::<Vec<_>>();
    assert_eq!(open("rt"), [true; 4]);
    assert_eq!(open("linux"), [true, true, false, true]);
}

#[test]
fn windows_leave_the_console_time_on_its_core() {
    let with_window_of = |length_us| {
        let mut configuration = divided();
        configuration.guests.iter_mut().for_each(|guest| guest.cores = vec![CONSOLE_CORE]);
        configuration.cores[0].number = CONSOLE_CORE;
        configuration.cores[0].windows[1].length_us = length_us;
        compile(&configuration).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(with_window_of(7950), Ok(()));
    let refusal = |left: &str| {
        Err(std::format!(
            "stasis.dtb: core 0: the windows leave {left} of the frame, and the console is on this core; \
             50 us at least it needs"
        ))
    };
    assert_eq!(with_window_of(7951), refusal("49 us"));
    assert_eq!(with_window_of(8000), refusal("0 us"));
}

#[test]
fn a_plan_that_was_written_wrong_is_named() {
    let complaint = |change: fn(&mut DeviceTreeNode)| {
        let dtb = compile(&divided()).unwrap();
        let mut tree = DeviceTree::from_fdt(&Fdt::new(&dtb).unwrap());
        change(tree.root.child_mut("core@1").unwrap());
        parse(&tree.to_dtb()).expect_err("a broken rule").to_string()
    };
    let at = |what: &str| std::format!("stasis.dtb: core 1: {what}");
    assert_eq!(
        complaint(|core| drop(core.remove_property("frame-us"))),
        at("property \"frame-us\" is missing")
    );
    assert_eq!(complaint(|core| put(core, "fps", &[])), at("property \"fps\" is not known"));
    assert_eq!(
        complaint(|core| put(core.child_mut("window@1").unwrap(), "at-us", &[0; 4])),
        at("window 1: property \"at-us\" is not a 64-bit number")
    );
    assert_eq!(
        complaint(|core| core.add_child(DeviceTreeNode::new("door@2").unwrap())),
        at("node \"door@2\" is not known; windows are called window@<n>")
    );
    assert_eq!(
        complaint(|core| drop(core.remove_property("reg"))),
        "stasis.dtb: core core@1: property \"reg\" is missing"
    );
}

#[test]
fn each_broken_rule_of_shared_memory_names_the_region() {
    let complaint = |change: &dyn Fn(&mut Vec<SharedRegion>)| {
        let mut configuration = divided();
        change(&mut configuration.shared);
        compile(&configuration).expect_err("a broken rule").to_string()
    };
    let at = |rest: &str| std::format!("stasis.dtb: shared \"ring\": {rest}");
    assert_eq!(
        complaint(&|all| all[0].size = 4097),
        at("a size of 4097 bytes is not a multiple of 4 KiB, from 4 KiB to 128 MiB")
    );
    assert!(complaint(&|all| all[0].size = 129 << 20).contains("135266304 bytes"));
    assert!(complaint(&|all| all[0].size = 0).contains("0 bytes"));
    assert_eq!(
        complaint(&|all| all[0].guests.truncate(1)),
        at("1 guests are not possible; 2 to 8 are")
    );
    assert_eq!(
        complaint(&|all| all[0].guests[1] = "linus".to_string()),
        at("there is no guest \"linus\"")
    );
    assert_eq!(
        complaint(&|all| all[0].guests[1] = "linux".to_string()),
        at("guest \"linux\" is named twice")
    );
    assert_eq!(complaint(&|all| all.push(ring())), at("another region has the same name"));
    let many = |all: &mut Vec<SharedRegion>| {
        all.extend((1..5).map(|n| SharedRegion { name: std::format!("r{n}"), ..ring() }));
    };
    assert_eq!(
        complaint(&many),
        "stasis.dtb: shared \"r4\": guest \"linux\" shares more than 4 regions"
    );
    assert!(complaint(&|all| all[0].name = "7".to_string()).contains("character '7'"));
    let adjacent = |all: &mut Vec<SharedRegion>| {
        all[0].size = 128 << 20;
        all.push(SharedRegion { name: "log".to_string(), ..ring() });
    };
    assert_eq!(
        complaint(&adjacent),
        "stasis.dtb: shared \"log\": guest \"linux\" shares \"ring\" of 128 MiB before it, and so could never be stored; make that 4 KiB smaller, or its last"
    );
}

#[test]
fn what_needs_a_store_is_named_by_its_key() {
    assert_eq!(wishes_for_a_store(&linux()), Some("checkpoint-every"));
    let guest = GuestConfig { periodic: None, ..linux() };
    assert_eq!(wishes_for_a_store(&guest), Some("on-crash = \"resume\""));
    let guest = GuestConfig { on_crash: Policy::Stop, on_reset: Policy::Resume, ..guest };
    assert_eq!(wishes_for_a_store(&guest), Some("on-reset = \"resume\""));
    let guest = GuestConfig { on_reset: Policy::Stop, ..guest };
    assert_eq!(wishes_for_a_store(&guest), Some("disks"));
    assert_eq!(wishes_for_a_store(&GuestConfig { disks: Vec::new(), ..guest }), None);
}

#[test]
fn shared_memory_that_was_written_wrong_is_named() {
    let complaint = |change: fn(&mut DeviceTreeNode)| {
        let dtb = compile(&divided()).unwrap();
        let mut tree = DeviceTree::from_fdt(&Fdt::new(&dtb).unwrap());
        change(tree.root.child_mut("shared@0").unwrap());
        parse(&tree.to_dtb()).expect_err("a broken rule").to_string()
    };
    assert_eq!(
        complaint(|node| put(node, "colour", b"red\0")),
        "stasis.dtb: shared \"ring\": property \"colour\" is not known"
    );
    assert_eq!(
        complaint(|node| put(node, "size", &[0, 0, 0, 1])),
        "stasis.dtb: shared \"ring\": property \"size\" is not a 64-bit number"
    );
    assert!(complaint(|node| put(node, "guests", b"linux\0")).contains("1 guests"));
}

#[test]
fn another_device_tree_is_no_configuration() {
    assert_eq!(parse(&DeviceTree::new().to_dtb()), Err(ConfigError::NotAConfiguration));
    assert!(matches!(parse(b"[[guest]]"), Err(ConfigError::DeviceTree(_))));
    assert_eq!(compile(&Configuration::default()), Err(ConfigError::NoGuests));
    let dtb = compile(&only(&[linux()])).unwrap();
    let mut tree = DeviceTree::from_fdt(&Fdt::new(&dtb).unwrap());
    tree.root.add_child(DeviceTreeNode::new("gast@1").unwrap());
    assert_eq!(
        parse(&tree.to_dtb()).unwrap_err().to_string(),
        "stasis.dtb: node \"gast@1\" is not known; there are guest@<n>, core@<n>, shared@<n>, network@<n> and store"
    );
}

#[test]
fn every_cut_is_noticed() {
    let dtb = compile(&only(&[linux()])).unwrap();
    for len in 0..dtb.len() {
        assert!(parse(&dtb[..len]).is_err(), "cut to {len} bytes");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_damage_panics(changes in prop::collection::vec((0usize..1400, any::<u8>()), 1..6)) {
        let mut dtb = compile(&divided()).unwrap();
        let len = dtb.len();
        for (at, value) in changes {
            dtb[at % len] = value;
        }
        let _ = parse(&dtb);
    }

    #[test]
    fn every_valid_configuration_survives(
        name in "[a-zA-Z][a-zA-Z0-9_.-]{0,31}",
        image in "[^\0]{1,40}",
        initrd in prop::option::of("[^\0]{1,40}"),
        cmdline in "[^\0]{0,300}",
        blocks in 1u64..130_560,
        vcpus in 1u8..=8,
        cores in prop::collection::vec(any::<u32>(), 0..3),
        weight in 1u16..=10_000,
        counter_frequency in prop::option::of(1_000_000u32..=1_000_000_000),
        autostart: bool,
    ) {
        let memory = blocks << 21;
        prop_assume!(cores.len() <= vcpus.into());
        let guest = GuestConfig {
            kind: None, initrd, cmdline, vcpus, cores, weight, counter_frequency, autostart,
            ..GuestConfig::new(&name, &image, memory)
        };
        let configuration = only(&[guest]);
        prop_assert_eq!(parse(&compile(&configuration).unwrap()).unwrap(), configuration);
    }
}

#[test]
fn what_is_said_of_the_store_is_read_and_nothing_else() {
    let guests = only(&[linux()]);
    assert!(parse(&compile(&guests).unwrap()).unwrap().store.verify_writes);
    let store = StoreConfig { verify_writes: false };
    let compiled = compile(&Configuration { store, ..guests }).unwrap();
    assert_eq!(parse(&compiled).unwrap().store, store);
    let text = "unverified-writes";
    let mut misspelt = compiled.clone();
    let at = misspelt.windows(text.len()).position(|found| found == text.as_bytes()).unwrap();
    misspelt[at] = b'U';
    let error = parse(&misspelt).unwrap_err().to_string();
    assert_eq!(error, "stasis.dtb: store: property \"Unverified-writes\" is not known");
}

#[test]
fn an_uplink_that_cannot_be_is_said_with_its_network() {
    let refused = |networks: &[(&str, Option<&str>)]| {
        let of = |it: &(&str, Option<&str>)| network(it.0, it.1.map(str::to_string));
        let networks = networks.iter().map(of).collect();
        let configuration = Configuration { networks, ..only(&[linux(), bare()]) };
        compile(&configuration).unwrap_err().to_string()
    };
    for (networks, expected) in [
        (&[("lan", None), ("lan", None)][..], "\"lan\": another network has the same name"),
        (
            &[("lan", Some("a card"))],
            "\"lan\": uplink \"a card\" is neither a path, such as \"/virtio_mmio@a003a00\", nor an alias",
        ),
        (
            &[("a", Some("/x@1")), ("b", Some("/x@1"))],
            "\"b\": uplink \"/x@1\" is that of another network",
        ),
        (&[("lan", Some("gpio0"))], "\"lan\": uplink \"gpio0\" is given to guest \"counter\""),
        (
            &[("a", Some("/x@1")), ("b", Some("/x@2")), ("c", Some("/x@3"))],
            "\"c\": more than 2 uplinks are not possible",
        ),
    ] {
        assert_eq!(refused(networks), format!("stasis.dtb: network {expected}"));
    }
    assert!(refused(&[("a b", None)]).starts_with("stasis.dtb: network \"a b\": "));
}

#[test]
fn a_plan_that_is_typed_is_refused_without_the_name_of_a_file() {
    let window =
        |guest: &str, at_us, length_us| WindowConfig { guest: guest.to_string(), at_us, length_us };
    let said = |windows: Vec<WindowConfig>| {
        let plan = CoreConfig { number: 1, frame_us: 10_000, windows };
        let guests = vec![("one".to_string(), vec![1]), ("two".to_string(), vec![1])];
        check_plan(&plan, guests).map_err(|error| error.to_string())
    };
    assert_eq!(said(vec![window("one", 0, 9_000)]), Ok(()));
    let outside = said(vec![window("one", 5_000, 6_000)]).unwrap_err();
    assert!(outside.starts_with("core 1: window 0: it ends at "), "{outside}");
    let full = said(vec![window("one", 0, 10_000)]).unwrap_err();
    assert!(full.starts_with("guest \"two\": "), "{full}");
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
