//! Builds the hypervisor's image, the guests, and `stasis-kvm`. One run of cargo never builds both,
//! because their features would mix.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use xshell::{Shell, cmd};

use crate::setup::rust::{GUESTS, HYPERVISOR, KVM};
use crate::workspace::{Workspace, cargo, read, write};
use crate::{elf, report, setup};

/// The files of a built hypervisor.
#[derive(Clone, Debug)]
pub struct Hypervisor {
    /// Path of the flat arm64 `Image`.
    pub image: PathBuf,
    /// Path of the ELF file with the symbols.
    pub elf: PathBuf,
}

/// The code model in which code reaches each variable by one instruction: everything but the stacks
/// and the heap is within 1 MiB. It is not in cargo's configuration, where it would also apply to
/// the ArceOS guest.
const TINY: &str = "-Ccode-model=tiny";

/// What the linker's optimizer of the whole image does besides: functions that are built for size
/// have their prologues and epilogues in common.
const SMALL: &str = "-Cllvm-args=-homogeneous-prolog-epilog";

/// The environment's word for a [quick](Quick) build.
const QUICK: &str = "STASIS_QUICK";

/// Whether the hypervisor is built in seconds, as one works on it: crate by crate, larger and
/// slower than what is released.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Quick {
    /// As it is released.
    #[default]
    No,
    /// In Cargo's profile `quick`.
    Yes,
}

impl Quick {
    /// Returns what the environment asks for.
    pub fn from_environment() -> Self {
        match std::env::var(QUICK) {
            Ok(value) if !value.is_empty() && value != "0" => Self::Yes,
            _ => Self::No,
        }
    }

    /// Returns how many instructions may be executed of what takes `limit` at the most in the image
    /// that is released. A quick image takes up to three times as many.
    pub fn limit(self, limit: u64) -> u64 {
        match self {
            Self::No => limit,
            Self::Yes => 3 * limit,
        }
    }

    /// Returns the name of Cargo's profile, which is also that of its folder.
    fn profile(self) -> &'static str {
        match self {
            Self::No => "release",
            Self::Yes => "quick",
        }
    }

    /// Returns the flags of the compiler. A quick image is too large for [`TINY`].
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::No => &[TINY],
            Self::Yes => &[],
        }
    }

    /// Returns the flags of the compiler for the crate of the image alone, where the whole image is
    /// optimized. A quick image is not.
    fn flags_of_image(self) -> &'static [&'static str] {
        match self {
            Self::No => &[SMALL],
            Self::Yes => &[],
        }
    }
}

/// What the image is for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Edition {
    /// All that Stasis can do.
    #[default]
    Full,
    /// Partitions alone: no console, channel, debugger or store.
    Lean,
}

impl Edition {
    /// Returns what a person asks for by `--lean`.
    pub fn of(lean: bool) -> Self {
        if lean { Self::Lean } else { Self::Full }
    }

    /// Returns cargo's options for the features.
    fn features(self) -> &'static [&'static str] {
        match self {
            Self::Full => &[],
            Self::Lean => &["--no-default-features"],
        }
    }

    /// Returns the name of the folder of the image and its symbols.
    fn folder(self) -> &'static str {
        match self {
            Self::Full => "stasis",
            Self::Lean => "stasis/lean",
        }
    }
}

/// How something is compiled.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The folder of what cargo makes.
    pub target: PathBuf,
    /// Flags of the compiler beside those that each thing has.
    pub flags: Vec<String>,
    /// Whether the hypervisor is to be there soon rather than small.
    pub quick: Quick,
    /// What the hypervisor's image is for.
    pub edition: Edition,
}

impl Settings {
    /// Returns the settings of the checkout's own builds.
    fn usual(workspace: &Workspace) -> Self {
        let quick = Quick::from_environment();
        Self { target: workspace.target().to_owned(), quick, ..Self::default() }
    }

    /// Returns the settings of a build that is measured.
    ///
    /// # Errors
    ///
    /// The environment asks for a quick build, whose numbers are nobody's.
    fn measured(workspace: &Workspace) -> Result<Self> {
        let usual = Self::usual(workspace);
        ensure!(usual.quick == Quick::No, "{QUICK} builds what is not measured: unset it");
        Ok(usual)
    }

    /// Returns cargo's setting for the compiler's flags for a target, with `own` before the others.
    fn rustflags(&self, target: &str, own: &[&str]) -> String {
        let own = own.iter().map(|flag| (*flag).to_owned());
        let flags: Vec<String> = own.chain(self.flags.iter().cloned()).collect();
        format!("target.{target}.rustflags={flags:?}")
    }
}

/// Builds the hypervisor, and returns its files.
pub fn hypervisor(workspace: &Workspace) -> Result<Hypervisor> {
    hypervisor_with(workspace, &Settings::usual(workspace))
}

/// Builds the hypervisor for this purpose, and returns its files.
pub fn hypervisor_for(workspace: &Workspace, edition: Edition) -> Result<Hypervisor> {
    hypervisor_with(workspace, &Settings { edition, ..Settings::usual(workspace) })
}

/// Builds the hypervisor as it is released, for this purpose, and returns its files.
///
/// # Errors
///
/// The environment asks for a quick build, or the build fails.
pub fn measured_hypervisor(workspace: &Workspace, edition: Edition) -> Result<Hypervisor> {
    hypervisor_with(workspace, &Settings { edition, ..Settings::measured(workspace)? })
}

