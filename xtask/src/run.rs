//! `cargo xtask run`: leaves a person at the console.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::board::Board;
use crate::cli::Options;
use crate::config::{Config, Source};
use crate::qemu::Machine;
use crate::workspace::{Workspace, write};
use crate::{archive, build, disk, report, setup};

/// Runs the command.
pub fn main(workspace: &Workspace, options: Options) -> Result<()> {
    let guest = options.guest.as_deref().unwrap_or("linux");
    setup::qemu::ensure(workspace)?;
    let board = Board::find(workspace, options.board.as_deref())?;
    check(&options, &board)?;
    let config = Config::read(workspace, &config_path(workspace, guest)?)?;
    let machine = if options.plain {
        plain(workspace, &config)?
    } else {
        let image = build::hypervisor(workspace)?.image;
        let archive = archive::from_config(workspace, &config)?;
        let path = workspace.folder("stasis")?.join("run.cpio");
        write(&path, &archive)?;
        let disk = open_disk(workspace, options.disk)?;
        board.check_disk(&disk)?;
        Machine::stasis(image, Some(&path)).disk(disk).board(board)
    };
    let machine = match options.cpus {
        Some(cpus) => machine.cpus(cpus),
        None => machine,
    };
    let machine = match options.memory {
        Some(memory) => machine.memory(memory),
        None => machine,
    };

    if options.plain {
        report::step("starting the guest on QEMU alone; Ctrl-A X ends it");
    } else {
        report::step(
            "starting Stasis; `help` tells its commands, Ctrl-] leaves a guest, Ctrl-A X ends QEMU",
        );
    }
    let status = machine.command().arg("-nographic").status().context("cannot start QEMU")?;
    if !status.success() {
        bail!("QEMU ended with {status}");
    }
    Ok(())
}

/// Whether the options go together.
fn check(options: &Options, board: &Board) -> Result<()> {
    for (option, given) in [
        ("--smp", options.cpus.is_some()),
        ("--memory", options.memory.is_some()),
        ("--plain", options.plain),
    ] {
        ensure!(!given || !board.is_fixed(), "{option} is for the board virt alone");
    }
    Ok(())
}

/// The configuration that a person means: one of `examples/` by its name, or a file.
pub fn config_path(workspace: &Workspace, guest: &str) -> Result<PathBuf> {
    let example = workspace.root().join("examples").join(guest).with_extension("toml");
    if !guest.contains(['/', '.']) && example.exists() {
        return Ok(example);
    }
    let path = Path::new(guest);
    if path.exists() {
        return Ok(path.to_owned());
    }
    bail!("\"{guest}\" is neither an example of examples/ nor a configuration file")
}

fn open_disk(workspace: &Workspace, disk: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(disk) = disk {
        return Ok(disk);
    }
    let path = workspace.target().join("stasis-disk.img");
    if !path.exists() {
        disk::create(&path, disk::DEFAULT_SIZE)?;
        report::step(format_args!("made a disk for checkpoints: {}", workspace.show(&path)));
    }
    Ok(path)
}

/// The first guest on a machine without Stasis.
fn plain(workspace: &Workspace, config: &Config) -> Result<Machine> {
    let folder = workspace.folder("stasis/plain")?;
    let place = |name: &str| -> Result<PathBuf> {
        let source = config.files.iter().find(|(file, _)| file == name);
        match source {
            Some((_, Source::Path(path))) => Ok(path.clone()),
            Some((_, source)) => {
                let path = folder.join(name);
                write(&path, &archive::fetch(workspace, source)?)?;
                Ok(path)
            }
            None => bail!("the configuration has no file \"{name}\""),
        }
    };
    let [guest, ..] = &config.configuration.guests[..] else {
        bail!("the configuration has no guest");
    };
    let initrd = guest.initrd.as_deref().map(place).transpose()?;
    Ok(Machine::plain(place(&guest.image)?, initrd.as_deref())
        .cmdline(guest.cmdline.clone())
        .cpus(guest.vcpus.into())
        .memory(format!("{}M", guest.memory >> 20)))
}
