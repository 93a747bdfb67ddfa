//! A checkpoint that an earlier Stasis has made of a running guest goes on in this one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use stasis_qemu_tests::guests::{same, transcript, waits};
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::tamper;
use xtask::workspace::read;

/// Returns the files, one for each minor: `1.0-handler.stasis` is `handler`, seven interrupts deep,
/// where it waits for a byte. What it has to print from there on is what plain QEMU printed when
/// the file was made.
fn golden_files() -> Result<Vec<PathBuf>> {
    let folder = Built::get()?.workspace.root().join("tests/golden/running");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "stasis") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

pub fn the_golden_files_of_running_guests_go_on(lab: &Lab) -> Result<()> {
    let files = golden_files()?;
    ensure!(files.len() == 1, "there is one minor, and there are {files:?}");
    let disk = lab.disk()?;
    for file in &files {
        goes_on(lab, &disk, file).with_context(|| format!("{}", file.display()))?;
    }
    Ok(())
}

fn goes_on(lab: &Lab, disk: &Path, file: &Path) -> Result<()> {
    let number = tamper::put(disk, "golden", &read(file)?)?;
    let expected = String::from_utf8(read(&file.with_extension("txt"))?)?;
    let expected: Vec<String> = expected.lines().map(str::to_owned).collect();

    let mut stasis = lab.machine().no_archive().disk(disk).boot()?;
    stasis.resume(number)?;
    stasis.attach("handler")?;
    stasis.qemu.console.send(b"x")?;
    let answer = |line: &str| waits(line).then(|| b"x".to_vec());
    let lines = transcript(&mut stasis.qemu.console, answer)?;
    same(&expected, &lines)?;
    stasis.detach()?;
    stasis.quit()
}
