//! `cargo xtask test`: everything that must hold, and one line in the end.

use anyhow::{Result, bail};
use xshell::{Cmd, cmd};

use crate::setup::rust::{GUESTS, HYPERVISOR};
use crate::workspace::{Workspace, cargo};
use crate::{build, report, setup};

/// The package with the tests that boot QEMU.
const QEMU_TESTS: &str = "stasis-qemu-tests";

/// Runs all tests, or of those that boot QEMU the ones with `name` in their name.
pub fn main(workspace: &Workspace, name: Option<&str>) -> Result<()> {
    setup::all(workspace)?;
    let shell = build::shell(workspace)?;
    let (cargo, target) = (cargo(), workspace.target());
    let bare = ["--exclude", "stasis", "--exclude", "stasis-guests", "--exclude", "stasis-arch"];
    let mut suite = Suite::default();
    if name.is_none() {
        suite.run("the code is formatted", cmd!(shell, "{cargo} fmt --all --check"));
        suite.run("unit tests on the host", cmd!(shell, "{cargo} test --quiet"));
        suite.run(
            "clippy, on what runs on the host",
            cmd!(
                shell,
                "{cargo} clippy --quiet --workspace {bare...} --all-targets -- -D warnings"
            ),
        );
        suite.run(
            "clippy, on the hypervisor",
            cmd!(shell, "{cargo} clippy --quiet --package stasis --target {HYPERVISOR} --target-dir {target} -- -D warnings"),
        );
        suite.run(
            "clippy, on the guests",
            cmd!(shell, "{cargo} clippy --quiet --package stasis-guests --target {GUESTS} --target-dir {target} -- -D warnings"),
        );
    }
    // The tests build what they boot; here a failure has a name of its own.
    suite.count("the hypervisor builds", build::hypervisor(workspace).map(drop));
    suite.count("the guests build", build::guests(workspace).map(drop));
    suite.run(
        "tests that boot QEMU",
        cmd!(shell, "{cargo} test --package {QEMU_TESTS} -- {name...}"),
    );
    suite.finish()
}

#[derive(Default)]
struct Suite {
    passed: u32,
    failed: Vec<String>,
}

impl Suite {
    fn run(&mut self, what: &str, command: Cmd<'_>) {
        report::step(what);
        self.count(what, command.quiet().run().map_err(anyhow::Error::new));
    }

    fn count(&mut self, what: &str, result: Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                report::error(format_args!("{what}: {error:#}"));
                self.failed.push(what.to_owned());
            }
        }
    }

    fn finish(self) -> Result<()> {
        let Self { passed, failed } = self;
        println!("{passed} passed, {} failed", failed.len());
        if failed.is_empty() {
            return Ok(());
        }
        bail!("failed: {}", failed.join("; "))
    }
}
