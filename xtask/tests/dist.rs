//! A release that `cargo xtask dist` makes: what is in it, and that the same sources make the same
//! bytes.

use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::workspace::read;

const NAME: &str = concat!("stasis-", env!("CARGO_PKG_VERSION"));

/// Returns the folder of a release, and the bytes of its archive, which lies beside it.
fn release(out: &Path) -> (PathBuf, Vec<u8>) {
    let name = format!("{NAME}-{}", std::env::consts::ARCH);
    (out.join(&name), read(&out.join(format!("{name}.tar.gz"))).unwrap())
}

/// Checks the release in a folder against its own checksums.
fn check_sums(folder: &Path) {
    let mut command = Command::new("sha256sum");
    let status = command.args(["--quiet", "--check", "SHA256SUMS"]).current_dir(folder).status();
    assert!(status.unwrap().success());
}

#[test]
fn the_texts_of_a_release_are_all_there_and_the_same_wherever_they_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["a", "longer/name"].map(|name| {
        let out = folder.path().join(name);
        std::fs::create_dir_all(&out).unwrap();
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        assert!(xtask.args(["dist", "--texts", "--out"]).arg(&out).status().unwrap().success());
        release(&out)
    });
    assert!(first.1 == second.1, "the archives differ");
    check_sums(&first.0);
    for (name, text) in [
        ("README", "manual/first-hour.html"),
        ("manual/first-hour.html", "<h1 id=\"the-first-hour\">"),
        ("manual/checkpoints.html", "<img src=\"pictures/report.png\""),
        ("man/man1/stasis.1", ".TH stasis 1"),
        ("man/man1/stasis-checkpoint-show.1", ".TH"),
        ("completions/bash", "_clap_complete_stasis"),
        ("examples/counter.toml", "\"../guests/counter\""),
        ("LICENSE-MIT", "Permission is hereby granted"),
    ] {
        let found = String::from_utf8(read(&first.0.join(name)).unwrap()).unwrap();
        assert!(found.contains(text), "{name} has no {text}");
    }
}

/// Makes a release from a copy of what is committed, in a folder of this name, and returns it.
fn whole_release(folder: &Path, name: &str) -> (PathBuf, Vec<u8>) {
    let checkout = folder.join(name);
    std::fs::create_dir_all(&checkout).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let copy = "git -C \"$0\" archive HEAD | tar --extract --directory \"$1\"";
    let status = Command::new("sh").args(["-c", copy]).arg(&root).arg(&checkout).status();
    assert!(status.unwrap().success());
    let mut cargo = Command::new(xtask::workspace::cargo());
    cargo.args(["xtask", "dist"]).current_dir(&checkout).env_remove("CARGO_TARGET_DIR");
    assert!(cargo.status().unwrap().success());
    release(&checkout.join("target/dist"))
}

#[test]
#[ignore = "compiles everything twice"]
fn the_same_sources_make_the_same_bytes_at_two_paths() {
    let folder = tempfile::tempdir().unwrap();
    let first = whole_release(folder.path(), "here");
    let second = whole_release(folder.path(), "somewhere/else/and/longer");
    let sums = [&first, &second].map(|made| read(&made.0.join("SHA256SUMS")).unwrap());
    assert_eq!(String::from_utf8_lossy(&sums[0]), String::from_utf8_lossy(&sums[1]));
    assert!(first.1 == second.1, "the archives differ");
    check_sums(&first.0);
    let path = folder.path().as_os_str().as_encoded_bytes();
    for program in ["Image", "bin/stasis", "bin/stasis-kvm", "guests/counter"] {
        let bytes = read(&first.0.join(program)).unwrap();
        assert!(!bytes.windows(path.len()).any(|part| part == path), "{program} names a path");
    }
}
