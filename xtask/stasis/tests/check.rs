//! `stasis check` with a board: what the board would say, with the line and the key of the
//! configuration.

use std::path::Path;
use std::process::{Command, Output};

use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

fn cells(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

fn node(name: &str, properties: &[(&str, Vec<u8>)]) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(name);
    for (name, value) in properties {
        node.add_property(DeviceTreeProperty::new_unchecked(*name, value.clone()));
    }
    node
}

/// Returns the device tree of a board with two cores, 512 MiB of RAM, a GICv2 with this many
/// frames, a console and a PL061.
fn board(gic_frames: u32) -> Vec<u8> {
    let frames: Vec<u32> =
        (0..gic_frames).flat_map(|n| [0x800_0000 + n * 0x1_0000, 0x1_0000]).collect();
    let mut tree = DeviceTree::new();
    let one = |name| (name, cells(&[1]));
    tree.root = node(
        "",
        &[
            ("compatible", b"acme,board\0".to_vec()),
            one("#address-cells"),
            one("#size-cells"),
            one("interrupt-parent"),
        ],
    );
    let mut cpus = node("cpus", &[one("#address-cells"), ("#size-cells", cells(&[0]))]);
    for number in 0..2 {
        let properties = [("device_type", b"cpu\0".to_vec()), ("reg", cells(&[number]))];
        cpus.add_child(node(&format!("cpu@{number}"), &properties));
    }
    let device = |name, compatible: &str, reg: &[u32], spi: u32| {
        let compatible = [compatible.as_bytes(), b"\0"].concat();
        let interrupt = ("interrupts", cells(&[0, spi, 4]));
        node(name, &[("compatible", compatible), ("reg", cells(reg)), interrupt])
    };
    let mut gic = device("intc@8000000", "arm,gic-400", &frames, 0);
    gic.add_property(DeviceTreeProperty::new_unchecked("phandle", cells(&[1])));
    let memory = [("device_type", b"memory\0".to_vec()), ("reg", cells(&[0x4000_0000, 512 << 20]))];
    let psci = [("compatible", b"arm,psci-0.2\0".to_vec()), ("method", b"smc\0".to_vec())];
    for child in [
        cpus,
        gic,
        device("pl011@9000000", "arm,pl011", &[0x900_0000, 0x1000], 1),
        device("pl061@9030000", "arm,pl061", &[0x903_0000, 0x1000], 7),
        node("memory@40000000", &memory),
        node("psci", &psci),
    ] {
        tree.root.add_child(child);
    }
    tree.to_dtb()
}

/// Runs `stasis check` in a folder with a board, an image and this configuration.
fn check(folder: &Path, board: &[u8], configuration: &str) -> Output {
    std::fs::write(folder.join("board.dtb"), board).unwrap();
    std::fs::write(folder.join("code"), [1; 64]).unwrap();
    std::fs::write(folder.join("guests.toml"), configuration).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_stasis"));
    command.args(["check", "guests.toml", "--dtb", "board.dtb"]).current_dir(folder);
    command.output().unwrap()
}

fn guest(name: &str, more: &str) -> String {
    format!("[[guest]]\nname = \"{name}\"\nimage = \"code\"\nkind = \"raw\"\n{more}\n")
}

#[test]
fn a_board_says_each_thing_that_comes_to_nothing_with_its_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = [
        guest("small", "memory = \"64M\""),
        guest("large", "memory = \"500M\""),
        guest("elsewhere", "memory = \"2M\"\ncores = [2]"),
        guest("hands", "memory = \"2M\"\ndevices = [\"/pl062@9030000\"]"),
        guest("console", "memory = \"2M\"\ndevices = [\"/pl011@9000000\"]"),
        guest("planned", "memory = \"2M\"\ncores = [5]"),
        "[[core]]\nnumber = 5\nframe = \"10ms\"\nwindows = [{ guest = \"planned\", at = \"0ms\", length = \"1ms\" }]\n"
            .to_owned(),
    ]
    .concat();
    let output = check(folder.path(), &board(4), &configuration);
    let said = String::from_utf8_lossy(&output.stderr);
    for line in [
        "==> acme,board: 2 cores, ",
        "error: guests.toml: line 36: number: core 5 has a frame, and is not there\n",
        "error: guests.toml: line 10: memory: guest \"large\": it needs 500 MiB of RAM; ",
        "error: guests.toml: line 16: cores: guest \"elsewhere\": it wants core 2; there are 2\n",
        "error: guests.toml: line 22: devices: guest \"hands\": the machine has no device \"/pl062@9030000\"\n",
        "error: guests.toml: line 28: devices: guest \"console\": device \"/pl011@9000000\" is in use by Stasis itself",
        "error: guests.toml: line 34: cores: guest \"planned\": it wants core 5; there are 2\n",
        "error: 6 things of the configuration come to nothing on board.dtb\n",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_configuration_that_the_board_can_have_is_good() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = guest("a", "memory = \"64M\"\ncores = [1]\ndevices = [\"/pl061@9030000\"]");
    let output = check(folder.path(), &board(4), &configuration);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.ends_with("==> guests.toml: good\n"), "{said}");
    assert!(output.status.success());
}

#[test]
fn a_board_on_which_stasis_cannot_boot_and_a_file_that_is_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = guest("a", "memory = \"64M\"");
    for (board, why) in [
        (board(2), "error: Stasis can't boot on board.dtb: the GIC has 2 of the 4 frames"),
        (b"no tree".to_vec(), "error: board.dtb is no device tree"),
        (vec![0; 3 << 20], "error: board.dtb has 3.0 MiB, and is no device tree"),
    ] {
        let output = check(folder.path(), &board, &configuration);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(why), "{said}");
        assert_eq!(output.status.code(), Some(1));
    }
}
