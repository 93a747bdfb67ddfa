//! `stasis checkpoint` on golden files, as a person types it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use stasis_state::envelope::RecordHeader;
use stasis_state::header::Header;
use zerocopy::{FromBytes, IntoBytes};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns every golden file.
fn golden_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in std::fs::read_dir(root().join("tests/golden")).unwrap() {
        for entry in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            files.push(entry.unwrap().path());
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "stasis"));
    files.sort();
    assert!(files.len() >= 3, "{files:?}");
    files
}

fn running() -> PathBuf {
    root().join("tests/golden/running/1.0-handler.stasis")
}

/// A file that is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("stasis-{}-{name}", std::process::id())))
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn run(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_stasis");
    Command::new(program).args(arguments).current_dir(root()).output().unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaints}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Returns a program that the tests need and that may be absent.
fn output_of(program: &str, package: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).current_dir(root()).output();
    output.unwrap_or_else(|error| {
        panic!("{program}: {error}; `apt-get install {package}` as root, or what your system has instead")
    })
}

fn python(file: &Path) -> Output {
    let file = file.to_str().unwrap();
    output_of("python3", "python3", &["tests/format/reader.py", file])
}

#[test]
fn the_reader_in_python_prints_the_same_as_show_json() {
    for file in golden_files() {
        let ours = printed(&["checkpoint", "show", "--json", file.to_str().unwrap()]);
        let output = python(&file);
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {complaints}", file.display());
        let theirs = String::from_utf8(output.stdout).unwrap();
        for (ours, theirs) in ours.lines().zip(theirs.lines()) {
            assert_eq!(ours, theirs, "{}", file.display());
        }
        assert_eq!(ours.len(), theirs.len(), "{}", file.display());
    }
}

#[test]
fn both_readers_refuse_a_damaged_file() {
    let good = std::fs::read(running()).unwrap();
    for at in [0, 9, 40, 60, 3000, good.len() / 2, good.len() - 4] {
        let file = Scratch::new(&format!("damaged-{at}"));
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&file.0, &bad).unwrap();
        refused(&["checkpoint", "verify", file.text()]);
        assert!(!python(&file.0).status.success(), "byte {at}");
    }
    for len in [0, 8, 47, 48, 1000, good.len() - 1] {
        let file = Scratch::new(&format!("cut-{len}"));
        std::fs::write(&file.0, &good[..len]).unwrap();
        refused(&["checkpoint", "show", file.text(), "1"]);
        assert!(!python(&file.0).status.success(), "{len} bytes");
    }
}

#[test]
fn a_checkpoint_goes_onto_a_disk_and_comes_back() {
    let (disk, copy) = (Scratch::new("disk.img"), Scratch::new("copy.stasis"));
    let file = running();
    printed(&["disk", disk.text(), "--size", "64M"]);
    printed(&["checkpoint", "put", disk.text(), file.to_str().unwrap(), "golden"]);
    let list: serde_json::Value =
        serde_json::from_str(&printed(&["checkpoint", "list", disk.text(), "--json"])).unwrap();
    assert_eq!(list["checkpoints"][0]["name"], "golden");
    assert_eq!(list["checkpoints"][0]["bytes"], 56512);
    printed(&["checkpoint", "get", disk.text(), "golden", copy.text()]);
    assert!(std::fs::read(&copy.0).unwrap() == std::fs::read(&file).unwrap());
    assert!(printed(&["checkpoint", "verify", disk.text()]).contains("golden"));
    assert_eq!(printed(&["checkpoint", "diff", disk.text(), "1", copy.text()]), "no difference\n");
    assert_eq!(printed(&["checkpoint", "diff", disk.text(), "1", "golden"]), "no difference\n");

    assert!(refused(&["checkpoint", "format", disk.text()]).contains("has 1 checkpoints"));
    printed(&["checkpoint", "delete", disk.text(), "golden"]);
    printed(&["checkpoint", "format", disk.text()]);
    assert!(refused(&["checkpoint", "get", disk.text(), "1", copy.text()]).contains('1'));
}

