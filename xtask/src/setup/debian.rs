//! Debian's packages, fetched into a folder of the checkout: without root, and without a change to
//! the system's lists or architectures.
//!
//! The mirror is the one that this system uses. Apt checks everything that it gets with Debian's
//! keys.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use stasis_tool::output::Output;

use crate::workspace::{Workspace, write};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The Debian of this system: its release, and its mirror.
#[derive(Clone, Debug)]
pub struct Debian {
    /// The name of the release.
    pub codename: String,
    /// The address of the mirror.
    mirror: String,
}

impl Debian {
    /// Returns the Debian of this system. The error says why it is none, as the end of a sentence.
    pub fn find(workspace: &Workspace) -> Result<Self> {
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let field = |name: &str| {
            let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.map(|value| value.trim_matches('"').to_owned())
        };
        ensure!(field("ID").as_deref() == Some("debian"), "this system is not Debian");
        let codename = field("VERSION_CODENAME").context("/etc/os-release names no release")?;
        ensure!(
            Path::new(KEYRING).exists(),
            "{KEYRING} is missing (package debian-archive-keyring)"
        );

        // What `apt-get update` would fetch names the mirror, even if it was never run.
        let empty = workspace.folder("setup/nothing/partial")?;
        let lists = empty.parent().unwrap_or(&empty);
        let uris = output(
            Command::new("apt-get")
                .arg("-o")
                .arg(option("Dir::State::lists", lists))
                .args(["--print-uris", "update"]),
        )?;
        let index = format!("dists/{codename}/InRelease");
        let mirror = uris
            .lines()
            .find_map(|line| line.split('\'').nth(1)?.strip_suffix(&index))
            .with_context(|| format!("apt has no source for the release {codename}"))?;
        Ok(Self { codename, mirror: mirror.to_owned() })
    }

    /// Returns the line of a sources list for `suite`.
    pub fn source(&self, suite: &str) -> String {
        format!("deb [signed-by={KEYRING}] {} {suite} main\n", self.mirror)
    }

    /// Returns the packages of `suite` for `architecture`. Fetches their lists now.
    pub fn packages(
        &self,
        workspace: &Workspace,
        suite: &str,
        architecture: &str,
    ) -> Result<Packages> {
        self.packages_of(workspace, &[suite], architecture)
    }

    /// Returns the packages of some suites for `architecture`, of which the last one comes first.
    /// Fetches their lists now.
    pub fn packages_of(
        &self,
        workspace: &Workspace,
        suites: &[&str],
        architecture: &str,
    ) -> Result<Packages> {
        let suite = suites.last().copied().unwrap_or(&self.codename);
        let folder = workspace.folder(&format!("setup/apt-{suite}-{architecture}"))?;
        for inner in ["state/lists/partial", "cache/archives/partial"] {
            let inner = folder.join(inner);
            std::fs::create_dir_all(&inner)
                .with_context(|| format!("cannot make the folder {}", inner.display()))?;
        }
        let sources: String = suites.iter().map(|suite| self.source(suite)).collect();
        write(&folder.join("sources.list"), sources.as_bytes())?;
        let packages =
            Packages { folder, architecture: architecture.to_owned(), preferred: suite.to_owned() };
        // The last lines that apt-get prints say what is wrong.
        output(packages.apt("apt-get").args(["--quiet", "update"]))
            .with_context(|| format!("cannot fetch the package list of {suite}"))?;
        Ok(packages)
    }
}

/// The packages of one suite or more for one architecture.
pub struct Packages {
    folder: PathBuf,
    architecture: String,
    /// The suite that comes first.
    preferred: String,
}

impl Packages {
    /// Returns the versions that a package has, the newest first.
    pub fn versions(&self, package: &str) -> Result<Vec<String>> {
        let table = output(self.apt("apt-cache").args(["madison", package]))?;
        let version = |line: &str| Some(line.split('|').nth(1)?.trim().to_owned());
        Ok(table.lines().filter_map(version).collect())
    }

    /// Returns the package of the newest kernel, on which `package` depends.
    pub fn kernel(&self, package: &str) -> Result<String> {
        let list = output(self.apt("apt-cache").args(["depends", package]))?;
        let name = |line: &str| Some(line.trim().strip_prefix("Depends: ")?.to_owned());
        let mut names = list.lines().filter_map(name);
        let kernel = names.find(|name| name.starts_with("linux-image-"));
        kernel.with_context(|| format!("{package} depends on no kernel"))
    }

    /// Returns the names of these packages and of all that they depend on. `?essential` stands for
    /// the essential ones.
    pub fn closure(&self, packages: &[&str]) -> Result<Vec<String>> {
        let mut command = self.apt("apt-get");
        let wanted = ["--simulate", "--no-install-recommends", "install"];
        let plan = output(command.args(wanted).args(packages))?;
        let name = |line: &str| {
            let (name, _) = line.strip_prefix("Inst ")?.split_once(' ')?;
            Some(name.to_owned())
        };
        Ok(plan.lines().filter_map(name).collect())
    }

