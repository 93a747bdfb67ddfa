//! What several guests have: memory that they share, and networks.

use super::*;

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
