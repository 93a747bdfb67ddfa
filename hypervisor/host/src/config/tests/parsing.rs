//! What is read of a device tree that no compiler of ours has made: nothing panics, and what is
//! wrong is named.

use super::*;
use proptest::prelude::*;

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