    /// Downloads these packages and all that they depend on into the folder `into`, of which
    /// nothing else is left. Returns the names of the files.
    pub fn download(&self, packages: &[&str], into: &Path) -> Result<Vec<String>> {
        // Another version may be there.
        let _ = std::fs::remove_dir_all(into);
        let partial = into.join("partial");
        std::fs::create_dir_all(&partial)
            .with_context(|| format!("cannot make the folder {}", partial.display()))?;
        let mut command = self.apt("apt-get");
        command
            .arg("-o")
            .arg(option("Dir::Cache::archives", into))
            .args(["-o", "APT::Sandbox::User=", "--quiet", "--yes", "--no-install-recommends"])
            .args(["--download-only", "install"])
            .args(packages)
            .stdout(Stdio::from(io::stderr()));
        let status = command.status().context("cannot start apt-get")?;
        ensure!(status.success(), "apt-get could not download {}", packages.join(", "));
        let mut files = Vec::new();
        for entry in std::fs::read_dir(into)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".deb") {
                files.push(name);
            }
        }
        files.sort();
        Ok(files)
    }

    /// Downloads a package, given as `name` or `name=version`, and unpacks it into `into`.
    pub fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        let download = self.folder.join("download");
        // Remove what an interrupted download has left.
        let _ = std::fs::remove_dir_all(&download);
        std::fs::create_dir_all(&download)
            .with_context(|| format!("cannot make the folder {}", download.display()))?;
        let status = self
            .apt("apt-get")
            // As root, apt would download as another user, who cannot write here.
            .args(["-o", "APT::Sandbox::User=", "download", package])
            .current_dir(&download)
            .stdout(Stdio::from(io::stderr()))
            .status()
            .context("cannot start apt-get")?;
        ensure!(status.success(), "apt-get could not download {package}");
        for entry in std::fs::read_dir(&download)? {
            let package = entry?.path();
            output(Command::new("dpkg-deb").arg("--extract").args([&package, into]))
                .with_context(|| format!("cannot unpack {}", package.display()))?;
        }
        Ok(std::fs::remove_dir_all(&download)?)
    }

    /// Downloads these packages and all on which they depend, and unpacks them into `into`.
    pub fn unpack_with_dependencies(&self, packages: &[&str], into: &Path) -> Result<()> {
        let status = self
            .apt("apt-get")
            .args(["-o", "APT::Sandbox::User=", "--quiet", "--yes", "--download-only"])
            .args(["--no-install-recommends", "--target-release", &self.preferred])
            .arg("install")
            .args(packages)
            .stdin(Stdio::null())
            .stdout(Stdio::from(io::stderr()))
            .status()
            .context("cannot start apt-get")?;
        ensure!(status.success(), "apt-get could not download {}", packages.join(", "));
        let archives = self.folder.join("cache/archives");
        for entry in std::fs::read_dir(&archives)? {
            let package = entry?.path();
            if package.extension().is_some_and(|extension| extension == "deb") {
                output(Command::new("dpkg-deb").arg("--extract").args([&package, into]))
                    .with_context(|| format!("cannot unpack {}", package.display()))?;
                std::fs::remove_file(&package)?;
            }
        }
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        let path = |name: &str| self.folder.join(name);
        let architecture = Path::new(&self.architecture);
        let mut command = Command::new(program);
        for (name, value) in [
            ("Dir::Etc::sourcelist", path("sources.list").as_path()),
            ("Dir::Etc::sourceparts", Path::new("/dev/null")),
            ("Dir::State", path("state").as_path()),
            ("Dir::State::status", Path::new("/dev/null")),
            ("Dir::Cache", path("cache").as_path()),
            ("APT::Architecture", architecture),
            ("APT::Architectures", architecture),
            ("Acquire::Languages", Path::new("none")),
            ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", Path::new("false")),
        ] {
            command.arg("-o").arg(option(name, value));
        }
        command
    }
}

/// Copies a file. `to` is there whole or not at all, also after a power cut.
pub(super) fn take(from: &Path, to: &Path) -> Result<()> {
    let mut output = Output::create(to)?;
    let copied = File::open(from).and_then(|mut from| io::copy(&mut from, output.file()));
    copied.with_context(|| format!("cannot copy {}", from.display()))?;
    output.finish()
}

pub(super) fn option(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(format!("{name}="));
    option.push(value);
    option
}

/// Runs a program, and returns what it prints. The error has what it prints to its standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        let complaints = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed: {}", complaints.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
