//! [`Written`]: a configuration as its text, in which each key has its line.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use stasis_host::rehearsal::Subject;

use super::hint::{self, line_number};
use super::raw::RawFile;
use super::{Checkout, Config};

/// The text of a configuration, and what stands where in it.
pub struct Written {
    pub(super) text: String,
    pub(super) file: RawFile,
}

impl Written {
    /// Reads the file `path`, and knows its tables and keys, but not yet whether what they say is
    /// right.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        Self::parse(text).map_err(|error| anyhow!("{}: {error:#}", path.display()))
    }

    /// Reads a text.
    pub fn parse(text: String) -> Result<Self> {
        match toml::from_str(&text) {
            Ok(file) => Ok(Self { text, file }),
            Err(error) => Err(anyhow!(hint::explain(&text, &error))),
        }
    }

    /// Returns the configuration that is written in the file `path`. Its errors name the file, the
    /// line and the key.
    pub fn config(&self, checkout: &dyn Checkout, path: &Path) -> Result<Config> {
        let folder = path.parent().unwrap_or(Path::new(""));
        Config::of(self, folder, &checkout.made()?)
            .map_err(|error| anyhow!("{}: {error:#}", path.display()))
    }

    /// Returns the line and the key of what a board complains of. The configuration was read, so
    /// that the place is there.
    pub fn at(&self, place: Subject) -> String {
        match place {
            Subject::Core(index) => {
                let span = self.file.cores[index].get_ref().span(None, "number");
                self.place(span, "number")
            }
            Subject::Shared(index) => {
                let span = self.file.shared[index].get_ref().span("size");
                self.place(span, "size")
            }
            Subject::Network(index) => {
                let span = self.file.networks[index].get_ref().span("uplink");
                self.place(span, "uplink")
            }
            Subject::Guest(index, key) => self.of_guest(index, key),
        }
    }

    /// Returns the line and the key of a guest's; the line of the guest, if the key was not
    /// written.
    pub(super) fn of_guest(&self, index: usize, key: &str) -> String {
        let guest = &self.file.guests[index];
        self.place(guest.get_ref().span(key).unwrap_or_else(|| guest.span()), key)
    }

    /// Returns the line and the key of a place in the text, as an error says them.
    pub(super) fn place(&self, span: Range<usize>, key: &str) -> String {
        format!("line {}: {key}", line_number(&self.text, span.start))
    }
}
