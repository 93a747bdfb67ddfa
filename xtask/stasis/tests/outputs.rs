//! The files that commands make: there whole or not at all, so that a failure is in nobody's way.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
