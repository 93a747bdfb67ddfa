//! A checkpoint shares with the one before what did not change since, and is whole all the same.

use anyhow::{Context, Result, ensure};
use stasis_qemu_tests::guests::numbers;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Stasis, guest};
use stasis_qemu_tests::tamper;
use stasis_state::RecordType;

use crate::resume::{file, same};

const GUEST: &str = "waves";
/// Bytes of which a checkpoint of a guest that stood still writes fewer: its registers, and the metadata around them.
const FEW: u64 = 64 << 10;

/// Makes a checkpoint. Returns its number, its bytes, and how many of them it shares.
fn checkpoint(stasis: &mut Stasis) -> Result<(u64, u64, u64)> {
    let lines = stasis.command(&format!("checkpoint {GUEST} {GUEST}"))?;
    let line = lines.iter().find(|line| line.starts_with("checkpoint ")).context("no line")?;
    println!("{line}");
    let before = |unit: &str| line.split(unit).next().map(numbers)?.last().copied();
    let number = numbers(line).first().copied().context("no number")?;
    let shared = if line.contains(" of them shared") { before(" of them shared") } else { Some(0) };
    Ok((number, before(" bytes").context("no bytes")?, shared.context("no number is shared")?))
}

/// The guest writes between the first two, and stands still then, so that a whole one can be compared.
pub fn a_checkpoint_that_shares_is_bit_for_bit_a_whole_one(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let machine = lab.machine().configured(guest(GUEST, 32), Some(lab.guest(GUEST)?)).disk(&disk);
    let mut stasis = machine.boot()?;
    let (first, _, shared) = checkpoint(&mut stasis)?;
    ensure!(shared == 0, "the first one shares {shared} bytes");
    let (second, bytes, shared) = checkpoint(&mut stasis)?;
    ensure!(shared > 0 && shared < bytes, "the second one shares {shared} of {bytes} bytes");
    stasis.command(&format!("pause {GUEST}"))?;
    let (third, ..) = checkpoint(&mut stasis)?;
    let (fourth, bytes, shared) = checkpoint(&mut stasis)?;
    ensure!(bytes - shared < FEW, "it stood still, and {bytes} bytes less {shared} were written");
    let sharing = [file(&disk, third)?, file(&disk, fourth)?];
    for number in [first, second, third, fourth] {
        stasis.command(&format!("delete {number}"))?;
    }
    let (whole, _, shared) = checkpoint(&mut stasis)?;
    ensure!(shared == 0, "it shares {shared} bytes with nobody");
    let whole = file(&disk, whole)?;
    for sharing in sharing {
        same(&sharing, &whole, &[RecordType::Clock])?;
    }
    stasis.quit()
}

/// Each is whole: the one that it shared with may go, and a guest that was resumed from it shares with it in turn.
pub fn the_first_one_is_deleted_and_the_second_one_is_resumed(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let machine = lab.machine().configured(guest(GUEST, 32), Some(lab.guest(GUEST)?)).disk(&disk);
    let mut stasis = machine.boot()?;
    let (first, ..) = checkpoint(&mut stasis)?;
    let (second, _, shared) = checkpoint(&mut stasis)?;
    ensure!(shared > 0, "nothing is shared");
    stasis.command(&format!("delete {first}"))?;
    stasis.kill()?;
    let before = file(&disk, second)?;
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    stasis.command(&format!("resume {second} --whole"))?;
    let (third, _, shared) = checkpoint(&mut stasis)?;
    ensure!(shared > 0, "it shares nothing with what it was resumed from");
    stasis.quit()?;
    let after = file(&disk, third)?;
    ensure!(before.records.len() == after.records.len(), "blocks have come or gone");
    ensure!(tamper::state(&tamper::get(&disk, third)?)?.lineage.is_some(), "it has no identity");
    Ok(())
}
