//! The Rust targets: the hypervisor's, without SIMD registers, and the guests'.
//!
//! Where rustup cannot install a target, the core library is built from Debian's `rust-src` of the
//! same version and put beside the compiler. From then on the target is an ordinary one.
//! `STASIS_NO_RUSTUP=1` does not try rustup.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::debian::{Debian, output};
use crate::report;
use crate::workspace::{Workspace, cargo, write};

/// The hypervisor's target. Its code does not touch the guest's SIMD registers.
pub const HYPERVISOR: &str = "aarch64-unknown-none-softfloat";
/// The guests' target.
pub const GUESTS: &str = "aarch64-unknown-none";
/// The target of `stasis-kvm`: Linux, with a C library that is linked into the program.
pub const KVM: &str = "aarch64-unknown-linux-musl";

/// The libraries of a target without an operating system.
const LIBRARIES: [&str; 3] = ["core", "alloc", "compiler_builtins"];

/// Installs the targets that are missing.
pub fn ensure(workspace: &Workspace) -> Result<()> {
    let compiler = Compiler::find()?;
    let lacking: Vec<&str> =
        [HYPERVISOR, GUESTS].into_iter().filter(|target| !compiler.has(target)).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let targets = lacking.join(" and ");
    report::step(format_args!("installing the Rust targets {targets}"));
    if let Err(error) = rustup(&lacking) {
        report::note(format_args!("{error:#}; building them from Debian's rust-src instead"));
        build(workspace, &compiler, &lacking).with_context(|| {
            let version = &compiler.version;
            format!("the Rust targets {targets} of version {version} could be neither installed nor built")
        })?;
    }
    match lacking.iter().find(|target| !compiler.has(target)) {
        None => Ok(()),
        Some(target) => bail!("{target} was installed, but not for {}", compiler.sysroot.display()),
    }
}

/// Installs the target of `stasis-kvm`, which has the standard library, and is not built here.
pub fn ensure_kvm() -> Result<()> {
    ensure_static(KVM)
}

/// Installs a target of programs that have the C library in them. It has the standard library, and
/// is not built here.
pub fn ensure_static(target: &str) -> Result<()> {
    if Compiler::find()?.has(target) {
        return Ok(());
    }
    report::step(format_args!("installing the Rust target {target}"));
    rustup(&[target]).with_context(|| {
        format!("the Rust target {target} is lacking; `rustup target add {target}` installs it")
    })
}

/// Returns the folder of the compiler.
pub fn sysroot() -> Result<PathBuf> {
    Ok(Compiler::find()?.sysroot)
}

struct Compiler {
    version: String,
    sysroot: PathBuf,
}

impl Compiler {
    fn find() -> Result<Self> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let sysroot = output(Command::new(&rustc).args(["--print", "sysroot"]))?;
        let about = output(Command::new(&rustc).arg("-vV"))?;
        let version = about
            .lines()
            .find_map(|line| line.strip_prefix("release: "))
            .context("rustc does not tell its version")?;
        Ok(Self { version: version.to_owned(), sysroot: sysroot.trim().into() })
    }

    fn libraries(&self, target: &str) -> PathBuf {
        self.sysroot.join("lib/rustlib").join(target).join("lib")
    }

    fn has(&self, target: &str) -> bool {
        let Ok(files) = std::fs::read_dir(self.libraries(target)) else {
            return false;
        };
        let names: Vec<String> =
            files.flatten().map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        LIBRARIES.iter().all(|library| names.iter().any(|name| is_library(name, library)))
    }
}

fn is_library(file: &str, library: &str) -> bool {
    file.strip_prefix("lib")
        .and_then(|name| name.strip_prefix(library))
        .is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".rlib"))
}

fn rustup(targets: &[&str]) -> Result<()> {
    if std::env::var_os("STASIS_NO_RUSTUP").is_some_and(|value| value == "1") {
        bail!("STASIS_NO_RUSTUP is set");
    }
    let status = Command::new("rustup")
        .args(["target", "add"])
        .args(targets)
        .stdin(Stdio::null())
        .status()
        .context("there is no rustup")?;
    ensure!(status.success(), "rustup could not add the targets");
    Ok(())
}

