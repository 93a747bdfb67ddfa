//! What some commands take from a checkout of Stasis, where there is one.
//!
//! `cargo xtask` builds the image and the guests, and fetches Linux. The tool alone can do neither: [`NoCheckout`] says what to give
//! it in their place.

use std::path::PathBuf;

use anyhow::{Result, bail};

/// Makes what a checkout of Stasis has the sources of.
pub trait Checkout {
    /// Returns the names of all that [`make`](Self::make) makes, as they stand behind `@` in a configuration.
    fn made(&self) -> Result<Vec<String>>;

    /// Returns the contents of the file that has this name behind its `@`, made if need be.
    fn make(&self, name: &str) -> Result<Vec<u8>>;

    /// Returns Stasis's image, an arm64 `Image`, built if need be.
    fn image(&self) -> Result<Vec<u8>>;

    /// Returns Linux's device tree of the Raspberry Pi 4, fetched if need be.
    fn device_tree(&self) -> Result<Vec<u8>>;

    /// Returns the configuration that a person means by `guest`: an example of the checkout, or a file.
    fn configuration(&self, guest: &str) -> Result<PathBuf>;
}

/// No checkout: the tool as it was installed.
#[derive(Clone, Copy, Debug)]
pub struct NoCheckout;

impl Checkout for NoCheckout {
    fn made(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn make(&self, name: &str) -> Result<Vec<u8>> {
        bail!("@{name} is made in a checkout of Stasis alone; name a file in its place")
    }

    fn image(&self) -> Result<Vec<u8>> {
        bail!(
            "Stasis's image is lacking: give it by --image FILE; `cargo xtask build` in a checkout makes it"
        )
    }

    fn device_tree(&self) -> Result<Vec<u8>> {
        bail!(
            "the board's device tree is lacking: give it by --device-tree FILE, or by --firmware a folder that has it"
        )
    }

    fn configuration(&self, guest: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(guest))
    }
}
