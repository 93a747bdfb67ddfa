//! Programs that only tests run: gdb-multiarch, which opens core files, lldb, which debugs guests
//! as gdb does, Python, which runs a reader of the format, Chromium, which shows reports, and the
//! shells that complete commands.

use std::process::{Command, Stdio};

use super::debian::output;
use crate::report;

/// The names of each program and of its package.
const TOOLS: [(&str, &str); 6] = [
    ("gdb-multiarch", "gdb-multiarch"),
    ("lldb-19", "lldb-19"),
    ("python3", "python3"),
    ("chromium", "chromium"),
    ("zsh", "zsh"),
    ("fish", "fish"),
];

/// Installs the programs that are missing, if that is possible. If not, the tests that need them
/// say so.
pub fn ensure() {
    for (program, package) in TOOLS {
        if output(Command::new(program).arg("--version")).is_err() {
            report::step(format_args!("installing {package}"));
            if !install(package) {
                report::warn(format_args!(
                    "{program} is missing, and some tests need it: as root, `apt-get install {package}`"
                ));
            }
        }
    }
}

/// Installs a package, and returns whether that has worked. The package lists may be old or
/// missing.
fn install(package: &str) -> bool {
    let apt = |arguments: &[&str]| {
        let status = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::from(std::io::stderr()))
            .status();
        status.is_ok_and(|status| status.success())
    };
    let wanted = ["--quiet", "install", "--yes", "--no-install-recommends", package];
    apt(&wanted) || apt(&["--quiet", "update"]) && apt(&wanted)
}
