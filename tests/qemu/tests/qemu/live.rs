//! Checkpoints of a guest that writes all the while: each is the guest of one instant.

use anyhow::{Context, Result, bail, ensure};
use stasis_host::config::GuestConfig;
use stasis_qemu_tests::guests::{SILENCE, numbers, sound};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Setup, Stasis, guest};
use xtask::build::Quick;

const GUEST: &str = "waves";
/// Checkpoints of the same guest.
const CHECKPOINTS: usize = 4;
/// Waves of each CPU that follow what is resumed: the guest finds each of its cells once, and
/// writes it in each way.
const WAVES: u64 = 100;
/// Most instructions for which a guest stands still, in the image that is released.
const INSTRUCTIONS: u64 = 30_000;
/// Sizes of RAM that have room for copies of all pages that [`GUEST`] writes. If it had to wait for
/// the disk, nothing would run, and a machine that counts instructions would skip the time that the
/// disk has for its answer.
const ROOMY: [u64; 2] = [128, 512];

/// Returns the next numbers of waves that the guest prints: of its first CPU, and of the second
/// one.
fn waves(stasis: &mut Stasis) -> Result<(u64, u64)> {
    loop {
        let line = stasis.qemu.console.next_line(SILENCE)?;
        sound(&line)?;
        if let (true, &[first, second]) = (line.starts_with("waves "), &*numbers(&line)) {
            return Ok((first, second));
        }
    }
}

/// Makes sure that the guest has gone on for some waves, with both CPUs, and that it has found
/// nothing wrong.
fn goes_on(stasis: &mut Stasis) -> Result<u64> {
    stasis.attach(GUEST)?;
    let begin = waves(stasis)?;
    let end = loop {
        let now = waves(stasis)?;
        if now.0 >= begin.0 + WAVES && now.1 >= begin.1 + WAVES {
            break now;
        }
    };
    stasis.detach()?;
    Ok(end.0)
}

/// Makes a checkpoint. Returns its number, and for how long the guest stood still, in microseconds:
/// on a host that is loaded, as long as the host likes, unless the machine counts instructions.
fn checkpoint(stasis: &mut Stasis) -> Result<(u64, u64)> {
    let lines = stasis.command(&format!("checkpoint {GUEST} {GUEST}"))?;
    let line = lines.iter().find(|line| line.starts_with("checkpoint ")).context("no line")?;
    let all = numbers(line);
    let (number, pause) = (all.first().context("no number")?, all.last().context("no pause")?);
    ensure!(line.ends_with(" us"), "{line}");
    println!("{line}");
    Ok((*number, *pause))
}

/// Where each instruction takes a nanosecond, a pause says how many there were.
pub fn a_guest_stands_still_for_its_registers_and_not_for_its_memory(lab: &Lab) -> Result<()> {
    let limit = Quick::from_environment().limit(INSTRUCTIONS);
    println!("at most {limit} instructions");
    for memory in ROOMY {
        let machine = lab.machine().configured(guest(GUEST, memory), Some(lab.guest(GUEST)?));
        let disk = lab.disk()?;
        let mut stasis = machine.disk(&disk).cpus(1).counting_instructions(0).boot()?;
        for _ in 0..2 {
            stasis.attach(GUEST)?;
            waves(&mut stasis)?;
            stasis.detach()?;
            let (_, pause) = checkpoint(&mut stasis)?;
            ensure!(pause <= limit / 1000, "{memory} MiB: {pause} us");
        }
        stasis.kill()?;
    }
    Ok(())
}

pub fn a_guest_that_writes_meanwhile_is_stored_as_it_was(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let config = GuestConfig { vcpus: 2, ..guest(GUEST, 32) };
    let machine = lab.machine().configured(config, Some(lab.guest(GUEST)?)).disk(&disk);
    let mut stasis = machine.boot()?;
    goes_on(&mut stasis)?;
    let mut stored = Vec::new();
    for _ in 0..CHECKPOINTS {
        stored.push(checkpoint(&mut stasis)?.0);
        goes_on(&mut stasis)?;
    }
    for number in &stored {
        stasis.resume(number)?;
        goes_on(&mut stasis)?;
    }
    // What was resumed can be stored again, by the same stage 2.
    stored.push(checkpoint(&mut stasis)?.0);
    goes_on(&mut stasis)?;
    stasis.quit()?;

    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    for number in [stored[CHECKPOINTS], stored[0]] {
        stasis.resume(number)?;
        goes_on(&mut stasis)?;
    }
    stasis.quit()
}

/// Returns the sizes of guests that leave the machine no RAM in pieces that a guest could have.
/// Stasis says what is left when it has no room for one.
fn fillers<'l>(lab: &'l Lab, setup: impl Fn() -> Result<Setup<'l>>) -> Result<Vec<u64>> {
    let mut sizes = Vec::new();
    loop {
        let too_large = guest("too-large", 4096);
        let machine =
            with_fillers(lab, setup()?, &sizes)?.configured(too_large, Some(lab.guest("idle")?));
        let stasis = machine.boot()?;
        let said = stasis.complaint(&["it needs 4096 MiB"])?;
        let &[.., largest] = &*numbers(said) else { bail!("{said}") };
        stasis.kill()?;
        match largest / 2 * 2 {
            0 => return Ok(sizes),
            size => sizes.push(size),
        }
    }
}

fn with_fillers<'l>(lab: &Lab, mut setup: Setup<'l>, sizes: &[u64]) -> Result<Setup<'l>> {
    for (n, size) in sizes.iter().enumerate() {
        setup = setup.configured(guest(&format!("filler{n}"), *size), Some(lab.guest("idle")?));
    }
    Ok(setup)
}

pub fn a_machine_without_room_for_what_a_guest_overwrites_says_so_and_has_it_back(
    lab: &Lab,
) -> Result<()> {
    let disk = lab.disk()?;
    let machine = || {
        let config = GuestConfig { vcpus: 2, ..guest(GUEST, 32) };
        let machine = lab.machine().configured(config, Some(lab.guest(GUEST)?));
        Ok(machine.memory("128M").disk(&disk))
    };
    let sizes = fillers(lab, machine)?;
    let mut stasis = with_fillers(lab, machine()?, &sizes)?.boot()?;
    stasis.refused_for(&format!("checkpoint {GUEST}"), &["no room to keep", "it needs"])?;
    goes_on(&mut stasis)?;
    for command in ["stop filler0", "remove filler0"] {
        stasis.command(command)?;
    }
    for _ in 0..2 {
        checkpoint(&mut stasis)?;
        goes_on(&mut stasis)?;
    }
    for command in [format!("stop {GUEST}"), format!("remove {GUEST}")] {
        stasis.command(&command)?;
    }
    // All that the first guest had is free again, and what its checkpoints took.
    for command in ["start filler0".into(), format!("start {GUEST}")] {
        stasis.command(&command)?;
    }
    goes_on(&mut stasis)?;
    stasis.quit()
}
