//! The files that commands make: there whole or not at all, so that a failure is in nobody's way.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use stasis_tool::disk::lock::{self, Access};

fn golden() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/1.0/one-vcpu.stasis");
    path.to_str().unwrap().to_owned()
}

/// Runs a command in a folder, with files of at most 512 times `blocks` bytes: a write beyond is an
/// error.
fn run(folder: &Path, blocks: &str, words: &[&str]) -> Output {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    Command::new("bash")
        .args(["-c", &script, env!("CARGO_BIN_EXE_stasis")])
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn complaints(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn names(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_command_that_fails_leaves_no_file_and_the_next_try_is_not_in_its_way() {
    let golden = golden();
    for (words, succeeds) in [
        (vec!["disk", "it", "--size", "64M"], vec!["disk", "it", "--size", "64M"]),
        // Too small for a partition table with a store.
        (vec!["disk", "it", "--size", "8K"], vec!["disk", "it", "--size", "64M"]),
        (vec!["checkpoint", "core", &golden, "it"], vec!["checkpoint", "core", &golden, "it"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let limit = if words.contains(&"8K") { "unlimited" } else { "4" };
        let failed = run(folder.path(), limit, &words);
        assert!(!failed.status.success(), "{words:?}");
        assert!(names(folder.path()).is_empty(), "{words:?}: {:?}", names(folder.path()));
        let again = run(folder.path(), "unlimited", &succeeds);
        assert!(again.status.success(), "{succeeds:?}: {}", complaints(&again));
    }
}

#[test]
fn an_older_file_is_replaced_aloud_and_a_disk_never() {
    let folder = tempfile::tempdir().unwrap();
    let golden = golden();
    let core = ["checkpoint", "core", &golden, "it"];
    assert!(!complaints(&run(folder.path(), "unlimited", &core)).contains("older"));
    let again = run(folder.path(), "unlimited", &core);
    assert!(
        complaints(&again).contains("it: an older file was replaced"),
        "{}",
        complaints(&again)
    );
    let disk = run(folder.path(), "unlimited", &["disk", "it", "--size", "64M"]);
    assert!(!disk.status.success());
    assert!(complaints(&disk).contains("it is there already; remove it first if it may go"));
}

/// A machine that runs would go on with a file that has no name any more.
#[test]
fn a_disk_that_somebody_has_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let golden = golden();
    let run = |words: &[&str]| run(folder.path(), "unlimited", words);
    assert!(run(&["disk", "disk.img", "--size", "64M"]).status.success());
    assert!(run(&["checkpoint", "put", "disk.img", &golden, "it"]).status.success());
    let before = std::fs::read(folder.path().join("disk.img")).unwrap();
    // The command itself has it, as it reads the checkpoint there.
    let failed = run(&["checkpoint", "get", "disk.img", "it", "disk.img"]);
    let said = complaints(&failed);
    assert!(!failed.status.success(), "{said}");
    assert!(said.contains("disk.img is in use: this command itself has it open"), "{said}");
    let machine = lock::open(&folder.path().join("disk.img"), Access::Exclusive).unwrap();
    let failed = run(&["checkpoint", "core", &golden, "disk.img"]);
    let said = complaints(&failed);
    assert!(!failed.status.success() && said.contains("disk.img is in use: outputs"), "{said}");
    drop(machine);
    assert!(std::fs::read(folder.path().join("disk.img")).unwrap() == before);
    assert_eq!(names(folder.path()).len(), 1, "{:?}", names(folder.path()));
}
