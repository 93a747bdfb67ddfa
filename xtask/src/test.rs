//! `cargo xtask test`: checks everything that must hold, and prints one line at the end.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{SigHandler, Signal, signal};
use stasis_tool::suggest::nearest;

use crate::build::BARE_METAL;
use crate::setup::rust::{GUESTS, HYPERVISOR, KVM};
use crate::workspace::{Workspace, cargo};
use crate::{build, report, setup};

/// The package of the tests that boot QEMU.
const QEMU_TESTS: &str = "stasis-qemu-tests";
/// Packages that can be built only for the hypervisor's target.
const BARE: [&str; 3] = ["stasis", "stasis-arch", "stasis-run"];

/// Runs all tests; with `name`, only the tests that boot QEMU and have it in their name.
pub fn main(workspace: &Workspace, name: Option<&str>) -> Result<()> {
    if let Some(name) = name {
        check_name(workspace, name)?;
    }
    heed_signals()?;
    setup::all(workspace)?;
    let mut suite = Suite { workspace, passed: 0, failed: 0, complaints: Vec::new() };
    if name.is_none() {
        let bare = BARE.map(|package| ["--exclude", package]).concat();
        let qemu = ["--exclude", QEMU_TESTS];
        suite.run("formatting", &[&["fmt", "--all", "--check"]]);
        // If one crate fails, the others are tested nevertheless.
        let host = ["test", "--quiet", "--workspace", "--no-fail-fast"];
        suite.run("tests on the host", &[&host, &bare, &qemu]);
        suite.run(
            "clippy on the host's code",
            &[
                &["clippy", "--quiet", "--workspace", "--all-targets"],
                &bare,
                &["--", "-D", "warnings"],
            ],
        );
        for (what, package) in [
            ("clippy on the hypervisor", &["stasis", "--target", HYPERVISOR][..]),
            (
                "clippy on the guests",
                &["stasis-guests", "--features", BARE_METAL, "--target", GUESTS],
            ),
        ] {
            let clippy = ["clippy", "--quiet", "--package"];
            suite.run(what, &[&clippy, package, &["--", "-D", "warnings"]]);
        }
        suite.note("the target of stasis-kvm", setup::rust::ensure_kvm());
        let clippy = ["clippy", "--quiet", "--package", "stasis-kvm", "--target", KVM];
        suite.run("clippy on stasis-kvm", &[&clippy, &["--", "-D", "warnings"]]);
    }
    // The tests build what they boot, too. A failure to build has a line of its own here.
    suite.note("building the hypervisor", build::hypervisor(workspace).map(drop));
    suite.note("building the guests", build::guests(workspace).map(drop));
    let filter: Vec<&str> = name.into_iter().collect();
    suite.run("tests that boot QEMU", &[&["test", "--package", QEMU_TESTS, "--"], &filter]);
    suite.finish()
}

/// Makes SIGINT and SIGHUP end what the tests start, which some do by them. A shell that starts
/// something in the background may have the one ignored, and `nohup` the other, and so does all
/// that is started by that.
fn heed_signals() -> Result<()> {
    for heeded in [Signal::SIGINT, Signal::SIGHUP] {
        // SAFETY: the default is no handler, so none can find something that it must not use.
        unsafe { signal(heeded, SigHandler::SigDfl) }?;
    }
    Ok(())
}

/// Checks that some test has this name, before everything that tests need is built.
fn check_name(workspace: &Workspace, name: &str) -> Result<()> {
    report::step(format_args!("looking for tests with \"{name}\" in their name"));
    let output = Command::new(cargo())
        .args(["test", "--package", QEMU_TESTS, "--", "--list"])
        .current_dir(workspace.root())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    ensure!(output.status.success(), "the tests could not be built");
    let list = String::from_utf8_lossy(&output.stdout);
    match unknown_name(name, &list) {
        None => Ok(()),
        Some(complaint) => bail!(complaint),
    }
}

