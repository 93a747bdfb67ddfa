//! A QEMU that has all the boards: `raspi4b` is in version 9 and later.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::debian::{Debian, option, output};
use crate::report;
use crate::workspace::{Workspace, write};

/// The name of QEMU's program.
pub const PROGRAM: &str = "qemu-system-aarch64";

const BOARD: &str = "raspi4b";
/// The package of [`PROGRAM`].
pub(super) const PACKAGE: &str = "qemu-system-arm";

/// Installs QEMU if there is no suitable one.
pub fn ensure(workspace: &Workspace) -> Result<()> {
    let Some(lack) = lack() else {
        return Ok(());
    };
    report::step(format_args!("installing QEMU: {lack}"));
    install(workspace).with_context(|| {
        format!("{lack}, and it could not be installed. Install QEMU 9 or newer: {}", advice())
    })?;
    match self::lack() {
        None => Ok(()),
        Some(lack) => bail!("{lack}, even after the installation: is another one first in PATH?"),
    }
}

/// Returns what is wrong with the present QEMU, if anything.
fn lack() -> Option<String> {
    match output(Command::new(PROGRAM).args(["-machine", "help"])) {
        Err(_) => Some(format!("{PROGRAM} is missing")),
        Ok(boards) if has_board(&boards) => None,
        Ok(_) => Some(format!("{PROGRAM} does not know the board {BOARD}")),
    }
}

fn has_board(boards: &str) -> bool {
    boards.lines().any(|line| line.split_whitespace().next() == Some(BOARD))
}

/// Returns what a person can type if this program cannot install QEMU.
fn advice() -> String {
    let manager = |name: &str| Path::new("/usr/bin").join(name).exists();
    if manager("apt-get") {
        format!(
            "as root, `apt-get install {PACKAGE}`, on a Debian that is older than 13 with `-t <its name>-backports` and that suite in the sources"
        )
    } else if manager("dnf") {
        "`sudo dnf install qemu-system-aarch64`".to_owned()
    } else if manager("pacman") {
        "`sudo pacman -S qemu-system-aarch64`".to_owned()
    } else {
        format!("it must bring the program {PROGRAM}")
    }
}

/// Installs QEMU from this release or its backports. A list of our own has the sources of the
/// release together with those of the backports.
fn install(workspace: &Workspace) -> Result<()> {
    let user = output(Command::new("id").arg("-u"))?;
    ensure!(user.trim() == "0", "only root can install packages");
    let debian = Debian::find(workspace)?;
    let backports = format!("{}-backports", debian.codename);
    let folder = workspace.folder("setup/apt-qemu")?;
    let lists = workspace.folder("setup/apt-qemu/lists")?;
    let sources = folder.join("sources.list");
    let both = [debian.source(&debian.codename), debian.source(&backports)].concat();
    write(&sources, both.as_bytes())?;

    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        for (name, value) in [
            ("Dir::Etc::sourcelist", sources.as_path()),
            ("Dir::Etc::sourceparts", Path::new("/dev/null")),
            ("Dir::State::lists", lists.as_path()),
            ("APT::Sandbox::User", Path::new("")),
        ] {
            command.arg("-o").arg(option(name, value));
        }
        let status = command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::from(std::io::stderr()))
            .status()
            .context("cannot start apt-get")?;
        ensure!(status.success(), "apt-get {} failed", arguments.join(" "));
        Ok(())
    };
    apt(&["--quiet", "update"])?;
    apt(&["--quiet", "install", "--yes", "--no-install-recommends", "-t", &backports, PACKAGE])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_board_is_recognised_by_its_whole_name() {
        assert!(has_board("raspi3b    Raspberry Pi 3B\nraspi4b    Raspberry Pi 4B\n"));
        assert!(!has_board("raspi4bx   Another\nvirt   raspi4b\n"));
    }
}
