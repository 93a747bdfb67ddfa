//! The plug is pulled at any instant of all that has to do with checkpoints: live ones, sets,
//! resumes on demand, clones, deletions, and a store that compresses or does not.
//!
//! `STASIS_SOAK_CYCLES=1000 cargo xtask test power_long` pulls it a thousand times: docs/soak.md.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::ticks;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Stasis, guest};
use stasis_qemu_tests::tamper::{self, File};
use stasis_store::Compression;
use xtask::disk;

use crate::soak::cycles;

/// The number of times that the plug is pulled, unless the environment says otherwise.
const PULLS: u32 = 24;
/// The set that stays, from which each machine begins.
const BASE: &str = "base/";

pub fn whatever_is_under_way_each_checkpoint_is_whole_or_absent(lab: &Lab) -> Result<()> {
    let path = lab.disk_of(256 << 20)?;
    disk::store(&path, true)?.set_compression(Compression::Lz4)?;
    let writer = guest("waves", 32);
    let setup = lab.machine().guest("counter")?.configured(writer, Some(lab.guest("waves")?));
    let mut stasis = setup.disk(&path).boot()?;
    stasis.command("checkpoint counter,waves base")?;
    stasis.quit()?;
    let mut run = Run { lab, path: path.clone(), kept: contents(&path)? };
    // Once to the end, which tells how long all of it takes.
    let start = Instant::now();
    let mut stasis = run.boot()?;
    for command in run.commands(0) {
        stasis.command(&command)?;
    }
    let whole = start.elapsed();
    stasis.kill()?;
    run.look(&[])?;

    let pulls = cycles(PULLS);
    let (mut none, mut some) = (0, 0);
    for pull in 1..=pulls {
        // Each instant is another one, and they are spread over all of it.
        let part = f64::from(pull.wrapping_mul(0x9e37_79b9)) / f64::from(u32::MAX);
        let gone = run.others();
        let mut stasis = run.boot()?;
        for command in run.commands(pull) {
            stasis.qemu.console.send_line(&command)?;
        }
        std::thread::sleep(whole.mul_f64(part));
        stasis.kill()?;
        let new = run.look(&gone).with_context(|| format!("pull {pull}, at {part:.2} of all"))?;
        *if new == 0 { &mut none } else { &mut some } += 1;
        if pull.is_multiple_of(10) || pull == pulls {
            println!("{pull} of {pulls} pulls: {some} left new checkpoints, {none} left none");
        }
    }
    let mut stasis = run.boot()?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut Model::new(), 3)?;
    stasis.detach()?;
    stasis.quit()?;
    ensure!(some > 0, "no checkpoint of {pulls} pulls was ever committed: that tested nothing");
    Ok(())
}

/// What is on the disk, and must stay there.
struct Run<'l> {
    lab: &'l Lab,
    path: PathBuf,
    /// What each checkpoint reads as, by its number.
    kept: BTreeMap<u64, Vec<u8>>,
}

impl Run<'_> {
    /// Returns a machine on which the guests of [`BASE`] go on, while their memory is loaded.
    fn boot(&self) -> Result<Stasis> {
        let mut stasis = self.lab.machine().no_archive().disk(&self.path).boot()?;
        stasis.resume(BASE)?;
        Ok(stasis)
    }

    /// Returns the numbers of the checkpoints that are no members of [`BASE`].
    fn others(&self) -> Vec<u64> {
        self.kept.keys().copied().skip(2).collect()
    }

    /// Returns what is typed, all at once: the checkpoints of before go, and new ones come while
    /// their guests run.
    fn commands(&self, pull: u32) -> Vec<String> {
        let compression = ["lz4", "none"][pull as usize % 2];
        let mut commands = vec![
            format!("store compress {compression}"),
            format!("checkpoint waves first-{pull}"),
            format!("checkpoint counter,waves both-{pull}"),
            format!("clone counter as twin-{pull}"),
            format!("checkpoint twin-{pull} twin-{pull}"),
            format!("resume both-{pull}/"),
            format!("checkpoint waves last-{pull}"),
        ];
        let deletions = self.others().into_iter().map(|number| format!("delete {number}"));
        // In the midst of the others.
        commands.splice(3..3, deletions);
        commands
    }

    /// Checks that all that was there is there, but for what was to go, and that what is new is
    /// whole. Returns how many are new.
    fn look(&mut self, gone: &[u64]) -> Result<usize> {
        let found = contents(&self.path)?;
        for (number, content) in &self.kept {
            match found.get(number) {
                Some(here) => ensure!(here == content, "checkpoint {number} has changed"),
                None => ensure!(gone.contains(number), "checkpoint {number} is gone"),
            }
        }
        let new: Vec<_> = found.iter().filter(|one| !self.kept.contains_key(one.0)).collect();
        for (number, content) in &new {
            File::parse(content).with_context(|| format!("checkpoint {number} is not whole"))?;
        }
        let count = new.len();
        self.kept = found;
        Ok(count)
    }
}

/// Returns what each checkpoint of a disk reads as.
fn contents(path: &Path) -> Result<BTreeMap<u64, Vec<u8>>> {
    let listed = tamper::list(path).context("the store is lost")?;
    listed.into_iter().map(|(number, _)| Ok((number, tamper::get(path, number)?))).collect()
}