/// Builds the hypervisor in this way, and returns its files.
pub fn hypervisor_with(workspace: &Workspace, settings: &Settings) -> Result<Hypervisor> {
    setup::rust::ensure(workspace)?;
    report::step(match settings.edition {
        Edition::Full => "building the hypervisor",
        Edition::Lean => "building the lean hypervisor",
    });
    let shell = shell(workspace)?;
    let (cargo, target) = (cargo(), &settings.target);
    let flags = settings.rustflags(HYPERVISOR, settings.quick.flags());
    let (profile, features) = (settings.quick.profile(), settings.edition.features());
    let of_image = settings.quick.flags_of_image();
    cmd!(
        shell,
        "{cargo} rustc --profile {profile} --package stasis --bin stasis {features...} --target {HYPERVISOR} --target-dir {target} --config {flags} -- {of_image...}"
    )
    .quiet()
    .run()?;
    let folder = target.join(settings.edition.folder());
    std::fs::create_dir_all(&folder).context("cannot make the image's folder")?;
    let elf = keep_elf(target.join(HYPERVISOR).join(profile).join("stasis"), &folder, settings)?;
    let flat = elf::flatten(&read(&elf)?).with_context(|| format!("in {}", elf.display()))?;
    elf::check_image(&flat).with_context(|| format!("in {}", elf.display()))?;
    let image = folder.join("Image");
    write(&image, &flat)?;
    report::note(format_args!("{}: {}", workspace.show(&image), report::size(flat.len() as u64)));
    Ok(Hypervisor { image, elf })
}

/// Returns the path of the ELF file that cargo has made. That of a lean image is a copy: the next
/// build of the whole one has the same name.
fn keep_elf(made: PathBuf, folder: &Path, settings: &Settings) -> Result<PathBuf> {
    if settings.edition == Edition::Full {
        return Ok(made);
    }
    let kept = folder.join("stasis");
    std::fs::copy(&made, &kept).with_context(|| format!("cannot copy {}", made.display()))?;
    Ok(kept)
}

/// The feature of the guests' package that its programs need; without it there is only its library.
pub const BARE_METAL: &str = "bare-metal";

/// Builds the bare-metal guests, and returns the folder with their files.
pub fn guests(workspace: &Workspace) -> Result<PathBuf> {
    guests_with(workspace, &Settings::usual(workspace))
}

/// Builds the bare-metal guests in this way, and returns the folder with their files.
pub fn guests_with(workspace: &Workspace, settings: &Settings) -> Result<PathBuf> {
    setup::rust::ensure(workspace)?;
    report::step("building the bare-metal guests");
    let shell = shell(workspace)?;
    let (cargo, target) = (cargo(), &settings.target);
    let flags = settings.rustflags(GUESTS, &[]);
    let config: &[&str] = if settings.flags.is_empty() { &[] } else { &["--config", &flags] };
    cmd!(shell, "{cargo} build --release --package stasis-guests --features {BARE_METAL} --bins --target {GUESTS} --target-dir {target} {config...}")
        .quiet()
        .run()?;
    Ok(target.join(GUESTS).join("release"))
}

/// The profile of what is carried to another machine.
const CARRIED: &str = "carried";

/// The flag of a program that is linked with the C library that comes with its target.
const SELF_CONTAINED: &str = "-Clink-self-contained=yes";

/// Returns the settings of cargo for a program of this target that is carried to another machine:
/// the linker that comes with Rust, and the C library that comes with the target.
fn carried_config(target: &str, settings: &Settings) -> [String; 2] {
    let linker = format!("target.{target}.linker=\"rust-lld\"");
    [linker, settings.rustflags(target, &[SELF_CONTAINED])]
}

/// Builds `stasis-kvm`, a static program for Linux on arm64, and returns its path.
pub fn kvm(workspace: &Workspace) -> Result<PathBuf> {
    carried(workspace, "stasis-kvm", "stasis-kvm", KVM, &Settings::usual(workspace))
}

/// Builds a program that is static, for a Linux of this target, and returns its path.
pub fn carried(
    workspace: &Workspace,
    package: &str,
    program: &str,
    target: &str,
    settings: &Settings,
) -> Result<PathBuf> {
    setup::rust::ensure_static(target)?;
    report::step(format_args!("building {program}"));
    let shell = shell(workspace)?;
    let (cargo, folder) = (cargo(), &settings.target);
    let [linker, flags] = carried_config(target, settings);
    cmd!(
        shell,
        "{cargo} build --profile {CARRIED} --package {package} --bin {program} --target {target} --target-dir {folder} --config {linker} --config {flags}"
    )
    .quiet()
    .run()?;
    let built = folder.join(target).join(CARRIED).join(program);
    let size = std::fs::metadata(&built).with_context(|| format!("there is no {program}"))?.len();
    report::note(format_args!("{}: {}", workspace.show(&built), report::size(size)));
    Ok(built)
}

/// Builds the application on ArceOS, and returns it as an arm64 `Image`, because its ELF file has
/// only virtual addresses.
pub fn arceos(workspace: &Workspace) -> Result<Vec<u8>> {
    setup::rust::ensure(workspace)?;
    report::step("building the guest on ArceOS");
    let shell = Shell::new()?;
    // Cargo finds its configuration in this folder.
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

/// Returns the names of the bare-metal guests.
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

/// Returns a shell in the checkout.
pub fn shell(workspace: &Workspace) -> Result<Shell> {
    let shell = Shell::new()?;
    shell.change_dir(workspace.root());
    Ok(shell)
}
