//! `stasis volume` as a person types it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Output};

use stasis_tool::disk::lock::{self, Access};

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_stasis");
    Command::new(program).args(arguments).current_dir(folder).output().unwrap()
}

fn printed(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaints}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Returns a folder with a disk of 64 MiB.
fn with_disk() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    printed(folder.path(), &["disk", "disk.img", "--size", "64M"]);
    folder
}

#[test]
fn an_image_comes_back_as_it_was_and_its_holes_stay_holes() {
    let folder = with_disk();
    let at = |name: &str| folder.path().join(name);
    let image = File::create(at("image")).unwrap();
    // Larger than the disk, and no whole number of blocks.
    image.set_len((200 << 20) + 1000).unwrap();
    for offset in [5000, 100 << 20, (200 << 20) + 990] {
        image.write_all_at(b"something", offset).unwrap();
    }
    printed(folder.path(), &["volume", "import", "disk.img", "image", "root"]);
    assert!(fs::metadata(at("disk.img")).unwrap().blocks() * 512 < 1 << 20, "holes take no room");
    printed(folder.path(), &["volume", "export", "disk.img", "root", "back"]);
    let (before, mut after) = (fs::read(at("image")).unwrap(), fs::read(at("back")).unwrap());
    assert_eq!(after.len(), before.len().next_multiple_of(4096));
    after.truncate(before.len());
    assert!(before == after);
    assert!(fs::metadata(at("back")).unwrap().blocks() * 512 < 1 << 20, "holes stay holes");
}

