//! [`Record`]: what `stasis top` has seen, as lines of JSON.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// A file to which lines are added.
pub(super) struct Record(File);

impl Record {
    /// Opens a file, and makes it if it is not there. What is in it stays.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        Ok(Self(file.with_context(|| format!("cannot write {}", path.display()))?))
    }

    /// Adds a line with a value, and the time.
    pub(super) fn add(&mut self, key: &str, value: Value) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = json!({ "at": now.as_millis() as f64 / 1000.0, key: value }).to_string();
        line.push('\n');
        self.0.write_all(line.as_bytes()).context("cannot write the record")
    }
}
