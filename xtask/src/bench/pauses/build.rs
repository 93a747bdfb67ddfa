//! The build that is measured: that of this checkout, or of an earlier one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::disk;

/// Where a checkout has its image once `cargo xtask build` was done.
const IMAGE: &str = "target/stasis/Image";
/// Where it has its disk once `cargo xtask run` was done.
const DISK: &str = "target/stasis-disk.img";

/// An image of Stasis, and what belongs to it.
#[derive(Clone, Debug)]
pub struct Build {
    /// File of the image.
    pub image: PathBuf,
    /// A disk with an empty store of its version; `None` if that is today's.
    disk: Option<PathBuf>,
    /// Whether its console has the command `clone`.
    pub clones: bool,
}

impl Build {
    /// Returns the build of this checkout, with the image in this file.
    pub fn here(image: &Path) -> Self {
        Self { image: image.to_owned(), disk: None, clones: true }
    }

    /// Returns the build of another checkout of the project, of a version whose checkpoints kept
    /// their guest standing still, and which made no clones.
    ///
    /// # Errors
    ///
    /// Which file the folder lacks, and what makes it.
    pub fn earlier(checkout: &Path) -> Result<Self> {
        let file = |name: &str, command: &str| {
            let file = checkout.join(name);
            let lacks = || format!("no {}; type `cargo xtask {command}` there", file.display());
            ensure!(file.is_file(), lacks());
            Ok(file)
        };
        let (image, disk) = (file(IMAGE, "build")?, file(DISK, "run")?);
        Ok(Self { image, disk: Some(disk), clones: false })
    }

    /// Makes the image of a disk with a store that the build knows.
    pub(super) fn make_disk(&self, path: &Path) -> Result<()> {
        let Some(disk) = &self.disk else {
            return disk::create(path, 256 << 20);
        };
        let copied = std::fs::copy(disk, path);
        copied.with_context(|| format!("cannot copy {}", disk.display())).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_that_was_not_built_says_what_is_to_be_typed() {
        let checkout = tempfile::tempdir().unwrap();
        let says = |needle: &str| {
            let error = Build::earlier(checkout.path()).unwrap_err().to_string();
            assert!(error.ends_with(needle), "{error}");
        };
        says("type `cargo xtask build` there");
        std::fs::create_dir_all(checkout.path().join("target/stasis")).unwrap();
        std::fs::write(checkout.path().join(IMAGE), "").unwrap();
        says("type `cargo xtask run` there");
        std::fs::write(checkout.path().join(DISK), "store").unwrap();
        let build = Build::earlier(checkout.path()).unwrap();
        let copy = checkout.path().join("copy");
        build.make_disk(&copy).unwrap();
        assert_eq!(std::fs::read(copy).unwrap(), b"store");
    }
}
