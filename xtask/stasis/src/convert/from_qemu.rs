//! `stasis convert from-qemu`: a machine of QEMU's as a checkpoint, or its GIC in words.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use stasis_convert::qemu::ram::Block;
use stasis_convert::qemu::read::{self, Origin};
use stasis_convert::qemu::virtio;
use stasis_convert::qemu::whole::{RAM_BASE, RAM_NAME};
use stasis_convert::qemu::{self, Backend, Cpu};
use stasis_devices::list::Devices;
use stasis_devices::machine::{MAX_VCPUS, RAM_MAX, RAM_UNIT};
use stasis_guest::sysreg::identity;
use stasis_state::guest::Lineage;
use stasis_state::written::BLOCK_SIZE;
use stasis_state::{Capture, GuestState, OutOfRange, PAGE_SIZE, ReadRam, SaveError, Sink};

use super::machine::{Machine, NO_PMU, NO_STOLEN_TIME};
use super::plugged::{self, Disk, Plugged};
use super::stream::{Stream, check_ram};
use super::{StreamBackend, show};
use crate::checkpoint::{image_of, routines};
use crate::output::{Output, finish_together_and_tell};
use crate::report;
use crate::volume::image;

/// What is converted, and from which QEMU.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What QEMU's `migrate file:STREAM` has written
    stream: PathBuf,
    /// The checkpoint that is made; if it is not given, the GIC is printed, and nothing is made
    #[arg(long)]
    out: Option<PathBuf>,
    /// The guest's name
    #[arg(long, default_value = "guest")]
    name: String,
    /// A disk: its volume's name, and its image, in the order of the slots
    #[arg(long = "disk", value_name = "VOLUME=IMAGE")]
    disks: Vec<Disk>,
    /// The network of a network card, in the order of the slots
    #[arg(long = "network", value_name = "NAME")]
    networks: Vec<String>,
    /// What ran the guest
    #[arg(long, value_enum, default_value_t = StreamBackend::Tcg)]
    backend: StreamBackend,
    /// The CPU that QEMU was started with; with KVM it is the machine's
    #[arg(long, default_value = "cortex-a72")]
    cpu: String,
    /// How fast the counter of the machine with KVM is, in Hz, which no stream says; its Linux
    /// does, in the line of `dmesg` with arch_timer
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u64).range(1..))]
    counter_frequency: Option<u64>,
    /// The QEMU that has written the stream
    #[arg(long, value_name = "PROGRAM", default_value = super::QEMU)]
    qemu: String,
    /// What that QEMU has written of such a machine with -S, by `migrate file:BASE`; if it is not
    /// given, QEMU is started for it
    #[arg(long)]
    base: Option<PathBuf>,
}

