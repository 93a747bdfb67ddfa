//! [`Output`]: a file that is there whole or not at all. It is written beside its place, synced,
//! and renamed at the end.
//!
//! An older file of the name stays as it is until the new one is on the medium. Whatever fails, and
//! whenever the host loses its power, the name stands for one of the two files. A command that
//! fails and can say so leaves nothing else behind.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::content::Content;
use crate::disk::lock;
use crate::report;

/// A file that is being made. If it is dropped without [`finish`](Self::finish), nothing is left of
/// it.
#[derive(Debug)]
pub struct Output {
    file: File,
    /// The path that the file will have. If that is a symbolic link, the path to which it points.
    path: PathBuf,
    /// The path that the file has until then; `None` for what is no regular file, such as a pipe,
    /// which is written directly.
    beside: Option<PathBuf>,
}

impl Output {
    /// Begins a file that will have the path `path`.
    ///
    /// # Errors
    ///
    /// The file can't be written there, or an older file of the name is [in use](lock): a disk of a
    /// machine that runs, or one that this command reads.
    pub fn create(path: &Path) -> Result<Self> {
        let output = Self::begin(path).with_context(|| cannot_write(path))?;
        if output.beside.is_some() {
            lock::check_unused(&output.path).with_context(|| cannot_write(path))?;
        }
        Ok(output)
    }

    fn begin(path: &Path) -> io::Result<Self> {
        let path = match path.canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error),
        };
        let older = path.metadata().ok();
        if older.as_ref().is_some_and(|older| !older.is_file()) {
            let file = OpenOptions::new().write(true).open(&path)?;
            return Ok(Self { file, path, beside: None });
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let beside =
            path.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&beside)?;
        let output = Self { file, path, beside: Some(beside) };
        if let Some(older) = older {
            output.file.set_permissions(older.permissions())?;
        }
        Ok(output)
    }

    /// Returns the file to write to. [`path`](Self::path) is for what must open it by its name.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Returns the path that the file has until [`finish`](Self::finish).
    pub fn path(&self) -> &Path {
        self.beside.as_deref().unwrap_or(&self.path)
    }

    /// Writes bytes behind those that were written. The error names the file.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).with_context(|| cannot_write(&self.path))
    }

    /// Writes a content behind what was written. The error names the file.
    pub fn put_content(&mut self, content: &Content) -> Result<()> {
        content.write_to(self).with_context(|| cannot_write(&self.path))
    }

    /// Syncs the file and gives it its name. An older file of the name is replaced.
    pub fn finish(self) -> Result<()> {
        finish_together([self])
    }

    /// Finishes a file that a person has named, and says so if it replaces an older one.
    pub fn finish_and_tell(self) -> Result<()> {
        finish_together_and_tell([self])
    }

    /// Waits until all of the file is on the medium.
    fn sync(&mut self) -> io::Result<()> {
        if self.beside.is_some() { self.file.sync_all() } else { self.file.flush() }
    }

    /// Gives the file its name.
    fn rename(&mut self) -> io::Result<()> {
        let Some(beside) = &self.beside else { return Ok(()) };
        std::fs::rename(beside, &self.path)?;
        self.beside = None;
        // The folder has the name, so it is synced, too.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Output {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            let _ = std::fs::remove_file(beside);
        }
    }
}

/// Syncs all files, and then gives them their names in this order. So no file is there if another
/// could not be written. An error names its file.
pub fn finish_together(outputs: impl IntoIterator<Item = Output>) -> Result<()> {
    let mut outputs: Vec<Output> = outputs.into_iter().collect();
    for output in &mut outputs {
        output.sync().with_context(|| cannot_write(&output.path))?;
    }
    for output in &mut outputs {
        output.rename().with_context(|| cannot_write(&output.path))?;
    }
    Ok(())
}

/// Finishes files that a person has named, as [`finish_together`] does. Says of each whether an
/// older file was replaced.
pub fn finish_together_and_tell(outputs: impl IntoIterator<Item = Output>) -> Result<()> {
    let outputs: Vec<Output> = outputs.into_iter().collect();
    let is_older = |output: &&Output| output.beside.is_some() && output.path.exists();
    let older: Vec<PathBuf> =
        outputs.iter().filter(is_older).map(|output| output.path.clone()).collect();
    finish_together(outputs)?;
    for path in older {
        report::note(format_args!("{}: an older file was replaced", path.display()));
    }
    Ok(())
}

/// Writes a whole file that a person has named, through [`Output`]. An error names the file.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut output = Output::create(path)?;
    output.put(bytes)?;
    output.finish_and_tell()
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// Returns an error if there is a file of the name. For disks and cards, which may have
/// checkpoints.
pub fn must_be_new(path: &Path) -> Result<()> {
    ensure!(!path.exists(), "{} is there already; remove it first if it may go", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder that is removed in the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("stasis-output-{}-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
            entries.map(|entry| name(entry).into_string().unwrap()).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn an_older_file_is_whole_until_the_new_one_is() {
        let folder = Folder::new("older");
        let path = folder.0.join("it");
        fs::write(&path, "older").unwrap();
        let mut output = Output::create(&path).unwrap();
        output.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"older");
        output.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(folder.names(), ["it"]);
    }

    #[test]
    fn what_is_not_finished_leaves_nothing_behind() {
        let folder = Folder::new("unfinished");
        let path = folder.0.join("it");
        Output::create(&path).unwrap().write_all(b"a part").unwrap();
        assert!(folder.names().is_empty());
        fs::write(&path, "older").unwrap();
        Output::create(&path).unwrap().write_all(b"a part").unwrap();
        assert_eq!(
            (folder.names(), fs::read(&path).unwrap()),
            (vec!["it".into()], b"older".into())
        );
    }

    #[test]
    fn a_link_stays_a_link_and_rights_stay_as_they_are() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = Folder::new("link");
        let (path, link) = (folder.0.join("it"), folder.0.join("link"));
        fs::write(&path, "older").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("it", &link).unwrap();
        write(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn what_is_no_file_is_written_as_it_is_and_errors_name_it() {
        write(Path::new("/dev/null"), b"gone").unwrap();
        let error = format!("{:#}", write(Path::new("/dev/full"), b"gone").unwrap_err());
        assert!(error.starts_with("cannot write /dev/full: No space left"), "{error}");
        let error = format!("{:#}", write(Path::new("/none/it"), b"gone").unwrap_err());
        assert!(error.starts_with("cannot write /none/it: No such file"), "{error}");
    }
}
