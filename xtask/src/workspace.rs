//! [`Workspace`]: the paths of the checkout, of its target folder, and of the folders that xtask keeps in it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
pub use stasis_tool::files::{read, write};

/// The checkout of the project, and the folder for everything that is made from it.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

/// Gives a file that was made in the same file system its name. It is on the medium before: after a
/// power cut, `to` is the file before or this one.
pub fn put_in_place(made: &Path, to: &Path) -> Result<()> {
    let put = || {
        File::open(made)?.sync_all()?;
        std::fs::rename(made, to)?;
        File::open(to.parent().unwrap_or(to))?.sync_all()
    };
    put().with_context(|| format!("cannot make {}", to.display()))
}

/// The fields of the output of `cargo metadata` that are used.
#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

impl Workspace {
    /// Returns the workspace that cargo names. Cargo knows `CARGO_TARGET_DIR` and all configuration
    /// files.
    pub fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version=1", "--manifest-path"])
            .arg(&manifest)
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).context("cannot read cargo's metadata")?;
        Ok(Self { root: metadata.workspace_root, target: metadata.target_directory })
    }

    /// Returns the path of the checkout.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the path of cargo's target folder.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Returns the path of a folder in the target folder. Makes the folder if it is not there.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.target.join(name);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok(folder)
    }

    /// Returns a path in the form in which a person would type it in the checkout.
    pub fn show<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// Returns the path of the cargo that runs this program, or of the one in `PATH`.
pub fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}