/// Makes the checkpoint.
pub fn run(arguments: &Arguments) -> Result<()> {
    let Some(out) = &arguments.out else {
        return print(&arguments.stream, arguments.backend.into());
    };
    let backend = Backend::from(arguments.backend);
    stasis_state::name::check(&arguments.name)
        .map_err(|error| anyhow!("\"{}\" is no name: {error}", arguments.name))?;
    let cpu = Cpu::named(&arguments.cpu)?;
    let can_not = || format!("Stasis can't go on from {}", arguments.stream.display());
    let mut stream = Stream::open(&arguments.stream)?;
    stream.check_backend(backend)?;
    let origin = match backend {
        Backend::Tcg => Origin::Tcg(&cpu),
        Backend::Kvm => Origin::Kvm { cntfrq: counter_frequency(arguments)? },
    };
    let ram = stream.ram()?;
    let size = check_ram(&ram).with_context(can_not)?;
    let cpus = stream.sections.count("cpu");
    check_size(size, cpus).with_context(can_not)?;
    let mut base = match &arguments.base {
        Some(path) => Stream::open(path)?,
        None => base_of(arguments, &mut stream, backend, size)?,
    };
    base.check_backend(backend)?;
    let main = ram.block(RAM_NAME)?;
    let file = stream.file()?;
    let load = |address| load(&file, main, address);
    let read = read::read(&mut stream.part(), &mut base.part(), origin, &load);
    let read::Read { mut state, losses, unknowns, left_behind } = read.with_context(can_not)?;
    state.guest.set_name(&arguments.name);
    *state.guest.ram_size = size;
    *state.clock.wall_time = stream.written();
    state.lineage = Some(Lineage::new(random()?, 0, 0));
    for (index, vcpu) in state.vcpus.iter_mut().enumerate() {
        identity::check_origin(&vcpu.identity).with_context(can_not)?;
        vcpu.identity = identity::present(&vcpu.identity, index);
    }
    plugged::complete(&mut state.devices.virtio, &arguments.disks, &arguments.networks)
        .with_context(can_not)?;
    let devices = Devices::restored(state.devices.clone(), *state.clock.wall_time);
    state.machine = Some(Box::new(devices.machine()));
    let memory = StreamRam::new(&stream, main);
    let (output, len) = save(&state, &memory, out)?;
    finish(output, out, &arguments.disks)?;
    report::print(|out| {
        left_behind.iter().try_for_each(|what| writeln!(out, "left behind: {what}"))?;
        losses.iter().try_for_each(|loss| writeln!(out, "lost: {loss}"))?;
        unknowns.iter().try_for_each(|unknown| writeln!(out, "not said: {unknown}"))
    })?;
    report::step(format_args!("{}: {}", out.display(), report::size(len)));
    Ok(())
}

/// Returns what a QEMU writes of a machine like that of `stream` that has not begun, with `ram`
/// bytes.
fn base_of(
    arguments: &Arguments,
    stream: &mut Stream,
    backend: Backend,
    ram: u64,
) -> Result<Stream> {
    let pmu = if qemu::cpus::has_pmu(&mut stream.part())? { "" } else { NO_PMU };
    let cpu = match backend {
        Backend::Tcg => format!("{}{pmu}", arguments.cpu),
        Backend::Kvm => format!("host{pmu}{NO_STOLEN_TIME}"),
    };
    let cpus = stream.sections.count("cpu");
    let program = arguments.qemu.clone();
    let devices = virtio::devices(&stream.sections).map(Plugged::blank).collect();
    Ok(Machine { program, backend, cpu, cpus, ram, devices }.base()?.0)
}

/// Returns how fast the counter of the machine with a KVM is, in Hz.
fn counter_frequency(arguments: &Arguments) -> Result<u64> {
    arguments.counter_frequency.context(
        "say --counter-frequency HZ: how fast the counter of the machine with KVM is, which its streams do not say; its Linux says it in the line of `dmesg` with arch_timer",
    )
}

/// Returns a number in the machine's RAM, by its guest-physical address; `None` if it is not there.
fn load(stream: &File, ram: &Block, address: u64) -> Option<u16> {
    let offset = address.checked_sub(RAM_BASE).filter(|offset| *offset < ram.len)?;
    let (page, within) = (offset - offset % PAGE_SIZE as u64, offset % PAGE_SIZE as u64);
    let Some(at) = ram.page(page) else { return Some(0) };
    let mut bytes = [0; 2];
    let is_whole = within < PAGE_SIZE as u64 - 1;
    (is_whole && stream.read_exact_at(&mut bytes, at + within).is_ok())
        .then_some(u16::from_le_bytes(bytes))
}

/// Checks that Stasis can have a guest of this size.
fn check_size(ram: u64, cpus: usize) -> Result<()> {
    ensure!(
        ram.is_multiple_of(RAM_UNIT) && ram <= RAM_MAX,
        "it has {} of RAM; a guest has a multiple of 2 MiB, up to {}",
        report::size(ram),
        report::size(RAM_MAX)
    );
    ensure!((1..=usize::from(MAX_VCPUS)).contains(&cpus), "it has {cpus} CPUs; a guest has 1 to 8");
    Ok(())
}

/// Returns 128 bits that no other checkpoint has.
fn random() -> Result<u128> {
    let mut bytes = [0; 16];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.context("cannot read /dev/urandom")?;
    Ok(u128::from_le_bytes(bytes))
}