/// Such as that of a newer Stasis, or one with a sector that is damaged.
#[test]
fn a_store_that_can_not_be_opened_is_not_replaced_by_an_empty_one() {
    const MAGIC: &[u8] = b"STASISCP";
    let disk = Scratch::new("newer.img");
    printed(&["disk", disk.text(), "--size", "64M"]);
    let bytes = std::fs::read(&disk.0).unwrap();
    let copies = bytes.chunks(512).enumerate().filter(|(_, sector)| sector.starts_with(MAGIC));
    let mut damaged = bytes.clone();
    for (sector, _) in copies {
        damaged[sector * 512 + 100] ^= 1;
    }
    assert!(damaged != bytes);
    std::fs::write(&disk.0, &damaged).unwrap();
    let error = refused(&["checkpoint", "format", disk.text()]);
    assert!(error.contains("has a store that can't be opened: the store's superblock"), "{error}");
    assert!(std::fs::read(&disk.0).unwrap() == damaged);
    printed(&["checkpoint", "format", disk.text(), "--force"]);
    assert_eq!(listed(&disk)["checkpoints"].as_array().unwrap().len(), 0);
}

/// Returns the list of a disk's checkpoints, as a program reads it.
fn listed(disk: &Scratch) -> serde_json::Value {
    serde_json::from_str(&printed(&["checkpoint", "list", disk.text(), "--json"])).unwrap()
}