#[test]
fn volumes_are_made_copied_listed_and_deleted() {
    let folder = with_disk();
    let folder = folder.path();
    let created = run(folder, &["volume", "create", "disk.img", "root", "1G"]);
    let said = String::from_utf8(created.stderr).unwrap();
    assert!(said.contains("volume \"root\": 1.0 GiB of zeros"), "{said}");
    assert!(said.contains("the store has version 4 now"), "{said}");
    printed(folder, &["volume", "copy", "disk.img", "root", "other"]);
    let list = printed(folder, &["volume", "list", "disk.img"]);
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names[..3], ["NAME", "other", "root"], "{list}");
    let json = printed(folder, &["volume", "list", "disk.img", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["volumes"][1]["name"], "root");
    assert_eq!(json["volumes"][1]["bytes"], 1 << 30);
    assert_eq!(json["volumes"][1]["set_aside"], serde_json::Value::Null);
    printed(folder, &["volume", "copy", "disk.img", "root", "root-before-3"]);
    let json = printed(folder, &["volume", "list", "disk.img", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let expected = serde_json::json!({ "volume": "root", "checkpoint": 3, "guest": null });
    assert_eq!(json["volumes"][2]["set_aside"], expected);
    printed(folder, &["volume", "delete", "disk.img", "root-before-3"]);
    printed(folder, &["volume", "delete", "disk.img", "other"]);
    let error = refused(folder, &["checkpoint", "format", "disk.img"]);
    assert!(error.contains("has 0 checkpoints and 1 volumes; --force if they may go"), "{error}");
}

#[test]
fn what_cannot_be_done_is_refused_in_one_line() {
    let folder = with_disk();
    let folder = folder.path();
    printed(folder, &["volume", "create", "disk.img", "root", "1M"]);
    fs::write(folder.join("image"), vec![1; 70 << 20]).unwrap();
    for (arguments, error) in [
        (&["create", "disk.img", "root", "1M"][..], "there is a volume \"root\" already"),
        (&["create", "disk.img", "a b", "1M"], "\"a b\" can't be a volume's name"),
        (&["delete", "disk.img", "none"], "there is no volume \"none\""),
        (&["export", "disk.img", "none", "out"], "there is no volume \"none\""),
        (&["copy", "disk.img", "none", "new"], "there is no volume \"none\""),
        (&["copy", "disk.img", "root", "new", "--checkpoint", "3"], "there is no checkpoint 3"),
        (&["import", "disk.img", "lacking", "new"], "cannot read lacking"),
        (&["import", "disk.img", "image", "new", "--size", "1M"], "do not fit into a volume"),
        (&["import", "disk.img", "image", "new"], "the store is full"),
        (&["list", "image"], "no partition table"),
    ] {
        let said = refused(folder, &[&["volume"], arguments].concat());
        assert!(said.contains(error) && said.lines().count() == 1, "{arguments:?}: {said}");
    }
    let list = printed(folder, &["volume", "list", "disk.img"]);
    assert!(list.lines().count() == 3 && !list.contains("new"), "{list}");
    assert!(!folder.join("out").exists());
}

#[test]
fn a_store_without_maps_says_how_to_upgrade_it() {
    let folder = with_disk();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/store/2.sectors");
    let bytes = fs::read(golden).unwrap();
    let sectors = u32::from_le_bytes(bytes[..4].try_into().unwrap());
    let disk = File::create(folder.path().join("old.img")).unwrap();
    disk.set_len(u64::from(sectors) * 512).unwrap();
    for sector in bytes[4..].chunks_exact(516) {
        let number = u32::from_le_bytes(sector[..4].try_into().unwrap());
        disk.write_all_at(&sector[4..], u64::from(number) * 512).unwrap();
    }
    let said = refused(folder.path(), &["volume", "create", "old.img", "root", "1M"]);
    assert!(said.contains("a store of version 2 can't have volumes: `store upgrade`"), "{said}");
    printed(folder.path(), &["checkpoint", "upgrade", "old.img"]);
    printed(folder.path(), &["volume", "create", "old.img", "root", "1M"]);
}

#[test]
fn a_volume_is_not_written_over_the_disk_that_has_it() {
    let folder = with_disk();
    let folder = folder.path();
    printed(folder, &["volume", "create", "disk.img", "root", "1M"]);
    std::os::unix::fs::symlink("disk.img", folder.join("link")).unwrap();
    let before = fs::read(folder.join("disk.img")).unwrap();
    for path in ["disk.img", "link", "./disk.img"] {
        let error = refused(folder, &["volume", "export", "disk.img", "root", path]);
        assert!(error.contains("is the disk that has the volume"), "{error}");
    }
    assert!(fs::read(folder.join("disk.img")).unwrap() == before);
}

/// What a machine has written half would be a file system that is damaged.
#[test]
fn an_image_that_a_machine_writes_is_not_read() {
    let folder = with_disk();
    let folder = folder.path();
    fs::write(folder.join("image"), [7; 8192]).unwrap();
    let machine = lock::open(&folder.join("image"), Access::Exclusive).unwrap();
    let import = ["volume", "import", "disk.img", "image", "root"];
    let said = refused(folder, &import);
    assert!(said.contains("image is in use: ") && said.contains("half written"), "{said}");
    drop(machine);
    printed(folder, &import);
}

#[test]
fn a_volume_goes_into_a_pipe_with_its_zeros() {
    let folder = with_disk();
    let folder = folder.path();
    let mut image = vec![0; 3 << 20];
    image[2 << 20..][..4096].fill(7);
    fs::write(folder.join("image"), &image).unwrap();
    printed(folder, &["volume", "import", "disk.img", "image", "root"]);
    let exported = run(folder, &["volume", "export", "disk.img", "root", "/dev/stdout"]);
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    assert!(exported.stdout == image);
}

#[test]
fn a_volume_whose_map_is_damaged_is_named_in_the_list() {
    let folder = with_disk();
    let folder = folder.path();
    fs::write(folder.join("image"), [7; 8192]).unwrap();
    printed(folder, &["volume", "import", "disk.img", "image", "root"]);
    let mut disk = fs::read(folder.join("disk.img")).unwrap();
    let node = (0..disk.len()).step_by(4096).find(|at| disk[*at..*at + 4] == *b"SMAP").unwrap();
    disk[node + 40] ^= 1;
    fs::write(folder.join("disk.img"), disk).unwrap();
    let listed = run(folder, &["volume", "list", "disk.img"]);
    let said = String::from_utf8(listed.stderr).unwrap();
    assert!(said.contains("the block map of volume \"root\" is damaged"), "{said}");
    let json = printed(folder, &["volume", "list", "disk.img", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["damaged"][0], "root");
}

/// The guest of the checkpoint has the volume `root`, of 1 GiB.
#[test]
fn a_guest_moves_to_another_store_with_its_disk() {
    let (from, to) = (with_disk(), with_disk());
    let (from, to) = (from.path(), to.path());
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/1.6/one-vcpu.stasis");
    fs::copy(golden, from.join("it.stasis")).unwrap();
    let put = ["checkpoint", "put", "disk.img", "it.stasis", "it", "--disks"];
    let error = refused(from, &put);
    assert!(error.contains("disk \"root\" is lacking: it.stasis.root.img"), "{error}");
    let image = File::create(from.join("it.stasis.root.img")).unwrap();
    image.set_len(4096).unwrap();
    let error = refused(from, &put);
    assert!(
        error.contains("has 4096 bytes, and disk \"root\" of the checkpoint 1073741824"),
        "{error}"
    );
    image.set_len(1 << 30).unwrap();
    for offset in [5000, 500 << 20, (1 << 30) - 9] {
        image.write_all_at(b"something", offset).unwrap();
    }
    // A volume of the same name is another guest's, and stays as it is.
    printed(from, &["volume", "create", "disk.img", "root", "1M"]);
    printed(from, &put);
    let said = run(from, &["checkpoint", "get", "disk.img", "it", "alone.stasis"]);
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("which the file does not have: \"root\""), "{said}");
    let back = to.join("back.stasis");
    printed(from, &["checkpoint", "get", "disk.img", "it", back.to_str().unwrap(), "--disks"]);
    printed(to, &["checkpoint", "put", "disk.img", "back.stasis", "it", "--disks"]);
    printed(to, &["volume", "export", "disk.img", "root", "found", "--checkpoint", "it"]);
    let mut piece = [0; 9];
    for file in [to.join("back.stasis.root.img"), to.join("found")] {
        let file = File::open(file).unwrap();
        for offset in [5000, 500 << 20, (1 << 30) - 9] {
            file.read_exact_at(&mut piece, offset).unwrap();
            assert_eq!(&piece, b"something");
        }
        let metadata = file.metadata().unwrap();
        assert!(metadata.len() == 1 << 30 && metadata.blocks() * 512 < 1 << 20, "holes stay holes");
    }
    let list = printed(to, &["volume", "list", "disk.img"]);
    assert!(!list.contains("put-0") && list.lines().count() == 3, "{list}");
    let list = printed(from, &["volume", "list", "disk.img"]);
    assert!(list.contains("1.0 MiB"), "{list}");
}
