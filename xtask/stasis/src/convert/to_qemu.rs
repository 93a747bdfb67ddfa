//! `stasis convert qemu`: a checkpoint as a stream from which QEMU goes on.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use stasis_convert::qemu::Backend;
use stasis_convert::qemu::cpus;
use stasis_convert::qemu::ram::{Block, Ram, RamWriter};
use stasis_convert::qemu::request::Request;
use stasis_convert::qemu::whole::{self, Needs, RAM_BASE, RAM_NAME, Written};
use stasis_guest::sysreg::identity;
use stasis_state::{Extents, GuestState, PAGE_SIZE};

use super::StreamBackend;
use super::machine::{Files, Machine, NO_PMU, NO_STOLEN_TIME, incoming};
use super::plugged::Plugged;
use super::requests;
use super::stream::Stream;
use crate::checkpoint::{Loaded, anyhow_of, image_of, only, routines};
use crate::output::Output;
use crate::report;

/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

/// What is converted, and for which QEMU.
#[derive(Debug, Args)]
pub struct Arguments {
    /// FILE, or DISK WHICH
    #[arg(num_args = 1..=2, required = true)]
    checkpoint: Vec<String>,
    /// The stream that is made
    #[arg(long)]
    out: PathBuf,
    /// What will run the guest
    #[arg(long, value_enum, default_value_t = StreamBackend::Tcg)]
    backend: StreamBackend,
    /// The QEMU that will run the guest
    #[arg(long, value_name = "PROGRAM", default_value = super::QEMU)]
    qemu: String,
    /// What that QEMU has written of such a machine with -S, by `migrate file:BASE`; if it is not
    /// given, QEMU is started for it
    #[arg(long)]
    base: Option<PathBuf>,
}

/// Makes the stream, and prints the command line that goes on from it.
pub fn run(arguments: Arguments) -> Result<()> {
    let mut loaded = only(&arguments.checkpoint)?;
    let backend = Backend::from(arguments.backend);
    let can_not = || format!("QEMU can't go on from {}", arguments.checkpoint.join(" "));
    let needs = Needs::of(&loaded.checkpoint.state, backend).with_context(can_not)?;
    let virtio = &loaded.checkpoint.state.devices.virtio;
    let devices = Plugged::of(virtio, |volume| image_of(&arguments.out, volume))?;
    let requests = requests::waiting(&mut loaded).with_context(can_not)?;
    let machine = machine(arguments.qemu, backend, &needs, devices);
    let (mut base, files) = match &arguments.base {
        Some(path) => (Stream::open(path)?, Files::Known),
        None => machine.base()?,
    };
    base.check_backend(backend)?;
    let ram = base.ram()?;
    let found = ram.block(RAM_NAME)?.len;
    ensure!(
        found == needs.ram,
        "the base has {} of RAM, the guest {}",
        report::size(found),
        report::size(needs.ram)
    );
    let state = &loaded.checkpoint.state;
    let written = whole::write(state, &requests, &mut base.bytes, &base.sections, backend);
    let written = written.with_context(can_not)?;
    check_identities(state, &written).with_context(can_not)?;
    let mut output = Output::create(&arguments.out)?;
    let len = write(&mut loaded, &base, &ram, &mut output)
        .with_context(|| format!("cannot write {}", arguments.out.display()))?;
    tell(&loaded.checkpoint.state, &written, &requests)?;
    loaded.write_disks(Path::new(&arguments.checkpoint[0]), &arguments.out)?;
    output.finish_and_tell()?;
    report::step(format_args!("{}: {}", arguments.out.display(), report::size(len)));
    if backend == Backend::Kvm {
        let cntfrq = *loaded.checkpoint.state.clock.cntfrq;
        report::note(format_args!(
            "not checked: the counter of the machine with KVM must have {cntfrq} Hz, as the guest's"
        ));
    }
    report::note(format_args!("{machine} -nographic {}", incoming(&arguments.out, files)));
    Ok(())
}