/// Returns what is wrong with a name that is in no line of the harness's list, such as
/// `disks::no_disk: test`.
fn unknown_name(name: &str, list: &str) -> Option<String> {
    let names = || list.lines().filter_map(|line| line.strip_suffix(": test"));
    if names().any(|known| known.contains(name)) {
        return None;
    }
    let words = names().flat_map(|known| [Some(known), known.split("::").next()]).flatten();
    let near = nearest(name, words);
    Some(format!(
        "no test that boots QEMU has \"{name}\" in its name{near}; `cargo test {name}` runs those on the host"
    ))
}

struct Suite<'a> {
    workspace: &'a Workspace,
    passed: u32,
    failed: u32,
    complaints: Vec<&'static str>,
}

impl Suite<'_> {
    /// Runs cargo, and counts the tests that it reports. A run without tests counts as one.
    fn run(&mut self, what: &'static str, arguments: &[&[&str]]) {
        report::step(what);
        match cargo_counting(self.workspace, &arguments.concat()) {
            Ok(Outcome { success, passed: 0, failed: 0 }) => {
                self.note(what, if success { Ok(()) } else { Err(anyhow::anyhow!("it failed")) });
            }
            Ok(Outcome { success, passed, failed }) => {
                self.passed += passed;
                // Cargo may fail although all of its tests have passed, or before it has run any.
                self.failed += failed.max(u32::from(!success));
                if !success {
                    self.complaints.push(what);
                }
            }
            Err(error) => self.note(what, Err(error)),
        }
    }

    fn note(&mut self, what: &'static str, result: Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                report::error(format_args!("{what}: {error:#}"));
                self.failed += 1;
                self.complaints.push(what);
            }
        }
    }

    fn finish(self) -> Result<()> {
        report::print(|out| writeln!(out, "{} passed, {} failed", self.passed, self.failed))?;
        match &self.complaints[..] {
            [] => Ok(()),
            complaints => bail!("not all is well: {}", complaints.join(", ")),
        }
    }
}

struct Outcome {
    success: bool,
    passed: u32,
    failed: u32,
}

fn cargo_counting(workspace: &Workspace, arguments: &[&str]) -> Result<Outcome> {
    let mut child = Command::new(cargo())
        .args(arguments)
        .current_dir(workspace.root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo was started without a pipe")?;
    let (mut passed, mut failed) = (0, 0);
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        report::print(|out| {
            out.write_all(&line)?;
            out.write_all(b"\n")
        })?;
        if let Some(counts) = counts(&String::from_utf8_lossy(&line)) {
            passed += counts.0;
            failed += counts.1;
        }
    }
    Ok(Outcome { success: child.wait()?.success(), passed, failed })
}

/// Returns how many tests have passed and failed by a line such as `test result: ok. 24 passed; 1
/// failed; 0 ignored; ...`.
fn counts(line: &str) -> Option<(u32, u32)> {
    let rest = line.trim_start().strip_prefix("test result: ")?;
    let number = |unit: &str| {
        let before = &rest[..rest.find(unit)?];
        before.split_whitespace().next_back()?.parse().ok()
    };
    Some((number(" passed")?, number(" failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_test_has_is_answered_with_the_nearest() {
        let list = "disks::no_disk: test\nconsole::help: test\n\n2 tests, 0 benchmarks\n";
        assert_eq!(unknown_name("no_d", list), None);
        assert_eq!(unknown_name("console", list), None);
        let complaint = unknown_name("disk::", list).unwrap();
        assert!(
            complaint.contains("has \"disk::\" in its name, did you mean \"disks\"?"),
            "{complaint}"
        );
        assert!(!unknown_name("xyzzy", list).unwrap().contains("did you mean"));
    }

    #[test]
    fn the_tests_are_counted_from_their_own_last_line() {
        let line =
            "test result: FAILED. 24 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out";
        assert_eq!(counts(line), Some((24, 1)));
        assert_eq!(counts("running 24 tests"), None);
        assert_eq!(counts("test result: what?"), None);
    }
}
