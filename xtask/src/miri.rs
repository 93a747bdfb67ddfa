//! `cargo xtask miri`: runs tests under Miri, which finds undefined behaviour in them and in what
//! they depend on.
//!
//! The crates that have unsafe code and tests on the host run all of them ([`unsafe_crates`]).
//! Those of [`SAFE`] run some for the unsafe code in what they depend on. That needs a nightly
//! compiler and takes many minutes, so it is not part of `cargo xtask test`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::report;
use crate::workspace::Workspace;

/// Crates without unsafe code, and the filters of their tests: random histories, and checkpoints of
/// whole memories, would take Miri too long.
const SAFE: [(&str, &[&str]); 2] = [
    ("state", &["--test", "golden", "--", "every_golden_file", "a_file_of"]),
    ("vgic", &["--lib", "--", "rule_", "records_that_break"]),
];
/// Miri's flags, and why they are needed: tests read documents and golden files; an entry of a page
/// table and a descriptor of virtio's hold an address, which becomes a pointer; the root of a
/// translation and the memory of a disk are kept for ever. And guests access a word by its bytes:
/// where an atomic store is of a part of what one before it was of, Miri itself panics in what it
/// makes of weak memory (nightly of 2026-05-19). loom tries weak memory, in `cores`.
const FLAGS: &str = "-Zmiri-disable-isolation -Zmiri-permissive-provenance -Zmiri-ignore-leaks \
    -Zmiri-disable-weak-memory-emulation";
/// Number of random cases, for the tests that have some.
const CASES: &str = "2";

/// Runs the tests of these crates; of all if none is named.
///
/// # Errors
///
/// A crate has no tests for Miri, Miri is not there, or a test has failed.
pub fn main(workspace: &Workspace, only: &[String]) -> Result<()> {
    let found = unsafe_crates(workspace.root())?;
    let chosen = choose(&found, only)?;
    let rustup = |arguments: &[&str]| {
        let mut command = Command::new("rustup");
        command.args(arguments).current_dir(workspace.root());
        // The variables of the cargo that runs this program name another toolchain.
        for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
            command.env_remove(variable);
        }
        command
    };
    let status = rustup(&["+nightly", "component", "add", "miri", "rust-src"])
        .status()
        .context("Miri comes by rustup, which is not there")?;
    ensure!(
        status.success(),
        "rustup could not add Miri; `rustup toolchain install nightly` may help"
    );
    for (name, tests) in chosen {
        report::step(format_args!("{name} under Miri"));
        let status = rustup(&["run", "nightly", "cargo", "miri", "test"])
            .args(["--package", &format!("stasis-{name}")])
            .arg("--target-dir")
            .arg(workspace.folder("miri")?)
            .args(tests)
            .env("MIRIFLAGS", FLAGS)
            .env("PROPTEST_CASES", CASES)
            .status()
            .context("cannot start rustup")?;
        ensure!(status.success(), "{name} has failed under Miri");
    }
    Ok(())
}

/// A crate, and the arguments that say which of its tests run.
type Tests<'a> = (&'a str, &'a [&'a str]);

/// Returns those of the crates with tests that `only` names, or all: the ones with unsafe code,
/// and those of [`SAFE`].
///
/// # Errors
///
/// A name of `only` that none of them has.
fn choose<'a>(with_unsafe: &'a [String], only: &[String]) -> Result<Vec<Tests<'a>>> {
    let with_unsafe = with_unsafe.iter().map(|name| (name.as_str(), ["--lib"].as_slice()));
    let all: Vec<Tests<'_>> = with_unsafe.chain(SAFE).collect();
    let known: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    for name in only {
        ensure!(
            known.contains(&name.as_str()),
            "no tests of {name:?} run under Miri; those of {} do",
            known.join(", ")
        );
    }
    let is_wanted = |name: &str| only.is_empty() || only.iter().any(|wanted| wanted == name);
    Ok(all.into_iter().filter(|(name, _)| is_wanted(name)).collect())
}

/// Returns the crates of `hypervisor/` that may have unsafe code and whose tests run on the host,
/// in the order of their names: what they say of both stands at the head of their `lib.rs`.
fn unsafe_crates(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(root.join("hypervisor"))? {
        let folder = folder?;
        let Ok(head) = std::fs::read_to_string(folder.path().join("src/lib.rs")) else { continue };
        let is_safe = head.contains("#![forbid(unsafe_code)]");
        if !is_safe && head.contains("#![cfg_attr(not(test), no_std)]") {
            found.push(folder.file_name().to_string_lossy().into_owned());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crates_with_unsafe_code_that_the_host_can_test_are_found() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert_eq!(unsafe_crates(root).unwrap(), ["hw", "memory"]);
    }

    #[test]
    fn all_crates_run_or_those_that_are_named() {
        let found = ["hw".to_owned()];
        let names = |only: &[&str]| -> Result<Vec<&str>> {
            let only: Vec<_> = only.iter().map(ToString::to_string).collect();
            Ok(choose(&found, &only)?.iter().map(|(name, _)| *name).collect())
        };
        assert_eq!(names(&[]).unwrap(), ["hw", "state", "vgic"]);
        assert_eq!(names(&["vgic", "hw"]).unwrap(), ["hw", "vgic"]);
        let error = names(&["hw", "gic"]).unwrap_err().to_string();
        assert_eq!(error, "no tests of \"gic\" run under Miri; those of hw, state, vgic do");
    }
}
