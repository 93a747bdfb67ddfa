//! `cargo xtask dist`: everything that someone without Rust needs, in one folder and one archive.
//!
//! - [`manual`]: the pages of `docs` as HTML.
//!
//! A release is reproducible: the same sources make the same bytes, wherever the checkout and
//! cargo's folder are: paths are replaced in what is compiled, and the archive has no times, owners
//! or order of its own. Nothing is taken from the checkout's own builds.

mod manual;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use clap_complete::Shell;
use sha2::{Digest, Sha256};
use stasis_tool::checkout::Checkout;
use xshell::cmd;

use crate::build::{self, Settings};
use crate::setup::rust;
use crate::workspace::{Workspace, write};
use crate::{report, setup};

/// The text behind the command's help.
pub const DETAILS: &str = "\
The folder has the image, `stasis` and `stasis-kvm` as static programs, the Raspberry Pi's device tree, the bare-metal guests and
examples with them, the manual as HTML, man pages, completions, and SHA256SUMS. The same sources make the same bytes.";

/// What is said in the folder's README.
const README: &str =
    "Begin with manual/first-hour.html. `sha256sum --check SHA256SUMS` checks all files.\n";

/// The words of the command.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder in which the release is made; else target/dist
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Make only what is not compiled: the manual, man pages, completions and examples
    #[arg(long)]
    texts: bool,
}

/// Makes a release.
pub fn main(workspace: &Workspace, arguments: Arguments) -> Result<()> {
    let name = format!("stasis-{}-{}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let out = arguments.out.map_or_else(|| workspace.folder("dist"), Ok)?;
    let folder = out.join(&name);
    if folder.exists() {
        let cannot = || format!("cannot remove the older {}", folder.display());
        std::fs::remove_dir_all(&folder).with_context(cannot)?;
    }
    texts(workspace, &folder)?;
    if !arguments.texts {
        compiled(workspace, &folder)?;
    }
    let files = checksums(&folder)?;
    let archive = pack(&out, &name)?;
    report::step(format_args!("{}: {files} files", workspace.show(&folder)));
    let size = std::fs::metadata(&archive).context("there is no archive")?.len();
    report::step(format_args!("{}: {}", workspace.show(&archive), report::size(size)));
    Ok(())
}

/// Writes a file of the release. Makes its folder.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file has a folder")?;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    write(path, bytes)
}

/// Makes what is not compiled.
fn texts(workspace: &Workspace, folder: &Path) -> Result<()> {
    report::step("making the manual, the man pages and the examples");
    put(&folder.join("README"), README.as_bytes())?;
    for (name, bytes) in manual::pages(workspace.root())? {
        put(&folder.join("manual").join(name), &bytes)?;
    }
    let pages = folder.join("man/man1");
    std::fs::create_dir_all(&pages)?;
    clap_mangen::generate_to(stasis_tool::cli::command().disable_help_subcommand(true), &pages)
        .context("cannot write the man pages")?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut script = Vec::new();
        stasis_tool::cli::completions(shell, &mut script)?;
        put(&folder.join("completions").join(shell.to_string()), &script)?;
    }
    for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
        put(&folder.join(name), &std::fs::read(workspace.root().join(name))?)?;
    }
    for (name, text) in examples(workspace)? {
        put(&folder.join("examples").join(name), text.as_bytes())?;
    }
    Ok(())
}

/// Returns the examples with the files of the release in the place of what a checkout makes.
fn examples(workspace: &Workspace) -> Result<Vec<(String, String)>> {
    let folder = workspace.root().join("examples");
    let mut examples = Vec::new();
    for entry in std::fs::read_dir(&folder).context("there are no examples")? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).context("a name is no text")?;
        let text = std::fs::read_to_string(&path)?;
        examples.push((name.to_owned(), text.replace("\"@", "\"../guests/")));
    }
    Ok(examples)
}

/// Makes what is compiled, and what is fetched.
fn compiled(workspace: &Workspace, folder: &Path) -> Result<()> {
    let settings = Settings {
        target: workspace.folder("dist/build")?,
        flags: unmarked(workspace)?,
        ..Settings::default()
    };
    let image = build::hypervisor_with(workspace, &settings)?.image;
    put(&folder.join("Image"), &std::fs::read(image)?)?;
    let guests = build::guests_with(workspace, &settings)?;
    for name in build::guest_names(workspace)? {
        let guest = guests.join(&name);
        put(&folder.join("guests").join(&name), &std::fs::read(guest)?)?;
    }
    let host = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    for (package, program, target) in
        [("stasis-tool", "stasis", host.as_str()), ("stasis-kvm", "stasis-kvm", rust::KVM)]
    {
        let built = build::carried(workspace, package, program, target, &settings)?;
        let path = folder.join("bin").join(program);
        put(&path, &std::fs::read(built)?)?;
        make_executable(&path)?;
    }
    let tree = setup::boards::raspi4_device_tree(workspace)?;
    let name = tree.file_name().context("the device tree has no name")?;
    put(&folder.join("device-trees").join(name), &workspace.device_tree()?.to_bytes()?)
}

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

/// Returns the flags of the compiler by which no path of this machine is in what it makes.
fn unmarked(workspace: &Workspace) -> Result<Vec<String>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(Path::new(&home).join(".cargo"))
    });
    let home = home.context("neither CARGO_HOME nor HOME says where cargo has its crates")?;
    let sysroot = rust::sysroot()?;
    let paths = [(workspace.root(), "/stasis"), (&home, "/cargo"), (&sysroot, "/rust")];
    let flags = paths.map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()));
    Ok(flags.into())
}

/// Writes SHA256SUMS as `sha256sum` does, in the order of names, and returns the number of files in
/// it.
fn checksums(folder: &Path) -> Result<usize> {
    let mut names = Vec::new();
    list(folder, Path::new(""), &mut names)?;
    names.sort();
    let mut sums = String::new();
    for name in &names {
        let hash = Sha256::digest(std::fs::read(folder.join(name))?);
        let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        sums += &format!("{digits}  {}\n", name.display());
    }
    put(&folder.join("SHA256SUMS"), sums.as_bytes())?;
    Ok(names.len())
}

/// Adds the paths of all files below `folder` to `names`, relative to it.
fn list(folder: &Path, below: &Path, names: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => list(folder, &name, names)?,
            false => names.push(name),
        }
    }
    Ok(())
}

/// Packs the folder `name` in `out` as an archive that depends on its files' names and bytes alone,
/// and returns its path.
fn pack(out: &Path, name: &str) -> Result<PathBuf> {
    let archive = out.join(format!("{name}.tar.gz"));
    let shell = xshell::Shell::new()?;
    shell.change_dir(out);
    let owner = ["--owner=0", "--group=0", "--numeric-owner"];
    cmd!(
        shell,
        "tar --sort=name --mtime=@0 {owner...} --mode=u=rwX,go=rX --format=ustar --create --file={name}.tar {name}"
    )
    .quiet()
    .run()?;
    cmd!(shell, "gzip --no-name --force -9 {name}.tar").quiet().run()?;
    ensure!(archive.exists(), "gzip has made no {}", archive.display());
    Ok(archive)
}
