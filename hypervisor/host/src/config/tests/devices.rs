//! What is said of a guest's devices, those of the machine and virtio's, and each rule of it that
//! can be broken.

use super::*;

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
