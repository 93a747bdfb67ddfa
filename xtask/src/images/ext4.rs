//! Ext4 file systems in images, by the programs of e2fsprogs: made, checked and read without root
//! and without a mount.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::setup::debian::output;

/// Where these programs are. The `PATH` of a user may lack the second and the third.
const FOLDERS: [&str; 3] = ["", "/usr/sbin", "/sbin"];

/// Returns the path of a program of e2fsprogs.
fn program(name: &str) -> Result<PathBuf> {
    let mut places = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
    let answers = |place: &PathBuf| {
        let mut command = Command::new(place);
        command.arg("-V").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok()
    };
    let found = places.find(answers);
    found.with_context(|| format!("{name} is missing: as root, `apt-get install e2fsprogs`"))
}

/// Makes an image of `size` bytes with an ext4 file system that has the files of `folder`, if there
/// is one.
///
/// # Errors
///
/// mke2fs is missing, or the files have no room.
pub fn make(image: &Path, size: u64, folder: Option<&Path>) -> Result<()> {
    let file = File::create(image).with_context(|| format!("cannot make {}", image.display()))?;
    file.set_len(size).with_context(|| format!("cannot make {}", image.display()))?;
    let mut command = Command::new(program("mke2fs")?);
    command.args(["-q", "-t", "ext4", "-E", "root_owner=0:0"]);
    if let Some(folder) = folder {
        command.arg("-d").arg(folder);
    }
    output(command.arg(image)).map(drop)
}

/// Returns a size that suffices for an image of the files that lie in these folders.
pub(super) fn size_for(folders: &[&Path]) -> Result<u64> {
    let mut bytes = 32 << 20;
    for folder in folders {
        for entry in std::fs::read_dir(folder)? {
            bytes += entry?.metadata()?.len();
        }
    }
    Ok(bytes.next_multiple_of(1 << 20))
}

/// Does what a system does before it mounts the file system of an image: replays its journal, and
/// removes files that were deleted while they were open.
///
/// # Errors
///
/// e2fsck is missing, or finds something that a journal does not set right.
pub fn recover(image: &Path) -> Result<()> {
    let (status, said) = e2fsck(&["-p"], image)?;
    // e2fsck(8): 1 is that something was corrected.
    ensure!(matches!(status, Some(0 | 1)), "e2fsck -p {}: {said}", image.display());
    ensure!(!said.contains("INCONSISTENCY"), "e2fsck -p {}: {said}", image.display());
    Ok(())
}

/// Checks all of the file system of an image, and changes nothing.
///
/// # Errors
///
/// e2fsck is missing, or finds anything that it would correct.
pub fn check(image: &Path) -> Result<()> {
    match e2fsck(&["-f", "-n"], image)? {
        (Some(0), _) => Ok(()),
        (_, said) => bail!("e2fsck -f -n {}: {said}", image.display()),
    }
}

fn e2fsck(options: &[&str], image: &Path) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(program("e2fsck")?);
    command.args(options).arg(image).env("LC_ALL", "C").stdin(Stdio::null());
    let output = command.output().context("cannot start e2fsck")?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&said).trim().to_owned()))
}

/// Writes a file of the file system of an image to `to`.
///
/// # Errors
///
/// debugfs is missing, or the image has no such file.
pub fn take(image: &Path, file: &str, to: &Path) -> Result<()> {
    // debugfs says on its standard error alone that there is no such file.
    let _ = std::fs::remove_file(to);
    let mut command = Command::new(program("debugfs")?);
    let request = format!("dump \"{file}\" \"{}\"", to.display());
    output(command.arg("-R").arg(request).arg(image))?;
    let len = std::fs::metadata(to).map_or(0, |file| file.len());
    ensure!(len > 0, "{} has no file {file}", image.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_out_of_an_image_as_it_went_in_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (files, image) = (folder.path().join("files"), folder.path().join("image"));
        std::fs::create_dir(&files).unwrap();
        std::fs::write(files.join("a"), b"something").unwrap();
        make(&image, 4 << 20, Some(&files)).unwrap();
        check(&image).unwrap();
        recover(&image).unwrap();
        let back = folder.path().join("back");
        take(&image, "/a", &back).unwrap();
        assert_eq!(std::fs::read(&back).unwrap(), b"something");
        assert!(take(&image, "/b", &back).unwrap_err().to_string().contains("has no file /b"));

        // In the root folder's entry of lost+found, the number of its inode, which stands 8 bytes
        // before the name.
        let mut bytes = std::fs::read(&image).unwrap();
        let name = bytes.windows(10).position(|bytes| bytes == b"lost+found").unwrap();
        bytes[name - 8] ^= 0x40;
        std::fs::write(&image, bytes).unwrap();
        assert!(check(&image).unwrap_err().to_string().contains("e2fsck -f -n"));
    }
}
