//! `cargo xtask miri`: the tests of pure crates under Miri, which sees undefined behaviour, also in what they depend on.
//!
//! It takes a nightly compiler and many minutes, so it is no part of `cargo xtask test`.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::report;
use crate::workspace::Workspace;

/// Packages, and what of their tests: the random histories take Miri too long.
const TESTS: [(&str, &[&str]); 4] = [
    ("stasis-hw", &["--lib", "paging"]),
    ("stasis-memory", &["--lib", "concurrent"]),
    ("stasis-state", &["--test", "golden"]),
    ("stasis-vgic", &["--lib", "--", "rule_", "records_that_break"]),
];
/// Tests read documents and golden files; a page table's entry holds an address, which becomes a pointer; a translation's root is
/// kept for ever.
const FLAGS: &str = "-Zmiri-disable-isolation -Zmiri-permissive-provenance -Zmiri-ignore-leaks";
/// Random cases, of the tests that have some.
const CASES: &str = "2";

/// Runs them.
pub fn main(workspace: &Workspace) -> Result<()> {
    let rustup = |arguments: &[&str]| {
        let mut command = Command::new("rustup");
        command.args(arguments).current_dir(workspace.root());
        // Those of the cargo that runs us are another toolchain's.
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
    for (package, tests) in TESTS {
        report::step(format_args!("{package} under Miri"));
        let status = rustup(&["run", "nightly", "cargo", "miri", "test", "--package", package])
            .args(tests)
            .arg("--target-dir")
            .arg(workspace.folder("miri")?)
            .env("MIRIFLAGS", FLAGS)
            .env("PROPTEST_CASES", CASES)
            .status()
            .context("cannot start rustup")?;
        ensure!(status.success(), "{package} has failed under Miri");
    }
    Ok(())
}
