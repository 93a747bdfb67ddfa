//! Clones: guests that go on from one instant, and share their memory until one of them writes.

use anyhow::{Context, Result, ensure};
use stasis_host::config::{CoreConfig, GuestConfig, WindowConfig};
use stasis_qemu_tests::guests::numbers;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Stasis, guest};
use stasis_qemu_tests::tamper;
use xtask::initramfs;

use crate::linux;
use crate::on_demand::this_goes_on;

/// A guest that finds each of its pages wrong that is not of the instant of its registers.
pub const GUEST: &str = "waves";
const MIB: u64 = 1 << 20;

/// Returns the guest, with two vCPUs.
fn waves() -> GuestConfig {
    GuestConfig { vcpus: 2, ..guest(GUEST, 32) }
}

/// Boots a machine with the guest.
fn boot(lab: &Lab) -> Result<Stasis> {
    let disk = lab.disk()?;
    lab.machine().configured(waves(), Some(lab.guest(GUEST)?)).disk(&disk).boot()
}

/// Returns what `guests` says of one: its state, and the bytes of its own and those that it shares.
fn usage(stasis: &mut Stasis, name: &str) -> Result<(String, u64, u64)> {
    let lines = stasis.command("guests --json")?;
    let line = lines.iter().find(|line| line.contains(&format!("\"name\":\"{name}\"")));
    let line = line.with_context(|| format!("{name} is not there: {lines:?}"))?;
    let after = |key: &str| line.split_once(&format!("\"{key}\":")).context("a key is missing");
    let state = after("state")?.1.split('"').nth(1).context("no state")?.to_owned();
    Ok((state, numbers(after("own")?.1)[0], numbers(after("shared")?.1)[0]))
}

pub fn original_and_clones_go_on_from_the_instant_and_see_nothing_of_each_other(
    lab: &Lab,
) -> Result<()> {
    let mut stasis = boot(lab)?;
    this_goes_on(&mut stasis, GUEST)?;
    for (original, name) in [(GUEST, "twin"), ("twin", "third"), (GUEST, "fourth")] {
        let lines = stasis.command(&format!("clone {original} as {name}"))?;
        println!("{lines:?} {:?}", usage(&mut stasis, name)?);
        for guest in [name, original, GUEST] {
            this_goes_on(&mut stasis, guest)?;
        }
    }
    for name in [GUEST, "twin", "third", "fourth"] {
        this_goes_on(&mut stasis, name)?;
        let (state, own, shared) = usage(&mut stasis, name)?;
        println!("{name}: {own} own, {shared} shared");
        ensure!(state == "running" && own + shared == 32 * MIB && shared > 16 * MIB, "{name}");
    }
    stasis.quit()
}

pub fn a_clone_is_bit_for_bit_its_original(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let machine = lab.machine().configured(waves(), Some(lab.guest(GUEST)?)).disk(&disk);
    let mut stasis = machine.boot()?;
    this_goes_on(&mut stasis, GUEST)?;
    // Pages of the original have moved by then.
    stasis.command(&format!("clone {GUEST} as first"))?;
    this_goes_on(&mut stasis, GUEST)?;
    stasis.command(&format!("pause {GUEST}"))?;
    stasis.command(&format!("clone {GUEST} as second"))?;
    ensure!(usage(&mut stasis, "second")?.0 == "paused", "the original was paused");
    let stored = [stasis.checkpoint(GUEST, "a")?, stasis.checkpoint("second", "b")?];
    stasis.quit()?;
    let [expected, found] = stored.map(|number| tamper::memory(&tamper::get(&disk, number)?));
    let (expected, found) = (expected?, found?);
    ensure!(found.len() == expected.len());
    let differs = (0..found.len()).find(|&at| found[at] != expected[at]);
    ensure!(differs.is_none(), "byte {differs:#x?} is another");
    Ok(())
}

