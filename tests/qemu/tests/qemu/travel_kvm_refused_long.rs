//! What `stasis-kvm` refuses, in one line each, and what goes wrong while a guest runs: it goes on.
//! What needs no KVM to be refused is tested beside the code of `stasis-kvm`. These tests run only
//! by their name: `cargo xtask test travel`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::{Ticks, ticks};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::nested::{Host, Nested};
use stasis_qemu_tests::stasis::Conversation;
use stasis_qemu_tests::tamper::{self, File};
use stasis_state::guest::Clock;
use stasis_state::vcpu::{Identity, SystemRegisters};

use crate::resume::{follows, watch};

/// The longest time until something is said.
const PATIENCE: Duration = Duration::from_secs(300);
/// How the command begins that runs the checkpoint that was brought.
const RUN: &str = "stasis-kvm run /tmp/in --out /tmp/out";
/// ID_AA64ISAR0_EL1 of a CPU with CRC32 and with the atomic instructions of Armv8.1, which a
/// Cortex-A72 does not have.
const WITH_ATOMICS: u64 = 0x21_0000;

/// Returns the bytes of a checkpoint of `counter`, and the ticks that were seen before.
fn stored(lab: &Lab, model: &mut Model) -> Result<(Vec<u8>, Ticks)> {
    let disk = lab.disk()?;
    let mut stasis = lab.machine().guest("counter")?.disk(&disk).boot()?;
    let before = watch(&mut stasis, model, 3)?;
    let number = stasis.checkpoint("counter", "stasis")?;
    stasis.kill()?;
    Ok((tamper::get(&disk, number)?, before))
}

/// Checks that a command is refused in one line, which has these words.
fn refused(nested: &mut Nested, command: &str, words: &[&str]) -> Result<()> {
    let (status, lines) = nested.shell(command)?;
    ensure!(status == 1 && lines.len() == 1, "{command}: {status}, {lines:?}");
    ensure!(lines[0].starts_with("error: "), "{command}: {lines:?}");
    for word in words {
        ensure!(lines[0].contains(word), "{command}: \"{word}\" is not in {lines:?}");
    }
    Ok(())
}

/// Checks what is refused of files, options, and the machine, on a Linux with a good checkpoint in
/// `/tmp/in`.
fn bad_files_and_options(nested: &mut Nested) -> Result<()> {
    refused(nested, "stasis-kvm run /tmp/none", &["cannot open /tmp/none: No such file"])?;
    refused(nested, "stasis-kvm run /bin/busybox", &["not a checkpoint", "checkpoint get DISK"])?;
    nested.shell("head -c 100000 /tmp/in > /tmp/cut")?;
    refused(nested, "stasis-kvm run /tmp/cut", &["/tmp/cut can't be run", "it is cut: copy"])?;
    refused(
        nested,
        "stasis-kvm run /tmp/in --out /none/out",
        &["cannot write /none/out: No such"],
    )?;
    let (status, lines) = nested.shell("stasis-kvm run /tmp/in --outt /tmp/out")?;
    let tip = lines.iter().any(|line| line.contains("'--out'"));
    ensure!(status == 2 && tip, "{status}, {lines:?}");
    nested.shell("mv /dev/kvm /dev/away")?;
    refused(nested, RUN, &["there is no /dev/kvm: Linux must have KVM", "dmesg | grep -i kvm"])?;
    nested.shell("mv /dev/away /dev/kvm")?;
    Ok(())
}

pub fn what_can_not_run_is_refused_in_one_line(lab: &Lab) -> Result<()> {
    let (good, _) = stored(lab, &mut Model::new())?;
    let mut another_speed = File::parse(&good)?;
    another_speed.set::<Clock>(0, "cntfrq", 54_000_000)?;
    let mut another_cpu = File::parse(&good)?;
    another_cpu.set::<Identity>(0, "id_aa64isar0_el1", WITH_ATOMICS)?;
    let brought = [good, another_speed.to_bytes(), another_cpu.to_bytes()];
    let mut nested = Nested::boot(lab, Host::Backports, &brought)?;
    nested.bring(0)?;
    bad_files_and_options(&mut nested)?;
    nested.bring(1)?;
    refused(&mut nested, RUN, &["runs at 54000000 Hz, and this machine's at 62500000 Hz"])?;
    nested.bring(2)?;
    refused(&mut nested, RUN, &["CPU is not like the one that the guest was shown", "vCPU 0"])?;
    let (_, left) = nested.shell("ls /tmp/out /tmp/.out*")?;
    ensure!(left.iter().all(|line| line.contains("No such file")), "{left:?}");
    Ok(())
}

pub fn a_physical_timer_that_is_on_is_refused_by_an_older_kvm(lab: &Lab) -> Result<()> {
    let (good, _) = stored(lab, &mut Model::new())?;
    let mut on = File::parse(&good)?;
    on.set::<SystemRegisters>(0, "cntp_ctl_el0", 1)?;
    let mut nested = Nested::boot(lab, Host::Stable, &[on.to_bytes()])?;
    nested.bring(0)?;
    refused(&mut nested, RUN, &["vCPU 0", "uses cntp_ctl_el0, which this KVM does not have"])
}

/// Types a key behind Ctrl-A, and waits for what is said of it.
fn answered(nested: &mut Nested, key: u8, words: &[&str]) -> Result<()> {
    nested.console().send(&[1, key])?;
    nested.console().wait_for("[", PATIENCE)?;
    let said = nested.console().wait_for("]", PATIENCE)?;
    let has = |word: &&str| said.contains(*word);
    ensure!(words.iter().all(has), "{words:?} are not all in \"{said}\"");
    Ok(())
}

pub fn a_guest_goes_on_after_a_full_disk_and_a_mistyped_key(lab: &Lab) -> Result<()> {
    let mut model = Model::new();
    let (good, before) = stored(lab, &mut model)?;
    let mut nested = Nested::boot(lab, Host::Backports, &[good])?;
    nested.bring(0)?;
    nested
        .shell("mkdir /small; mount -t tmpfs -o size=1M small /small; echo older > /small/out")?;
    nested.start("/small/out")?;
    let mut last = ticks(nested.console(), &mut model, 5)?;
    follows(&before, &last)?;
    let full = ["no checkpoint: cannot write /small/out", "No space left", "the guest goes on"];
    for (key, words) in [
        (b'z', &["Ctrl-A Z means nothing.", "Ctrl-A S: checkpoint"][..]),
        (b's', &full),
        (b'q', &full),
    ] {
        answered(&mut nested, key, words).with_context(|| format!("Ctrl-A {}", char::from(key)))?;
        let found = ticks(nested.console(), &mut model, 5)?;
        follows(&last, &found)?;
        last = found;
    }
    nested.end()?;
    let (_, left) = nested.shell("ls -A /small; cat /small/out")?;
    ensure!(left == ["out", "older"], "{left:?}");
    Ok(())
}
