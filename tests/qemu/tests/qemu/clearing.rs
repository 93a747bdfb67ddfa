//! Memory that is cleared as it is touched: its guest finds zeros, whatever others have left there.

use std::time::Duration;

use anyhow::{Result, ensure};
use stasis_host::config::GuestConfig;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Stasis, guest};

/// The longest time in which a guest looks at its memory.
const LOOK: Duration = Duration::from_secs(300);

/// Waits until the attached guest says this, or that something is wrong.
fn wait(stasis: &mut Stasis, said: &str) -> Result<()> {
    let is_it = |line: &str| line == said || line.contains("FAULT");
    let found = |line: &str| is_it(line).then(|| line.to_owned());
    let line = stasis.qemu.console.find_line(said, LOOK, found)?;
    ensure!(line == said, "the guest says \"{line}\"");
    Ok(())
}

/// Attaches to a guest, types a byte for it if there is one, and waits for its answer.
fn ask(stasis: &mut Stasis, guest: &str, typed: &[u8], said: &str) -> Result<()> {
    stasis.attach(guest)?;
    stasis.qemu.console.send(typed)?;
    wait(stasis, said)?;
    stasis.detach().map(drop)
}

pub fn a_guest_of_three_gib_finds_zeros(lab: &Lab) -> Result<()> {
    let setup = lab.machine().memory("4G");
    let mut stasis = setup.configured(guest("blank", 3072), Some(lab.guest("blank")?)).boot()?;
    ask(&mut stasis, "blank", b"", "blank 3064 MiB")?;
    stasis.kill()
}

pub fn who_gets_the_memory_of_another_finds_zeros_whatever_is_done(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let image = "blank".to_owned();
    let next = GuestConfig { image, autostart: false, ..guest("next", 56) };
    // There is room for one guest of that size, and a small one.
    let mut stasis = lab
        .machine()
        .memory("128M")
        .disk(&disk)
        .configured(guest("blank", 56), Some(lab.guest("blank")?))
        .configured(next, None)
        .boot()?;
    stasis.complaint(&["guest \"next\"", "RAM"])?;
    ask(&mut stasis, "blank", b"", "blank 48 MiB")?;
    ask(&mut stasis, "blank", b"f", "filled")?;
    stasis.command("restart blank")?;
    ask(&mut stasis, "blank", b"", "blank 48 MiB")?;
    ask(&mut stasis, "blank", b"f", "filled")?;
    stasis.command("stop blank")?;
    stasis.command("remove blank")?;
    stasis.command("start next")?;
    // At once, before anything was touched: what is not cleared yet is zeros in the checkpoint,
    // too.
    stasis.checkpoint("next", "early")?;
    ask(&mut stasis, "next", b"", "blank 48 MiB")?;
    ask(&mut stasis, "next", b"f", "filled")?;
    stasis.resume("early")?;
    ask(&mut stasis, "next", b"l", "blank 48 MiB")?;
    stasis.command("clone next as twin")?;
    ask(&mut stasis, "twin", b"l", "blank 48 MiB")?;
    ask(&mut stasis, "next", b"l", "blank 48 MiB")?;
    stasis.is_alive()
}
