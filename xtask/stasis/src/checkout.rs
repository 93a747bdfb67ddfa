//! [`Checkout`]: what some commands take from a checkout of Stasis.
//!
//! `cargo xtask` is in a checkout: it builds the image and the guests, and fetches Linux. The
//! installed tool can do neither, so its [`NoCheckout`] says what to give it instead.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::content::Content;

/// A checkout of Stasis, which makes files from its sources.
pub trait Checkout {
    /// Returns the names of all files that [`make`](Self::make) makes. In a configuration, `@`
    /// stands before such a name.
    fn made(&self) -> Result<Vec<String>>;

    /// Returns the contents of the file of this name. Makes it if it is not there.
    fn make(&self, name: &str) -> Result<Content>;

    /// Returns Stasis's image, an arm64 `Image`. Builds it if it is not there.
    fn image(&self) -> Result<Content>;

    /// Returns Linux's device tree of the Raspberry Pi 4. Fetches it if it is not there.
    fn device_tree(&self) -> Result<Content>;

    /// Returns the path of the configuration that a person means by `guest`: an example of the
    /// checkout, or a file. None stands for the checkout's default.
    fn configuration(&self, guest: Option<&str>) -> Result<PathBuf>;
}

/// The absence of a checkout: the tool was installed.
#[derive(Clone, Copy, Debug)]
pub struct NoCheckout;

impl Checkout for NoCheckout {
    fn made(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn make(&self, name: &str) -> Result<Content> {
        bail!("@{name} is made in a checkout of Stasis alone; name a file in its place")
    }

    fn image(&self) -> Result<Content> {
        bail!(
            "Stasis's image is lacking: give it by --image FILE; `cargo xtask build` in a checkout makes it"
        )
    }

    fn device_tree(&self) -> Result<Content> {
        bail!(
            "the board's device tree is lacking: give it by --device-tree FILE, or by --firmware a folder that has it"
        )
    }

    fn configuration(&self, guest: Option<&str>) -> Result<PathBuf> {
        let guest =
            guest.context("the guests' configuration is lacking: give it by --guest FILE.toml")?;
        Ok(PathBuf::from(guest))
    }
}
