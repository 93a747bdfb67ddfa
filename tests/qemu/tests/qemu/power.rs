//! The plug is pulled in the middle of a checkpoint.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::ticks;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::Setup;
use stasis_qemu_tests::tamper::{self, File};

pub fn qemu_killed_during_a_checkpoint_loses_nothing_older(lab: &Lab) -> Result<()> {
    killed(lab, |lab| Ok(lab.machine()), 24)
}

/// Pulls the plug again and again, on some kind of machine.
pub fn killed<'l>(
    lab: &'l Lab,
    machine: impl Fn(&'l Lab) -> Result<Setup<'l>>,
    kills: u32,
) -> Result<()> {
    let (disk, mut model) = (lab.disk()?, Model::new());
    let mut stasis = machine(lab)?.guest("counter")?.disk(&disk).boot()?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut model, 3)?;
    stasis.detach()?;
    let mut kept = vec![stasis.checkpoint("counter", "kept")?];
    let start = Instant::now();
    kept.push(stasis.checkpoint("counter", "measured")?);
    let whole = start.elapsed();
    stasis.quit()?;
    let mut contents =
        kept.iter().map(|number| tamper::get(&disk, *number)).collect::<Result<Vec<_>>>()?;

    let mut absent = 0;
    for kill in 0..kills {
        let mut stasis = machine(lab)?.no_archive().disk(&disk).boot()?;
        stasis.resume(kept[0])?;
        // From before the first write until after the commit.
        let delay = whole.mul_f64(f64::from(kill) * 1.25 / f64::from(kills));
        let name = format!("killed-{kill}");
        if kill + 1 == kills {
            // However slow the machine has become: once the plug is pulled behind the commit.
            stasis.checkpoint("counter", &name)?;
        } else {
            stasis.qemu.console.send_line(&format!("checkpoint counter {name}"))?;
            std::thread::sleep(delay);
        }
        stasis.kill()?;

        let found = tamper::list(&disk)
            .with_context(|| format!("the store is lost: killed after {delay:?}"))?;
        for (number, content) in kept.iter().zip(&contents) {
            ensure!(
                tamper::get(&disk, *number)? == *content,
                "checkpoint {number} has changed: killed after {delay:?}"
            );
        }
        let new: Vec<u64> = found
            .iter()
            .map(|(number, _)| *number)
            .filter(|number| !kept.contains(number))
            .collect();
        match new[..] {
            [] => absent += 1,
            [number] => {
                let content = tamper::get(&disk, number)?;
                File::parse(&content).with_context(|| {
                    format!("checkpoint {number} is not whole: killed after {delay:?}")
                })?;
                kept.push(number);
                contents.push(content);
            }
            _ => anyhow::bail!("one checkpoint was begun, and {new:?} are there"),
        }
    }
    let whole_ones = kills - absent;
    ensure!(
        absent > 0 && whole_ones > 0,
        "of {kills} checkpoints {absent} are absent: that tested nothing"
    );

    let mut stasis = machine(lab)?.no_archive().disk(&disk).boot()?;
    let newest = *kept.last().context("none is kept")?;
    stasis.resume(newest)?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut model, 3)?;
    stasis.detach()?;
    // The wait was long enough for each to be written, had the plug not been pulled.
    ensure!(whole < Duration::from_secs(60));
    stasis.quit()
}