/// Returns the machine that the guest needs. No guest of Stasis was shown performance counters.
fn machine(program: String, backend: Backend, needs: &Needs, devices: Vec<Plugged>) -> Machine {
    let name = match needs.cpu {
        Some(cpu) => format!("{}{NO_PMU}", cpu.name),
        None => format!("host{NO_PMU}{NO_STOLEN_TIME}"),
    };
    let cntfrq = needs.cntfrq.map_or(String::new(), |cntfrq| format!(",cntfrq={cntfrq}"));
    let cpu = format!("{name}{cntfrq}");
    Machine { program, backend, cpu, cpus: needs.cpus, ram: needs.ram, devices }
}

/// Checks that QEMU's CPU has all that the guest was shown.
fn check_identities(state: &GuestState, written: &Written) -> Result<()> {
    for (index, (vcpu, raw)) in state.vcpus.iter().zip(&written.identities).enumerate() {
        identity::check(&vcpu.identity, raw, index)?;
    }
    Ok(())
}

/// Prints what becomes otherwise, and what QEMU will finish.
fn tell(state: &GuestState, written: &Written, requests: &[Request]) -> Result<()> {
    let all = state.vcpus.iter().zip(&written.identities).enumerate();
    let changes = all.flat_map(|(index, (vcpu, is))| cpus::changes(index, &vcpu.identity, is));
    let changes: Vec<_> = changes.collect();
    let losses: Vec<_> = written.losses.iter().filter(|loss| loss.is_observable()).collect();
    let virtio = &state.devices.virtio;
    report::print(|out| {
        changes.iter().try_for_each(|change| writeln!(out, "changed: {change}"))?;
        for (slot, _) in virtio.slots() {
            let count = requests.iter().filter(|request| request.slot == slot).count();
            if count != 0 {
                let volume = virtio.name_text(slot);
                writeln!(out, "goes on: {count} requests of the disk \"{volume}\"")?;
            }
        }
        losses.iter().try_for_each(|loss| writeln!(out, "lost: {loss}"))
    })
}

/// Writes the stream, and returns its length.
fn write(loaded: &mut Loaded, base: &Stream, ram: &Ram, output: &mut Output) -> Result<u64> {
    let (mut writer, head) = RamWriter::new(ram);
    let mut out = Counted { out: BufWriter::with_capacity(BUFFER, output), done: 0 };
    copy(base, 0..head, &mut out)?;
    out.put(&writer.begin())?;
    for block in ram.blocks.iter().filter(|block| block.name != RAM_NAME) {
        for (address, at) in block.pages() {
            put_head(&mut writer, block, address, &mut out)?;
            copy(base, at..at + PAGE_SIZE as u64, &mut out)?;
        }
    }
    let main = ram.block(RAM_NAME)?;
    let (mut opened, checkpoint) = loaded.open()?;
    let mut extents = Extents::new(&mut opened, checkpoint, routines()).map_err(anyhow_of)?;
    while let Some(extent) = extents.read_next().map_err(anyhow_of)? {
        let mut address = extent.address - RAM_BASE;
        for page in extents.pages() {
            put_head(&mut writer, main, address, &mut out)?;
            out.put(page)?;
            address += PAGE_SIZE as u64;
        }
    }
    out.put(&writer.finish())?;
    out.put(base.devices())?;
    out.out.flush()?;
    Ok(out.done)
}

/// Writes what stands before a page.
fn put_head<'r>(
    writer: &mut RamWriter<'r>,
    block: &'r Block,
    address: u64,
    out: &mut Counted<'_>,
) -> Result<()> {
    let mut head = Vec::with_capacity(8);
    writer.page(block, address, &mut head);
    out.put(&head)
}

/// Copies bytes of the base.
fn copy(base: &Stream, bytes: std::ops::Range<u64>, out: &mut Counted<'_>) -> Result<()> {
    let mut piece = [0; PAGE_SIZE];
    let mut at = bytes.start;
    while at < bytes.end {
        let piece = &mut piece[..PAGE_SIZE.min((bytes.end - at) as usize)];
        base.read_at(at, piece).context("cannot read the base")?;
        out.put(piece)?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// A file that is written, and how much of it was.
struct Counted<'o> {
    out: BufWriter<&'o mut Output>,
    done: u64,
}

impl Counted<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes)?;
        self.done += bytes.len() as u64;
        Ok(())
    }
}
