//! `cargo xtask miri`: runs the tests of pure crates under Miri, which finds undefined behaviour in them and in what they depend on.
//!
//! That needs a nightly compiler and takes many minutes, so it is not part of `cargo xtask test`.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::report;
use crate::workspace::Workspace;

/// Packages, and the filters of their tests: random histories would take Miri too long.
const TESTS: [(&str, &[&str]); 4] = [
    ("stasis-hw", &["--lib", "paging"]),
    ("stasis-memory", &["--lib", "concurrent"]),
    ("stasis-state", &["--test", "golden"]),
    ("stasis-vgic", &["--lib", "--", "rule_", "records_that_break"]),
];
/// Miri's flags, and why they are needed: tests read documents and golden files; an entry of a page table holds an address, which becomes a
/// pointer; the root of a translation is kept for ever.
const FLAGS: &str = "-Zmiri-disable-isolation -Zmiri-permissive-provenance -Zmiri-ignore-leaks";
/// Number of random cases, for the tests that have some.
const CASES: &str = "2";

/// Runs the tests.
pub fn main(workspace: &Workspace) -> Result<()> {
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