/// Copies the images of the disks beside the checkpoint, and finishes it with them: none is there
/// if one could not be written.
fn finish(checkpoint: Output, path: &Path, disks: &[Disk]) -> Result<()> {
    let (mut outputs, mut copied) = (Vec::new(), Vec::new());
    for Disk { volume, image } in disks {
        let to = image_of(path, volume)?;
        if let Some((output, length)) = image::begin_copy(image, &to)? {
            outputs.push(output);
            copied.push((to, length));
        }
    }
    finish_together_and_tell(outputs.into_iter().chain([checkpoint]))?;
    for (to, length) in copied {
        report::step(format_args!("{}: {}", to.display(), report::size(length)));
    }
    Ok(())
}

/// Writes the checkpoint, which is not finished, and returns it with its length.
fn save(state: &GuestState, memory: &StreamRam<'_>, path: &Path) -> Result<(Output, u64)> {
    let mut output = Output::create(path)?;
    let capture = Capture::new(state.records(), memory, &[], routines())?;
    let mut sink = Written(BufWriter::with_capacity(BLOCK_SIZE, &mut output));
    let saved = capture.write(&mut sink, &mut |_, _| ());
    if let Some(error) = memory.failed.take() {
        bail!("cannot read {}: {error}", memory.stream.name);
    }
    let stats = saved.map_err(|error| match error {
        SaveError::Sink(error) => error.context(format!("cannot write {}", path.display())),
        error => anyhow!("{error}"),
    })?;
    drop(sink);
    Ok((output, stats.bytes))
}

/// A checkpoint in a file.
struct Written<'o>(BufWriter<&'o mut Output>);

impl Sink for Written<'_> {
    type Error = anyhow::Error;

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write_all(bytes)?)
    }

    fn rewrite(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.flush()?;
        let file = self.0.get_mut();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(bytes)?;
        file.seek(SeekFrom::End(0))?;
        Ok(())
    }
}

/// The RAM of a machine in a stream, of which one block of 2 MiB is in memory.
struct StreamRam<'s> {
    stream: &'s Stream,
    block: &'s Block,
    /// The offset of the block that was read last, and its bytes.
    read: RefCell<(usize, Vec<u8>)>,
    /// Why the stream could not be read.
    failed: Cell<Option<std::io::Error>>,
}

impl std::fmt::Debug for StreamRam<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamRam").field("stream", &self.stream.name).finish_non_exhaustive()
    }
}

impl<'s> StreamRam<'s> {
    fn new(stream: &'s Stream, block: &'s Block) -> Self {
        Self { stream, block, read: RefCell::default(), failed: Cell::new(None) }
    }

    /// Calls `with` with the block that has the byte at `offset`, and that byte's offset in it.
    fn with_block<T>(&self, offset: usize, with: impl FnOnce(&Vec<u8>, usize) -> T) -> T {
        let start = offset - offset % BLOCK_SIZE;
        let mut read = self.read.borrow_mut();
        if read.1.is_empty() || read.0 != start {
            let len = BLOCK_SIZE.min(self.len() - start);
            read.1.clear();
            read.1.resize(len, 0);
            read.0 = start;
            if let Err(error) = self.fill(start, &mut read.1) {
                self.failed.set(Some(error));
            }
        }
        with(&read.1, offset - start)
    }

    /// Reads the pages of a block that are not zeros. QEMU writes a few bytes before each page, so
    /// those that follow each other in the stream are read with what lies between them, at once.
    fn fill(&self, start: usize, into: &mut [u8]) -> std::io::Result<()> {
        let mut pages = self.pages(start, into.len()).peekable();
        let mut together = Vec::new();
        while let Some(first) = pages.next() {
            let mut run = vec![first];
            while let Some(page) = pages.next_if(|page| follows(run[run.len() - 1], *page)) {
                run.push(page);
            }
            let end = run[run.len() - 1].at + PAGE_SIZE as u64;
            together.resize((end - first.at) as usize, 0);
            self.stream.read_at(first.at, &mut together)?;
            for Stored { offset, at } in run {
                let from = (at - first.at) as usize;
                into[offset..][..PAGE_SIZE].copy_from_slice(&together[from..][..PAGE_SIZE]);
            }
        }
        Ok(())
    }