fn build(workspace: &Workspace, compiler: &Compiler, targets: &[&str]) -> Result<()> {
    let source = Source::provide(workspace, compiler)?;
    let scratch = workspace.folder("setup/core")?;
    std::fs::create_dir_all(scratch.join("src"))?;
    // The package is a workspace of its own: it lies within the project's, but does not belong to
    // it.
    let manifest = "[package]\nname = \"empty\"\nedition = \"2024\"\n\n[workspace]\n";
    write(&scratch.join("Cargo.toml"), manifest.as_bytes())?;
    write(&scratch.join("src/lib.rs"), b"#![no_std]\n")?;
    for target in targets {
        report::note(format_args!("building core, alloc and compiler_builtins for {target}"));
        let status = Command::new(cargo())
            .args(["build", "--release", "--target", target])
            .args(["-Zbuild-std=core,alloc,compiler_builtins"])
            .arg("-Zbuild-std-features=compiler-builtins-mem")
            .arg("--target-dir")
            .arg(scratch.join("target"))
            .current_dir(&scratch)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_FUTURE_INCOMPAT_REPORT_FREQUENCY", "never")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            // Without bitcode in the libraries, a program that uses them can't have link-time
            // optimisation.
            .env("RUSTFLAGS", "-Cembed-bitcode=yes")
            .status()
            .context("cannot start cargo")?;
        ensure!(status.success(), "cargo could not build the core library");
        let built = scratch.join("target").join(target).join("release/deps");
        install(&built, &compiler.libraries(target))?;
    }
    drop(source);
    Ok(())
}

fn install(built: &Path, libraries: &Path) -> Result<()> {
    std::fs::create_dir_all(libraries)
        .with_context(|| format!("cannot make the folder {}", libraries.display()))?;
    for file in std::fs::read_dir(built)? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        if LIBRARIES.iter().any(|library| is_library(&name, library)) {
            std::fs::copy(file.path(), libraries.join(&name))
                .with_context(|| format!("cannot copy {name} to {}", libraries.display()))?;
        }
    }
    Ok(())
}

/// The standard library's source at the place where cargo looks for it. It is removed in the end,
/// so that rustup finds its folders as it has left them.
struct Source {
    borrowed: Option<PathBuf>,
}

impl Source {
    fn provide(workspace: &Workspace, compiler: &Compiler) -> Result<Self> {
        let place = compiler.sysroot.join("lib/rustlib/src/rust");
        if place.join("library/Cargo.lock").exists() {
            return Ok(Self { borrowed: None });
        }
        let source = fetch(workspace, &compiler.version)?;
        // A compiler that was packaged without its source may have a link to nowhere here.
        let _ = std::fs::remove_file(&place);
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot make the folder {}", parent.display()))?;
        }
        std::os::unix::fs::symlink(&source, &place)
            .with_context(|| format!("cannot link {} to the source", place.display()))?;
        Ok(Self { borrowed: Some(place) })
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(place) = &self.borrowed {
            // If it can't be removed, the targets are built nevertheless.
            let _ = std::fs::remove_file(place);
        }
    }
}

/// Fetches Debian's package of the source of exactly this version, and returns the path of the
/// source.
fn fetch(workspace: &Workspace, version: &str) -> Result<PathBuf> {
    let unpacked = workspace.folder("setup/rust-src")?;
    let source = unpacked.join(format!("usr/src/rustc-{version}"));
    if source.join("library/Cargo.lock").exists() {
        return Ok(source);
    }
    let debian = Debian::find(workspace)?;
    let backports = format!("{}-backports", debian.codename);
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    // The source is the same in all releases, so any of them will do.
    for suite in [&debian.codename, &backports, "trixie-backports", "forky", "sid"] {
        report::note(format_args!("looking for rust-src {version} in Debian {suite}"));
        let Ok(packages) = debian.packages(workspace, suite, architecture.trim()) else {
            continue;
        };
        let versions = packages.versions("rust-src").unwrap_or_default();
        if let Some(found) = versions.iter().find(|found| is_version(found, version)) {
            packages.unpack(&format!("rust-src={found}"), &unpacked)?;
            ensure!(source.join("library/Cargo.lock").exists(), "rust-src {found} has no library");
            return Ok(source);
        }
    }
    bail!("no Debian release has rust-src {version}")
}

/// Returns whether Debian's version of a package is this version of the project.
fn is_version(debian: &str, upstream: &str) -> bool {
    debian.strip_prefix(upstream).is_some_and(|rest| rest.starts_with('+') || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_must_have_the_compilers_very_version() {
        assert!(is_version("1.95.0+dfsg1-2~bpo13+1", "1.95.0"));
        assert!(is_version("1.95.0-1", "1.95.0"));
        assert!(!is_version("1.95.01-1", "1.95.0"));
        assert!(!is_version("1.96.1+dfsg1-2", "1.95.0"));
    }

    #[test]
    fn libraries_are_told_by_their_names() {
        assert!(is_library("libcore-1e028c497e00fdd6.rlib", "core"));
        assert!(!is_library("libcore-1e028c497e00fdd6.rmeta", "core"));
        assert!(!is_library("libcompiler_builtins-3ee7.rlib", "core"));
    }
}