#[test]
fn an_old_store_is_upgraded_with_all_that_is_in_it() {
    let disk = Scratch::new("old.img");
    // The number of sectors, and then of each that is not zero its number and its bytes.
    let golden = std::fs::read(root().join("tests/golden/store/1.sectors")).unwrap();
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    let mut bytes = vec![0; number(&golden) * 512];
    for sector in golden[4..].chunks_exact(516) {
        bytes[number(sector) * 512..][..512].copy_from_slice(&sector[4..]);
    }
    std::fs::write(&disk.0, bytes).unwrap();
    let before = listed(&disk);
    assert_eq!(before["version"], 1);
    printed(&["checkpoint", "upgrade", disk.text()]);
    let after = listed(&disk);
    assert_eq!(after["version"], 3);
    let names = |list: &serde_json::Value| {
        let all = list["checkpoints"].as_array().unwrap().iter();
        all.map(|one| {
            [&one["number"], &one["name"], &one["bytes"], &one["set"]].map(ToString::to_string)
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(names(&after), names(&before));
    // Each has a map of one block now.
    let freed = |list: &serde_json::Value| {
        let all = list["checkpoints"].as_array().unwrap().iter();
        all.map(|one| one["frees"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(freed(&after) - freed(&before), names(&after).len() as u64 * 4096);
    printed(&["checkpoint", "upgrade", disk.text()]);
    assert_eq!(listed(&disk), after);
}

/// A limit on the size of files ends `get` in the midst of its writing.
#[test]
fn an_older_file_is_whole_when_get_is_killed() {
    let folder = Scratch::new("get-killed");
    std::fs::create_dir(&folder.0).unwrap();
    let (disk, copy) = (folder.0.join("disk.img"), folder.0.join("copy.stasis"));
    let (disk, copy) = (disk.to_str().unwrap(), copy.to_str().unwrap());
    printed(&["disk", disk, "--size", "64M"]);
    printed(&["checkpoint", "put", disk, running().to_str().unwrap(), "golden"]);
    std::fs::write(copy, "older").unwrap();
    let limited = "ulimit -f 8; exec \"$@\"";
    let program = env!("CARGO_BIN_EXE_stasis");
    let mut killed = Command::new("sh");
    killed.args(["-c", limited, "sh", program, "checkpoint", "get", disk, "golden", copy]);
    assert!(!killed.status().unwrap().success());
    assert_eq!(std::fs::read(copy).unwrap(), b"older");
    printed(&["checkpoint", "get", disk, "golden", copy]);
    assert!(std::fs::read(copy).unwrap() == std::fs::read(running()).unwrap());
    std::fs::remove_dir_all(&folder.0).unwrap();
}

/// Returns the golden handler, and the same as another guest, stored at the same time.
fn two_guests(folder: &Path) -> [PathBuf; 2] {
    let path = |name: &str| folder.join(format!("{name}.stasis"));
    let handler = std::fs::read(running()).unwrap();
    std::fs::write(path("handler"), &handler).unwrap();
    std::fs::write(path("another"), renamed(&handler, "another")).unwrap();
    [path("another"), path("handler")]
}

/// Returns the checkpoint of the golden handler, of a guest with another name that is not longer.
fn renamed(bytes: &[u8], name: &str) -> Vec<u8> {
    const OLD: &[u8] = b"handler\0";
    let mut bytes = bytes.to_vec();
    let (header, _) = Header::read_from_prefix(&bytes).unwrap();
    let mut at = header.header_len as usize;
    loop {
        let (record, _) = RecordHeader::read_from_prefix(&bytes[at..]).unwrap();
        let body = at + size_of::<RecordHeader>();
        let end = body + usize::try_from(record.padded_len()).unwrap();
        if let Some(place) = bytes[body..end].windows(OLD.len()).position(|bytes| bytes == OLD) {
            let place = &mut bytes[body + place..][..OLD.len()];
            place.fill(0);
            place[..name.len()].copy_from_slice(name.as_bytes());
            // The store's checksum is the same one, of what follows the first 12 bytes.
            let covered = [&[0; 12], &bytes[at..at + RecordHeader::COVERED], &bytes[body..end]];
            let crc = stasis_store::layout::checksum(&covered.concat());
            let record = RecordHeader { crc, ..record };
            bytes[at..body].copy_from_slice(record.as_bytes());
            return bytes;
        }
        at = end;
    }
}

#[test]
fn a_set_is_moved_as_one_and_a_member_alone_is_none() {
    let folder = Scratch::new("sets");
    std::fs::create_dir(&folder.0).unwrap();
    let path = |name: &str| folder.0.join(name).to_str().unwrap().to_owned();
    let (disk, other) = (path("disk.img"), path("other.img"));
    let [another, handler] = two_guests(&folder.0).map(|path| path.to_str().unwrap().to_owned());
    for disk in [&disk, &other] {
        printed(&["disk", disk, "--size", "64M"]);
    }
    printed(&["checkpoint", "put", &disk, &handler, "evening/late"]);
    let lines = refused(&["checkpoint", "put", &disk, &handler, &handler, "evening/"]);
    assert!(lines.contains("two of them are of one guest"), "{lines}");
    assert!(
        refused(&["checkpoint", "put", &disk, &handler, &another, "x"]).contains("ends with \"/\"")
    );
    assert!(
        refused(&["checkpoint", "put", &disk, &handler, "x/"]).contains("two checkpoints at least")
    );
    printed(&["checkpoint", "put", &disk, &another, &handler, "evening/"]);
    let lines = refused(&["checkpoint", "put", &disk, &another, &handler, "evening/"]);
    assert!(lines.contains("already"), "{lines}");

    // As a whole, to another disk.
    printed(&["checkpoint", "get", &disk, "evening/", &path("taken")]);
    printed(&["checkpoint", "put", &other, &path("taken"), "night/"]);
    let list = printed(&["checkpoint", "list", &other, "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    for (index, name) in ["night/another", "night/handler"].iter().enumerate() {
        let one = &list["checkpoints"][index];
        assert_eq!(one["name"], *name);
        let set = serde_json::json!({ "name": "night", "first": 1, "index": index, "count": 2 });
        assert_eq!(one["set"], set);
    }
    assert!(printed(&["checkpoint", "verify", &other, "night/"]).contains("night/another"));

    // Alone, and it says so.
    let output = run(&["checkpoint", "get", &disk, "evening/handler", &path("alone.stasis")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("one of the 2 of the set \"evening/\""), "{said}");
    printed(&["checkpoint", "put", &other, &path("alone.stasis"), "evening/handler"]);
    refused(&["checkpoint", "delete", &other, "evening/"]);

    // A set that loses a member, and one that is deleted: what is only called so stays.
    let output = run(&["checkpoint", "delete", &other, "night/handler"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("\"night/\" has lost members: 1 of 2 are there"), "{said}");
    printed(&["checkpoint", "delete", &disk, "evening/"]);
    let list = printed(&["checkpoint", "list", &disk]);
    assert!(list.contains("evening/late") && !list.contains("evening/handler"), "{list}");
    std::fs::remove_dir_all(&folder.0).unwrap();
}

/// As `/dev/sdb2` is.
#[test]
fn a_store_may_be_on_a_device_that_is_a_partition() {
    let partition = Scratch::new("partition.img");
    std::fs::File::create(&partition.0).unwrap().set_len(16 << 20).unwrap();
    let file = running();
    let put = ["checkpoint", "put", partition.text(), file.to_str().unwrap(), "golden"];
    refused(&put);
    refused(&["checkpoint", "format", partition.text()]);
    printed(&["checkpoint", "format", partition.text(), "--force"]);
    printed(&put);
    assert!(printed(&["checkpoint", "show", partition.text(), "golden"]).contains("handler"));
}

#[test]
fn show_has_a_table_of_the_interrupts() {
    let text = printed(&["checkpoint", "show", running().to_str().unwrap()]);
    for line in [
        "guest    handler, 1 vCPU",
        "vCPU 0: on, EL1h, masked DAIF, flags ZC",
        "    GICC_PMR             0xf8",
        "        7     0  yes      -        yes     low    edge     0x10      0      0        0 (active)",
        "       27     0  yes      -        -       low    level    0xa0      0      0        -",
    ] {
        assert!(text.lines().any(|found| found == line), "no line \"{line}\" in:\n{text}");
    }
}

#[test]
fn diff_names_registers_interrupts_and_pages() {
    let [one, four] =
        ["one-vcpu", "four-vcpus"].map(|name| format!("tests/golden/1.0/{name}.stasis"));
    let text = printed(&["checkpoint", "diff", &one, &four]);
    assert!(text.contains("    NR_VCPUS             0x01 -> 0x04\n"), "{text}");
    assert!(text.contains("VCPU_CORE, vCPU 3\n"), "{text}");
    let running = running();
    let diff = ["checkpoint", "diff", &one, running.to_str().unwrap(), "--json"];
    let diff: serde_json::Value = serde_json::from_str(&printed(&diff)).unwrap();
    let pc = diff["registers"].as_array().unwrap().iter().find(|change| change["name"] == "PC");
    assert_eq!(pc.unwrap()["old"], "0x0000000040001000");
    assert!(diff["memory"]["pages"].as_u64().unwrap() >= 12);
}

#[test]
fn gdb_opens_a_core_file_with_the_registers_of_each_vcpu_and_the_memory() {
    let core = Scratch::new("core");
    let file = root().join("tests/golden/1.0/four-vcpus.stasis");
    printed(&["checkpoint", "core", file.to_str().unwrap(), core.text()]);
    let gdb = |core: &str, commands: &[&str]| {
        let mut arguments = vec!["-nx", "-batch", "--core", core];
        arguments.extend(commands.iter().flat_map(|command| ["-ex", command]));
        let output = output_of("gdb-multiarch", "gdb-multiarch", &arguments);
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    };
    let text = gdb(
        core.text(),
        &[
            "thread apply all -ascending -q p/x $pc",
            "thread 4",
            "p/x $x30",
            "p/x $fpsr",
            "p/x $v31",
            "x/2xb 0x40000000",
        ],
    );
    // `tests/golden/1.0` has pages of the letter g, and vCPUs that differ by their index in bits
    // [63:32].
    for answer in [
        "0x40001000",
        "0x40001001",
        "0x40001002",
        "0x40001003",
        "0x3abcd001f",
        "0xabcd0060",
        "0x67\t0x67",
    ] {
        assert!(text.contains(answer), "no {answer} in:\n{text}");
    }

    // The guest's MMU is on: all of its RAM is where its tables have it.
    let text = printed(&["checkpoint", "core", running().to_str().unwrap(), core.text()]);
    assert!(text.is_empty(), "{text}");
    let text = gdb(core.text(), &["p/x $sp", "x/i $pc", "x/gx $sp"]);
    assert!(!text.contains("Cannot access"), "{text}");
}
