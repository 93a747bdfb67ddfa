//! The console: every input gets an answer.

use std::time::Duration;

use anyhow::{Result, ensure};
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::{SILENCE, ticks};
use stasis_qemu_tests::lab::Lab;
use xtask::console::PROMPT;

pub fn mistyped_input_gets_an_answer(lab: &Lab) -> Result<()> {
    let mut stasis = lab.machine().guest("counter")?.disk(&lab.disk()?).boot()?;
    for (typed, word) in [
        ("chekpoint counter", "checkpoint"),
        ("checkpoint", "guest"),
        ("checkpoint nobody", "nobody"),
        ("checkpoint counter a b", "b"),
        ("checkpoint counter 17", "17"),
        ("pause", "guest"),
        ("pause nobody", "nobody"),
        ("attach 77", "77"),
        ("gic nobody", "nobody"),
        ("resume", "number"),
        ("resume 99", "99"),
        ("resume nobody", "nobody"),
        ("resume 99999999999999999999999999", "9"),
        ("delete nobody", "nobody"),
        ("delete -1", "-1"),
        ("help me", "me"),
        ("store now", "now"),
        ("\u{1b}[A\u{1b}[Bxyzzy", "xyzzy"),
        ("unpause counter", "counter"),
    ] {
        stasis.refused_for(typed, &[word])?;
    }
    let console = &mut stasis.qemu.console;
    // What is too long or no ASCII is refused as a whole, nothing of it is carried out.
    for typed in ["quit ".repeat(2000).into_bytes(), b"guests \xff\xfe\x80".to_vec()] {
        console.send(&typed)?;
        console.send(b"\r")?;
        console.find_line("an error", SILENCE, |line| line.contains("error: ").then_some(()))?;
        console.wait_for(PROMPT, SILENCE)?;
    }
    for typed in
        [&b"\r"[..], b"   \r", b"x\x15\n", b"\x03", b"half a line\x15\r", b"\x00\x01\x02\x04\x1d\r"]
    {
        console.send(typed)?;
        console.wait_for(PROMPT, SILENCE)?;
    }
    // Typed with a mistake, and corrected.
    console.send(b"gusets\x08\x08\x08\x08\x7fuests\r")?;
    console.find_line("the counter", SILENCE, |line| line.contains("counter").then_some(()))?;
    console.find_line("ok", SILENCE, |line| (line == "ok").then_some(()))?;
    stasis.is_alive()?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut Model::new(), 3)?;
    stasis.detach()?;
    stasis.quit()
}

pub fn help_knows_every_command(lab: &Lab) -> Result<()> {
    let mut stasis = lab.machine().guest("idle")?.boot()?;
    let all = stasis.command("help")?.join("\n");
    for command in [
        "help",
        "guests",
        "pause",
        "unpause",
        "checkpoint",
        "resume",
        "delete",
        "attach",
        "store",
        "gic",
        "quit",
    ] {
        ensure!(all.contains(command), "help does not mention {command}:\n{all}");
        ensure!(!stasis.command(&format!("help {command}"))?.is_empty(), "no help for {command}");
    }
    stasis.quit()
}

pub fn a_paused_guest_stands_still(lab: &Lab) -> Result<()> {
    let mut stasis = lab.machine().guest("counter")?.boot()?;
    let mut model = Model::new();
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut model, 5)?;
    stasis.detach()?;
    stasis.command("pause counter")?;
    stasis.refused_for("pause counter", &["paused"])?;
    // What it sent before.
    stasis.attach("counter")?;
    let settled = stasis.qemu.console.wait_for("nothing", Duration::from_secs(1));
    ensure!(settled.is_err(), "counter said nothing");
    stasis.qemu.console.skip();
    let more = stasis.qemu.console.next_line(Duration::from_secs(3));
    ensure!(more.is_err(), "a paused guest says {more:?}");
    stasis.detach()?;
    stasis.command("unpause counter")?;
    stasis.attach("counter")?;
    // Its time stood still: it would complain had it jumped by more than five seconds, and catch up had it by less.
    ticks(&mut stasis.qemu.console, &mut model, 5)?;
    stasis.detach()?;
    stasis.quit()
}

pub fn a_guests_gic_can_be_shown(lab: &Lab) -> Result<()> {
    let mut stasis = lab.machine().guest("handler")?.boot()?;
    stasis.attach("handler")?;
    stasis.qemu.console.wait_for("in handler with worse ones pending", SILENCE)?;
    stasis.detach()?;
    let first = stasis.command("gic handler")?;
    let second = stasis.command("gic handler")?;
    ensure!(first == second, "a dump has side effects: {first:#?} and then {second:#?}");
    let text = first.join("\n").to_lowercase();
    for word in ["active", "pending", "27", "80"] {
        ensure!(text.contains(word), "the dump does not mention {word}:\n{text}");
    }
    stasis.quit()
}
