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
        vcpus: 2,
        core: Some(1),
        autostart: true,
    }
}

fn bare() -> GuestConfig {
    GuestConfig {
        name: "counter".to_string(),
        image: "counter.elf".to_string(),
        kind: None,
        initrd: None,
        cmdline: String::new(),
        memory: 16 << 20,
        vcpus: 1,
        core: None,
        autostart: false,
    }
}

fn complaint(change: impl FnOnce(&mut GuestConfig)) -> String {
    let mut guests = vec![linux(), bare()];
    change(&mut guests[1]);
    compile(&guests).expect_err("a broken rule").to_string()
}

/// What `parse` says of a configuration that was changed behind the compiler's back.
fn parse_complaint(change: impl FnOnce(&mut DeviceTreeNode)) -> String {
    let dtb = compile(&[linux()]).unwrap();
    let mut tree = DeviceTree::from_fdt(&Fdt::new(&dtb).unwrap());
    change(tree.root.child_mut("guest@0").unwrap());
    parse(&tree.to_dtb()).expect_err("a broken rule").to_string()
}

fn put(node: &mut DeviceTreeNode, name: &str, value: &[u8]) {
    node.add_property(DeviceTreeProperty::new(name, value).unwrap());
}

#[test]
fn what_was_compiled_is_parsed() {
    let guests = vec![linux(), bare()];
    assert_eq!(parse(&compile(&guests).unwrap()).unwrap(), guests);
}

#[test]
fn the_files_of_all_guests_are_listed_once() {
    let mut second = linux();
    second.name = "second".to_string();
    assert_eq!(files(&[linux(), second, bare()]), ["vmlinuz", "initrd.cpio", "counter.elf"]);
}

#[test]
fn each_broken_rule_names_guest_and_property() {
    let at = |what: &str| std::format!("stasis.dtb: guest \"counter\": {what}");
    assert_eq!(complaint(|guest| guest.image.clear()), at("image is empty"));
    assert_eq!(complaint(|guest| guest.initrd = Some(String::new())), at("initrd is empty"));
    assert_eq!(complaint(|guest| guest.vcpus = 0), at("0 vCPUs are not possible; 1 to 8 are"));
    assert_eq!(complaint(|guest| guest.vcpus = 9), at("9 vCPUs are not possible; 1 to 8 are"));
    let memory = |bytes: u64| {
        at(&std::format!(
            "memory of {bytes} bytes is not a multiple of 2 MiB, from 2 MiB to 255 GiB"
        ))
    };
    for bytes in [0, 1 << 20, (16 << 20) + 4096, 256 << 30, u64::MAX] {
        assert_eq!(complaint(|guest| guest.memory = bytes), memory(bytes));
    }
    assert_eq!(
        complaint(|guest| guest.cmdline.push('\0')),
        at("cmdline has a NUL character in it")
    );
}

#[test]
fn names_must_be_typable_and_fit_the_checkpoint() {
    for name in ["a", "linux-6.1_b", &"x".repeat(32)] {
        assert_eq!(check_name(name), Ok(()), "{name}");
    }
    assert_eq!(check_name(""), Err(Problem::Empty("name")));
    assert_eq!(check_name(&"x".repeat(33)), Err(Problem::NameTooLong { len: 33 }));
    assert_eq!(check_name("two words"), Err(Problem::NameCharacter(' ')));
    assert_eq!(check_name("gäst"), Err(Problem::NameCharacter('ä')));
    assert_eq!(check_name("7"), Err(Problem::NameCharacter('7')));
    assert_eq!(check_name("-h"), Err(Problem::NameCharacter('-')));
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
        parse_complaint(|node| put(node, "vcpus", &[1, 0, 0, 1])),
        at("16777217 vCPUs are not possible; 1 to 8 are")
    );
}

#[test]
fn another_device_tree_is_no_configuration() {
    assert_eq!(parse(&DeviceTree::new().to_dtb()), Err(ConfigError::NotAConfiguration));
    assert!(matches!(parse(b"[[guest]]"), Err(ConfigError::DeviceTree(_))));
    assert_eq!(compile(&[]), Err(ConfigError::NoGuests));
    let dtb = compile(&[linux()]).unwrap();
    let mut tree = DeviceTree::from_fdt(&Fdt::new(&dtb).unwrap());
    tree.root.add_child(DeviceTreeNode::new("gast@1").unwrap());
    assert_eq!(
        parse(&tree.to_dtb()).unwrap_err().to_string(),
        "stasis.dtb: node \"gast@1\" is not known; guests are called guest@<n>"
    );
}

#[test]
fn every_cut_is_noticed() {
    let dtb = compile(&[linux()]).unwrap();
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
    fn no_damage_panics(changes in prop::collection::vec((0usize..800, any::<u8>()), 1..6)) {
        let mut dtb = compile(&[linux(), bare()]).unwrap();
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
        core: Option<u32>,
        autostart: bool,
    ) {
        let memory = blocks << 21;
        let guest = GuestConfig {
            name, image, kind: None, initrd, cmdline, memory, vcpus, core, autostart,
        };
        prop_assert_eq!(parse(&compile(std::slice::from_ref(&guest)).unwrap()).unwrap(), [guest]);
    }
}
