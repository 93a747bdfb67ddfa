//! [`Sink`]: a checkpoint that is written to a file.

use std::io::{Seek, SeekFrom, Write};

use anyhow::{Error, Result};
use stasis_tool::output::Output;

/// The file that a checkpoint is written to, from its beginning.
#[derive(Debug)]
pub struct Sink<'o>(pub &'o mut Output);

impl stasis_state::Sink for Sink<'_> {
    type Error = Error;

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.put(bytes)
    }

    fn rewrite(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.seek(SeekFrom::Start(0))?;
        Ok(self.0.write_all(bytes)?)
    }
}