pub fn a_clone_is_stored_and_resumed_and_outlives_its_original(lab: &Lab) -> Result<()> {
    let mut stasis = boot(lab)?;
    this_goes_on(&mut stasis, GUEST)?;
    let before = stasis.checkpoint(GUEST, "before")?;
    stasis.command(&format!("clone {GUEST} as twin"))?;
    this_goes_on(&mut stasis, "twin")?;
    let lines = stasis.command("checkpoint twin")?;
    ensure!(lines.iter().any(|line| line.contains(" of them shared")), "{lines:?}");
    this_goes_on(&mut stasis, "twin")?;
    // The original is another one from then on, and what the clone shares stays.
    stasis.resume(before)?;
    this_goes_on(&mut stasis, GUEST)?;
    this_goes_on(&mut stasis, "twin")?;
    stasis.command("clone twin as third")?;
    stasis.command("restart waves")?;
    stasis.command("stop waves")?;
    stasis.command("remove waves")?;
    // A clone of a clone starts again from the image of the first original, which is gone.
    stasis.command("restart third")?;
    this_goes_on(&mut stasis, "third")?;
    let (_, own, shared) = usage(&mut stasis, "third")?;
    ensure!((own, shared) == (32 * MIB, 0), "it starts in what others share: {own} {shared}");
    stasis.resume("twin")?;
    for name in ["twin", "third"] {
        this_goes_on(&mut stasis, name)?;
    }
    for name in ["third", "twin"] {
        stasis.command(&format!("stop {name}"))?;
        stasis.command(&format!("remove {name}"))?;
    }
    // All memory is there again.
    stasis.resume(before)?;
    this_goes_on(&mut stasis, GUEST)?;
    // A copy starts again, too. What a clone was that is gone, nobody knows.
    stasis.resume(format!("{before} as other"))?;
    stasis.command("restart other")?;
    stasis.resume("twin")?;
    stasis.refused_for("restart twin", &["the boot archive does not have it"])?;
    for name in ["other", "twin"] {
        this_goes_on(&mut stasis, name)?;
    }
    stasis.quit()
}

/// Waits until a guest is in a state.
pub fn wait_until(stasis: &mut Stasis, name: &str, state: &str) -> Result<()> {
    for _ in 0..1000 {
        if usage(stasis, name)?.0 == state {
            return Ok(());
        }
    }
    anyhow::bail!("{name} is not {state} after a thousand looks")
}

/// Returns a guest that waits for memory, among these.
fn who_waits(stasis: &mut Stasis, names: &[String]) -> Result<String> {
    for name in names.iter().cycle().take(1000) {
        if usage(stasis, name)?.0 == "waiting" {
            return Ok(name.clone());
        }
    }
    anyhow::bail!("nobody waits after a thousand looks")
}

/// Each of the guests writes 6 MiB, and the machine has less than 30.
/// Removes all of `names` but the one that waits for memory, and makes sure that this one goes on
/// then, and [`GUEST`] beside it.
fn goes_on_without_others(stasis: &mut Stasis, waiting: &str, names: &[String]) -> Result<()> {
    for name in names.iter().filter(|name| *name != waiting) {
        stasis.command(&format!("stop {name}"))?;
        stasis.command(&format!("remove {name}"))?;
    }
    for name in [GUEST, waiting] {
        wait_until(stasis, name, "running")?;
        this_goes_on(stasis, name)?;
    }
    Ok(())
}

pub fn a_guest_without_memory_waits_and_goes_on_when_another_is_removed(lab: &Lab) -> Result<()> {
    let config = GuestConfig { overcommit: true, ..waves() };
    let machine = lab.machine().memory("48M").configured(config, Some(lab.guest(GUEST)?));
    let mut stasis = machine.boot()?;
    this_goes_on(&mut stasis, GUEST)?;
    let mut names: Vec<String> = (1..8).map(|n| format!("clone-{n}")).collect();
    // The last ones are refused if no memory is left by then.
    names.retain(|name| stasis.command(&format!("clone {GUEST} as {name}")).is_ok());
    let waiting = who_waits(&mut stasis, &names)?;
    stasis.refused_for(&format!("unpause {waiting}"), &["waiting, not paused"])?;
    // A person can pause one that waits, and it waits again.
    stasis.command(&format!("pause {waiting}"))?;
    stasis.command(&format!("unpause {waiting}"))?;
    wait_until(&mut stasis, &waiting, "waiting")?;
    goes_on_without_others(&mut stasis, &waiting, &names)?;
    stasis.quit()
}

pub fn a_guest_takes_memory_as_it_writes_if_it_is_configured_so(lab: &Lab) -> Result<()> {
    let config = GuestConfig { overcommit: true, ..waves() };
    let disk = lab.disk()?;
    let machine = lab.machine().configured(config, Some(lab.guest(GUEST)?)).disk(&disk);
    let mut stasis = machine.boot()?;
    this_goes_on(&mut stasis, GUEST)?;
    let number = stasis.checkpoint(GUEST, "sparse")?;
    this_goes_on(&mut stasis, GUEST)?;
    let (state, own, shared) = usage(&mut stasis, GUEST)?;
    ensure!(state == "running" && (MIB..16 * MIB).contains(&own) && shared == 0, "{own} {shared}");
    stasis.command(&format!("clone {GUEST} as twin"))?;
    stasis.command(&format!("restart {GUEST}"))?;
    for name in [GUEST, "twin"] {
        this_goes_on(&mut stasis, name)?;
    }
    // A resume takes memory as it is loaded, in its place and beside it, on demand and as a whole,
    // and leaves the clone what it shares.
    stasis.resume(number)?;
    stasis.resume(format!("{number} as other"))?;
    for name in [GUEST, "other", "twin"] {
        this_goes_on(&mut stasis, name)?;
        let (state, own, _) = usage(&mut stasis, name)?;
        ensure!(state == "running" && own < 16 * MIB, "{name} has taken {own} bytes");
    }
    // What was resumed is stored and resumed again, and is cloned.
    let again = stasis.checkpoint("other", "again")?;
    stasis.resume(again)?;
    stasis.command("clone other as fourth")?;
    for name in ["other", "fourth"] {
        this_goes_on(&mut stasis, name)?;
    }
    // Other memory is taken in any case, so it is read once.
    stasis.command(&format!("clone {GUEST} as third"))?;
    ensure!(stasis.resume_whole(number)? == 1, "it takes other memory, and was read twice");
    for name in [GUEST, "third"] {
        this_goes_on(&mut stasis, name)?;
    }
    stasis.quit()
}