    /// Returns the pages that are not zeros of the `len` bytes from `start` on.
    fn pages(&self, start: usize, len: usize) -> impl Iterator<Item = Stored> {
        let mut address = start as u64;
        std::iter::from_fn(move || {
            let page = self.block.next(address)?;
            let offset = (page - start as u64) as usize;
            address = page + PAGE_SIZE as u64;
            (offset < len).then(|| Stored { offset, at: self.block.page(page).unwrap_or(0) })
        })
    }
}

/// A page of a block that is in the stream.
#[derive(Clone, Copy)]
struct Stored {
    /// The page's offset in the block.
    offset: usize,
    /// The offset of the page's bytes in the stream.
    at: u64,
}

/// Returns whether `next` is in the stream right behind `page`, and what QEMU writes before it.
fn follows(page: Stored, next: Stored) -> bool {
    /// Bytes that may lie between: QEMU writes 8, and the name of the memory where it has changed.
    const MOST: u64 = 512;
    let end = page.at + PAGE_SIZE as u64;
    (end..=end + MOST).contains(&next.at)
}

impl ReadRam for StreamRam<'_> {
    fn len(&self) -> usize {
        self.block.len as usize
    }

    fn next_content(&self, offset: usize) -> Option<usize> {
        let page = offset - offset % PAGE_SIZE;
        Some((self.block.next(page as u64)? as usize).max(offset))
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        OutOfRange::check_len(offset, into.len(), self.len())?;
        self.with_block(offset, |block, at| block.read(at, into))
    }

    fn crc32c(&self, crc: u32, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        let len = OutOfRange::check(&bytes, self.len())?;
        self.with_block(bytes.start, |block, at| {
            OutOfRange::check_len(at, len, block.len())?;
            Ok((routines().crc32c)(crc, &block[at..at + len]))
        })
    }

    fn pages_with_content(&self, offset: usize, count: usize) -> Result<u64, OutOfRange> {
        self.with_block(offset, |block, at| block.pages_with_content(at, count))
    }
}

/// Prints the GIC in a stream.
fn print(path: &Path, backend: Backend) -> Result<()> {
    let mut stream = Stream::open(path)?;
    stream.check_backend(backend)?;
    let what = || format!("in {}", stream.name);
    let located = qemu::locate(&stream.bytes).with_context(what)?;
    let section = located.section(&stream.bytes).with_context(what)?;
    let cpus = u8::try_from(located.cpus).ok().filter(|cpus| (1..=MAX_VCPUS).contains(cpus));
    let cpus = cpus.with_context(|| format!("a GICv2 has no {} CPUs", located.cpus))?;
    // Show all bits that QEMU's own GIC has.
    let machine = qemu::Machine { prio_bits: 8, ..qemu::Machine::virt(cpus) };
    let decoded = qemu::decode(&section, machine, backend).with_context(what)?;
    let mut text = show::show(&decoded.vgic)?;
    if let Some(virt) = located.virt_state(&stream.bytes) {
        text += &show::show_gich(&virt, cpus.into())?;
    }
    for unknown in &decoded.unknowns {
        writeln!(text, "not said: {unknown}")?;
    }
    report::print(|out| out.write_all(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_not_there_without_the_images_of_its_disks() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("root.img"), [1; 4096]).unwrap();
        let disk = |image: &str| Disk { volume: "root".to_owned(), image: path(image) };
        let begin = || Output::create(&path("out")).unwrap();
        let error = finish(begin(), &path("out"), &[disk("none.img")]).unwrap_err();
        assert!(error.to_string().contains("none.img"), "{error}");
        assert!(!path("out").exists());
        finish(begin(), &path("out"), &[disk("root.img")]).unwrap();
        let image = image_of(&path("out"), "root").unwrap();
        assert!(path("out").exists() && std::fs::read(image).unwrap() == [1; 4096]);
    }
}
