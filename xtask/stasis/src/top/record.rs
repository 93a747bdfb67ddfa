//! [`Record`]: what `stasis top` has seen, as lines of JSON.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// A file to which lines are added.
pub(super) struct Record {
    file: File,
    path: PathBuf,
}

impl Record {
    /// Opens a file, and makes it if it is not there. What is in it stays; where its last line is
    /// not whole, as a full disk leaves it, the next one begins anew.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot write {}", path.display());
        let file = OpenOptions::new().append(true).create(true).open(path).with_context(cannot)?;
        let mut record = Self { file, path: path.to_owned() };
        if is_cut(path).with_context(cannot)? {
            record.write("\n")?;
        }
        Ok(record)
    }

    /// Adds a line with a value, and the time.
    pub(super) fn add(&mut self, key: &str, value: Value) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = json!({ "at": now.as_millis() as f64 / 1000.0, key: value }).to_string();
        line.push('\n');
        self.write(&line)
    }

    fn write(&mut self, text: &str) -> Result<()> {
        let cannot =
            || format!("cannot add to the record {}, whose lines stay", self.path.display());
        self.file.write_all(text.as_bytes()).with_context(cannot)
    }
}

/// Returns whether a file has a last line that does not end. What is no file, such as a pipe, has
/// none.
fn is_cut(path: &Path) -> io::Result<bool> {
    let about = path.metadata()?;
    if !about.is_file() || about.len() == 0 {
        return Ok(false);
    }
    let (mut file, mut last) = (File::open(path)?, [0]);
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_a_full_disk_has_cut_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        std::fs::write(&path, "{\"at\":1}\n{\"at\":2,\"ro").unwrap();
        Record::open(&path).unwrap().add("event", json!(1)).unwrap();
        Record::open(&path).unwrap().add("event", json!(2)).unwrap();
        let lines = std::fs::read_to_string(&path).unwrap();
        let whole = lines.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok());
        assert_eq!((whole.count(), lines.lines().count()), (3, 4), "{lines}");
    }

    #[test]
    fn a_full_disk_is_told_with_the_records_name() {
        let mut record = Record::open(Path::new("/dev/full")).unwrap();
        let error = format!("{:#}", record.add("event", json!(1)).unwrap_err());
        assert!(error.contains("/dev/full") && error.contains("No space left"), "{error}");
    }
}