/// Each of the guests writes 6 MiB of its 32, and the machine has less than 30.
pub fn a_guest_without_memory_for_what_is_loaded_waits_and_loses_nothing(lab: &Lab) -> Result<()> {
    let config = GuestConfig { overcommit: true, ..waves() };
    let disk = lab.disk()?;
    let machine = lab.machine().memory("48M").configured(config, Some(lab.guest(GUEST)?));
    let mut stasis = machine.disk(&disk).boot()?;
    this_goes_on(&mut stasis, GUEST)?;
    let number = stasis.checkpoint(GUEST, "instant")?;
    let mut names: Vec<String> = (1..8).map(|n| format!("copy-{n}")).collect();
    // The last ones are refused if there is no memory for what they need at once.
    names.retain(|name| stasis.command(&format!("resume {number} as {name}")).is_ok());
    ensure!(names.len() > 3, "a resume takes all of the memory: {names:?}");
    let waiting = who_waits(&mut stasis, &names)?;
    println!("{waiting} of {names:?} waits: {:?}", stasis.command("guests")?);
    goes_on_without_others(&mut stasis, &waiting, &names)?;
    stasis.quit()
}

pub fn what_can_not_be_cloned_is_named(lab: &Lab) -> Result<()> {
    let window = WindowConfig { guest: GUEST.to_owned(), at_us: 0, length_us: 5000 };
    let plan = CoreConfig { number: 1, frame_us: 10_000, windows: vec![window] };
    let config = GuestConfig { cores: vec![1], ..guest(GUEST, 32) };
    let machine = lab.machine().configured(config, Some(lab.guest(GUEST)?)).cpus(2).core(plan);
    let mut stasis = machine.boot()?;
    stasis.refused_for(&format!("clone {GUEST} as twin"), &["has a window on a core"])?;
    stasis.refused_for(&format!("clone {GUEST} as {GUEST}"), &["there is a guest"])?;
    stasis.refused_for("clone nobody as twin", &["no guest"])?;
    stasis.refused_for(&format!("clone {GUEST} twin"), &["only \"as\" can"])?;
    stasis.quit()
}

/// Makes a number of clones of a Linux, and returns the machine when all have gone on.
pub fn linux_with_clones(lab: &Lab, clones: usize) -> Result<Stasis> {
    let mut stasis = linux::machine(lab, 1)?.boot()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, linux::BOOT_TIME)?;
    linux::look_at_dmesg(&mut stasis)?;
    linux::shell(
        &mut stasis,
        "echo original > /name; (while sleep 0.2; do date > /now; done) & true",
    )?;
    stasis.detach()?;
    for n in 1..=clones {
        let lines = stasis.command(&format!("clone linux as clone-{n}"))?;
        println!("{lines:?} {:?}", usage(&mut stasis, &format!("clone-{n}"))?);
    }
    let of_clones = (1..=clones).map(|n| format!("clone-{n}"));
    for name in of_clones.clone() {
        stasis.attach(&name)?;
        linux::shell(&mut stasis, &format!("echo {name} > /name"))?;
        stasis.detach()?;
    }
    for name in of_clones.chain(["linux".to_owned()]) {
        stasis.attach(&name)?;
        let expected = if name == "linux" { "original" } else { &*name };
        let found = linux::shell(&mut stasis, "cat /name")?;
        ensure!(found.iter().any(|line| line == expected), "{name} says {found:?}");
        linux::dmesg_is_silent(&mut stasis)?;
        stasis.detach()?;
    }
    for line in stasis.command("guests")? {
        println!("{line}");
    }
    Ok(stasis)
}

pub fn a_linux_and_its_clone_go_on(lab: &Lab) -> Result<()> {
    let mut stasis = linux_with_clones(lab, 1)?;
    // The clone goes on without its original.
    stasis.command("stop linux")?;
    stasis.command("remove linux")?;
    stasis.attach("clone-1")?;
    linux::shell(&mut stasis, "gzip -c /bin/busybox > /more; cat /more > /more-2; sync")?;
    linux::dmesg_is_silent(&mut stasis)?;
    stasis.detach()?;
    stasis.quit()
}
