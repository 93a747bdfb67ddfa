//! Builds the hypervisor's image and the guests. Never both in one run of cargo: features would mix.

use std::path::PathBuf;

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::setup::rust::{GUESTS, HYPERVISOR};
use crate::workspace::{Workspace, cargo, read, write};
use crate::{elf, report, setup};

/// What was built of the hypervisor.
#[derive(Clone, Debug)]
pub struct Hypervisor {
    /// The flat arm64 `Image`.
    pub image: PathBuf,
    /// The same with symbols.
    pub elf: PathBuf,
}

/// Its code reaches each of its variables by one instruction: all but the stacks and the heap are within 1 MiB. Not in cargo's
/// configuration, where it would count for the ArceOS guest, too.
const TINY: &str = "-Ccode-model=tiny";

/// Builds the hypervisor.
pub fn hypervisor(workspace: &Workspace) -> Result<Hypervisor> {
    setup::rust::ensure(workspace)?;
    report::step("building the hypervisor");
    let shell = shell(workspace)?;
    let (cargo, target) = (cargo(), workspace.target());
    let flags = format!("target.{HYPERVISOR}.rustflags=[\"{TINY}\"]");
    cmd!(
        shell,
        "{cargo} build --release --package stasis --target {HYPERVISOR} --target-dir {target} --config {flags}"
    )
    .quiet()
    .run()?;
    let elf = target.join(HYPERVISOR).join("release/stasis");
    let flat = elf::flatten(&read(&elf)?).with_context(|| format!("in {}", elf.display()))?;
    elf::check_image(&flat).with_context(|| format!("in {}", elf.display()))?;
    let image = workspace.folder("stasis")?.join("Image");
    write(&image, &flat)?;
    report::note(format_args!("{}: {}", workspace.show(&image), report::size(flat.len() as u64)));
    Ok(Hypervisor { image, elf })
}

/// The feature of the guests' package without which there is only its library.
pub const BARE_METAL: &str = "bare-metal";

/// Builds the bare-metal guests and returns the folder that has them.
pub fn guests(workspace: &Workspace) -> Result<PathBuf> {
    setup::rust::ensure(workspace)?;
    report::step("building the bare-metal guests");
    let shell = shell(workspace)?;
    let (cargo, target) = (cargo(), workspace.target());
    cmd!(shell, "{cargo} build --release --package stasis-guests --features {BARE_METAL} --bins --target {GUESTS} --target-dir {target}")
        .quiet()
        .run()?;
    Ok(target.join(GUESTS).join("release"))
}

/// Builds the application on ArceOS and returns it as an arm64 `Image`. As an ELF file it has virtual addresses only.
pub fn arceos(workspace: &Workspace) -> Result<Vec<u8>> {
    setup::rust::ensure(workspace)?;
    report::step("building the guest on ArceOS");
    let shell = Shell::new()?;
    // There its configuration of cargo is found.
    shell.change_dir(workspace.root().join("tests/arceos"));
    let (cargo, target) = (cargo(), workspace.folder("arceos")?);
    cmd!(shell, "{cargo} build --release --locked --target {HYPERVISOR} --target-dir {target}")
        .quiet()
        .run()?;
    let elf = target.join(HYPERVISOR).join("release/stasis-arceos");
    let flat = elf::flatten(&read(&elf)?).with_context(|| format!("in {}", elf.display()))?;
    elf::check_image(&flat).with_context(|| format!("in {}", elf.display()))?;
    Ok(flat)
}

/// The names of the bare-metal guests.
pub fn guest_names(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root().join("tests/guests/src/bin");
    let files = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let mut names: Vec<String> = files
        .flatten()
        // A guest is a file, or a folder with a main.rs.
        .filter_map(|file| Some(file.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// A shell in the checkout.
pub fn shell(workspace: &Workspace) -> Result<Shell> {
    let shell = Shell::new()?;
    shell.change_dir(workspace.root());
    Ok(shell)
}
