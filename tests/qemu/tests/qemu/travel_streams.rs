//! Streams of QEMU's from which Stasis can't go on: each is refused in one line, and nothing is
//! made.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use stasis_qemu_tests::lab::{Built, Lab};
use xtask::board::Board;
use xtask::qemu::Machine;
use xtask::workspace::{read, write};

use crate::travel_qemu::{CPU, LIFE_TIME, refused, word};

/// Places at which a stream is cut.
const CUTS: usize = 40;

/// Returns a machine of the guest `counter`, as `convert qemu` says it.
fn counter() -> Result<Machine> {
    let kernel = Built::get()?.guests.join("counter");
    Ok(Machine::plain(kernel, None).cpu(CPU).memory("32M"))
}

/// Writes a machine that never runs to a stream.
fn written(lab: &Lab, name: &str, machine: Machine) -> Result<PathBuf> {
    let path = lab.path(name);
    let machine = machine.arg("-S").time_limit(LIFE_TIME);
    lab.plain(machine)?.leave(&path).with_context(|| name.to_owned())?;
    Ok(path)
}

/// Checks that a stream is refused with a line that has these words.
fn is_refused(lab: &Lab, stream: &Path, options: &[&str], words: &str) -> Result<()> {
    let out = lab.path("never.stasis");
    let arguments = ["convert", "from-qemu", word(stream)?, "--out", word(&out)?];
    let line = refused(&[&arguments, options].concat())?;
    ensure!(line.contains(words), "\"{line}\" does not say \"{words}\"");
    ensure!(!out.exists(), "something was made, and said \"{line}\"");
    Ok(())
}

/// Writes a stream in which the first of these bytes are others, as many.
fn changed(lab: &Lab, stream: &Path, from: &[u8], to: &[u8]) -> Result<PathBuf> {
    let mut bytes = read(stream)?;
    let at = bytes.windows(from.len()).rposition(|found| found == from);
    let at = at.context("the stream does not have it")?;
    bytes[at..at + to.len()].copy_from_slice(to);
    let path = lab.path("changed.qemu");
    write(&path, &bytes)?;
    Ok(path)
}

pub fn a_stream_that_is_cut_anywhere_is_refused(lab: &Lab) -> Result<()> {
    let base = written(lab, "base.qemu", counter()?)?;
    let bytes = read(&base)?;
    let (cut, base) = (lab.path("cut.qemu"), word(&base)?);
    // The memory is most of it, and the devices are its end.
    let ends = (0..CUTS).flat_map(|n| [bytes.len() * n / CUTS, bytes.len() - 1 - (n * n * 97)]);
    for end in ends.filter(|end| *end < bytes.len()) {
        write(&cut, &bytes[..end])?;
        is_refused(lab, &cut, &["--base", base], "").with_context(|| format!("cut at {end}"))?;
    }
    Ok(())
}

pub fn a_machine_that_stasis_does_not_have_is_named(lab: &Lab) -> Result<()> {
    let workspace = &Built::get()?.workspace;
    let machine = |options: &[&str]| -> Result<Machine> {
        Ok(options.iter().fold(counter()?, |machine, option| machine.arg(option)))
    };
    let disk = ["-blockdev", "null-co,node-name=d", "-device"];
    let pci = [&disk[..], &["virtio-blk-pci,drive=d"]].concat();
    let last = [&disk[..], &["virtio-blk-device,drive=d"]].concat();
    let legacy = [&disk[..], &["virtio-blk-device,drive=d,bus=virtio-mmio-bus.0"]].concat();
    let others = [
        ("gicv3", machine(&["-machine", "gic-version=3"])?, "the device \"arm_gicv3\""),
        ("raspi4", counter()?.board(Board::raspi4(workspace)?), "is a \"raspi4b\""),
        ("secure", machine(&["-machine", "secure=on"])?, "another pl011"),
        ("pci", machine(&pci)?, "virtio-blk"),
        ("last", machine(&last)?, "virtio-mmio@000000000a003e00/virtio-blk"),
        ("legacy", machine(&legacy)?, "force-legacy=false"),
        ("usb", machine(&["-device", "qemu-xhci"])?, "xhci"),
        ("cpus", machine(&["-m", "33M"])?, "a multiple of 2 MiB"),
        ("cpu", counter()?.cpu("cortex-a53,pmu=off"), "of another QEMU, or of another CPU"),
    ];
    for (name, machine, words) in others {
        let stream = written(lab, name, machine)?;
        is_refused(lab, &stream, &[], words).with_context(|| name.to_owned())?;
    }
    Ok(())
}

pub fn a_stream_of_another_version_or_accelerator_is_named(lab: &Lab) -> Result<()> {
    let base = written(lab, "base.qemu", counter()?)?;
    let options = ["--base", word(&base)?];
    let is_refused = |stream: &Path, words: &str| is_refused(lab, stream, &options, words);
    // As a later QEMU may have them: the stream, a section, a device that there is not yet, and a
    // field.
    for (from, to, words) in [
        (&b"QEVM\0\0\0\x03"[..], &b"QEVM\0\0\0\x04"[..], "does not begin with QEVM, version 3"),
        (b"\x07arm_gic\0\0\0\0\0\0\0\x0c", b"\x07arm_gic\0\0\0\0\0\0\0\x0d", "\"arm_gic\""),
        (b"\"name\": \"gpio-key\"", b"\"name\": \"gpio-kex\"", "\"gpio-kex\""),
        (b"\"read_fifo\"", b"\"read_lifo\"", "no field \"read_fifo\": this QEMU's is not known"),
    ] {
        let stream = changed(lab, &base, from, to)?;
        is_refused(&stream, words).with_context(|| words.to_owned())?;
    }
    // A KVM lists the comparison value of the virtual timer by another id than QEMU itself.
    let (tcg, kvm) = (0x6030_0000_0013_df1a_u64, 0x6030_0000_0013_df02_u64);
    let stream = changed(lab, &base, &tcg.to_be_bytes(), &kvm.to_be_bytes())?;
    is_refused(&stream, "was run by a KVM; say --backend kvm")?;
    let out = lab.path("never.stasis");
    let words = ["convert", "from-qemu", word(&base)?, "--out", word(&out)?, "--backend", "kvm"];
    let line = refused(&[&words[..], &options].concat())?;
    ensure!(line.contains("was run by QEMU itself; say --backend tcg"), "{line}");
    Ok(())
}
