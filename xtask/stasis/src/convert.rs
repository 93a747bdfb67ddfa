//! `stasis convert`: converts the virtual GIC of a checkpoint for KVM and QEMU, and shows that of QEMU.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Subcommand, ValueEnum};
use stasis_convert::qemu::{self, Backend, Machine};
use stasis_convert::{Bits, Interrupt, Vgic, kvm};

use crate::checkpoint::Loaded;
use crate::output::Output;
use crate::report;

/// The text behind the command's help.
pub const DETAILS: &str = "\
What is lost on the way is said. docs/conversion.md tells more.";

/// What is converted to what.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Make a copy of a stream with the checkpoint's GIC, for QEMU's `-incoming file:OUT`
    Qemu {
        /// A checkpoint's file
        file: PathBuf,
        /// What QEMU's `migrate file:STREAM` has written
        #[arg(long)]
        stream: PathBuf,
        /// The stream that is made
        #[arg(long)]
        out: PathBuf,
        /// What ran the guest of the QEMU that has written the stream
        #[arg(long, value_enum, default_value_t = StreamBackend::Tcg)]
        backend: StreamBackend,
    },
    /// Print the GIC in a stream of QEMU's, in words
    FromQemu {
        /// What QEMU's `migrate file:STREAM` has written
        stream: PathBuf,
        /// What ran the guest of the QEMU that has written the stream
        #[arg(long, value_enum, default_value_t = StreamBackend::Tcg)]
        backend: StreamBackend,
    },
    /// Print what must be done with KVM's GICv2 device, for programs that make a guest of their own; `stasis-kvm` runs whole checkpoints
    Kvm {
        /// A checkpoint's file
        file: PathBuf,
    },
}

/// The accelerators of QEMU. Each has a GIC of its own.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum StreamBackend {
    /// QEMU itself.
    Tcg,
    /// KVM: `-accel kvm`.
    Kvm,
}

impl From<StreamBackend> for Backend {
    fn from(backend: StreamBackend) -> Self {
        match backend {
            StreamBackend::Tcg => Self::Tcg,
            StreamBackend::Kvm => Self::Kvm,
        }
    }
}

impl Action {
    /// Carries out the command.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Qemu { file, stream, out, backend } => {
                to_qemu(&file, &stream, &out, backend.into())
            }
            Self::FromQemu { stream, backend } => from_qemu(&stream, backend.into()),
            Self::Kvm { file } => to_kvm(&file),
        }
    }
}

fn checkpoint(file: &Path) -> Result<Vgic> {
    Ok(Vgic::from(&Loaded::from_file(file)?.checkpoint.state))
}

fn to_kvm(file: &Path) -> Result<()> {
    let text = attributes(&kvm::write(&checkpoint(file)?))?;
    report::print(|out| out.write_all(text.as_bytes()))
}

/// Returns the accesses to KVM's device as text. Every line that is no access begins with `#`.
fn attributes(written: &kvm::Written) -> Result<String, fmt::Error> {
    let mut text = String::from("# KVM_SET_DEVICE_ATTR, in this order: group, attr, value\n");
    for attribute in &written.attributes {
        writeln!(text, "{attribute}")?;
    }
    writeln!(text, "# KVM_IRQ_LINE with level 1: irq")?;
    for line in &written.lines {
        writeln!(text, "{:#010x}", line.encoded())?;
    }
    for loss in &written.losses {
        writeln!(text, "# lost: {loss}")?;
    }
    Ok(text)
}

fn to_qemu(file: &Path, stream: &Path, out: &Path, backend: Backend) -> Result<()> {
    let vgic = checkpoint(file)?;
    let mut stream_end = StreamEnd::read(stream)?;
    let losses = qemu::replace(&mut stream_end.bytes, &vgic, backend)
        .with_context(|| format!("{} can't take it", stream.display()))?;
    let mut output = Output::create(out)?;
    stream_end.copy_to(&mut output).with_context(|| format!("cannot copy {}", stream.display()))?;
    output.finish_and_tell()?;
    let told = losses.iter().filter(|loss| loss.is_observable());
    report::print(|out| told.clone().try_for_each(|loss| writeln!(out, "lost: {loss}")))?;
    report::step(format_args!("{}: {}", out.display(), report::size(stream_end.len)));
    Ok(())
}

/// The end of a migration stream, which has the devices. RAM comes before all devices, and is not read.
struct StreamEnd {
    file: File,
    len: u64,
    /// The stream's magic, and behind it the last bytes of the stream; the whole stream if it is short.
    bytes: Vec<u8>,
}

impl StreamEnd {
    /// Bytes of a stream's magic.
    const MAGIC_LEN: u64 = 8;
    /// Bytes that are read. The devices of a machine `virt` take some hundred KiB.
    const MOST: u64 = 32 << 20;

    fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let metadata =
            file.metadata().with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            metadata.is_file(),
            "{} is no regular file, of which the end is read first; write the stream to a file, and name that",
            path.display()
        );
        let len = metadata.len();
        let magic = len.min(Self::MAGIC_LEN);
        let mut bytes = vec![0; len.min(Self::MOST) as usize];
        let (head, tail) = bytes.split_at_mut(magic as usize);
        file.read_exact_at(head, 0)
            .and_then(|()| file.read_exact_at(tail, len - tail.len() as u64))
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { file, len, bytes })
    }

    /// Writes the stream to `out`, with `bytes` in the place of its end.
    fn copy_to(&self, out: &mut Output) -> Result<()> {
        let tail = &self.bytes[self.len.min(Self::MAGIC_LEN) as usize..];
        let before = self.len - tail.len() as u64;
        let copied = io::copy(&mut (&self.file).take(before), out.file())?;
        ensure!(copied == before, "it has become shorter meanwhile: {copied} of {before} bytes");
        out.put(tail)
    }
}

fn from_qemu(stream: &Path, backend: Backend) -> Result<()> {
    let bytes = StreamEnd::read(stream)?.bytes;
    let what = || format!("in {}", stream.display());
    let located = qemu::locate(&bytes).with_context(what)?;
    let section = located.section(&bytes).with_context(what)?;
    let cpus = u8::try_from(located.cpus).ok().filter(|cpus| (1..=8).contains(cpus));
    let cpus = cpus.with_context(|| format!("a GICv2 has no {} CPUs", located.cpus))?;
    // Show all bits that QEMU's own GIC has.
    let machine = Machine { prio_bits: 8, ..Machine::virt(cpus) };
    let decoded = qemu::decode(&section, machine, backend).with_context(what)?;
    let mut text = show(&decoded.vgic)?;
    if let Some(virt) = located.virt_state(&bytes) {
        text += &show_gich(&virt, cpus.into())?;
    }
    for unknown in &decoded.unknowns {
        writeln!(text, "not said: {unknown}")?;
    }
    report::print(|out| out.write_all(text.as_bytes()))
}

/// The columns of [`row`].
const HEADER: &str =
    "INTID VCPU  ENABLED  LATCHED  LINE   EDGE  ACTIVE ON PRIORITY  GROUP  TARGETS  SOURCES\n";

/// Returns a virtual GIC as text, with its interrupts that are enabled, pending or active.
fn show(vgic: &Vgic) -> Result<String, fmt::Error> {
    let mut text = String::new();
    writeln!(
        text,
        "GICD_CTLR {:#x}, GICD_IIDR {:#010x}",
        *vgic.distributor.ctlr, *vgic.distributor.iidr
    )?;
    for (index, cpu) in vgic.cpus.iter().enumerate() {
        write!(text, "vCPU {index}: GICC_CTLR {:#x}, PMR {:#04x}, ", *cpu.cc_ctlr, *cpu.cc_pmr)?;
        write!(text, "BPR {}, ABPR {}, APR", *cpu.cc_bpr, *cpu.cc_abpr)?;
        for word in cpu.cc_apr.iter() {
            write!(text, " {word:08x}")?;
        }
        writeln!(text)?;
    }
    let rows = vgic.interrupts().filter(|&interrupt| in_use(vgic, interrupt));
    let rows: Vec<_> = rows.map(|interrupt| row(vgic, interrupt)).collect();
    if !rows.is_empty() {
        text += HEADER;
    }
    for row in rows {
        writeln!(text, "{}", row.trim_end())?;
    }
    Ok(text)
}

/// Returns whether the guest uses the interrupt in any way.
fn in_use(vgic: &Vgic, interrupt: Interrupt) -> bool {
    let sgi_sent = match interrupt {
        Interrupt::Private { vcpu, intid } => {
            vgic.cpus[vcpu].sgi_src.get(intid).is_some_and(|&sources| sources != 0)
        }
        Interrupt::Shared { .. } => false,
    };
    // SGIs are always enabled.
    sgi_sent
        || vgic.bit(Bits::Enable, interrupt) && !interrupt.is_sgi()
        || [Bits::Latch, Bits::Level, Bits::Active].iter().any(|&bits| vgic.bit(bits, interrupt))
}

fn row(vgic: &Vgic, interrupt: Interrupt) -> String {
    let bit = |bits| if vgic.bit(bits, interrupt) { "yes" } else { "-" };
    let holder = vgic.holder(interrupt).map_or("-".to_owned(), |vcpu| format!("vCPU {vcpu}"));
    let (vcpu, targets, sources) = match interrupt {
        Interrupt::Shared { intid } => {
            (String::new(), format!("{:#04x}", vgic.targets(intid)), None)
        }
        Interrupt::Private { vcpu, intid } => {
            (vcpu.to_string(), String::new(), vgic.cpus[vcpu].sgi_src.get(intid))
        }
    };
    let sources = sources.map_or(String::new(), |mask| format!("{mask:#04x}"));
    format!(
        "{:<6}{vcpu:<6}{:<9}{:<9}{:<7}{:<6}{holder:<10}{:#04x}      {:<7}{targets:<9}{sources}",
        interrupt.intid(),
        bit(Bits::Enable),
        bit(Bits::Latch),
        if vgic.bit(Bits::Level, interrupt) { "high" } else { "low" },
        bit(Bits::Edge),
        vgic.priority(interrupt),
        u8::from(vgic.bit(Bits::Group, interrupt)),
    )
}

fn show_gich(virt: &qemu::VirtState, cpus: usize) -> Result<String, fmt::Error> {
    let mut text = String::new();
    for cpu in 0..cpus {
        write!(text, "CPU {cpu}: GICH_HCR {:#010x}, ", virt.h_hcr[cpu].get())?;
        write!(text, "MISR {:#x}, APR {:#010x}", virt.h_misr[cpu].get(), virt.h_apr[cpu].get())?;
        for (n, lr) in virt.h_lr.iter().enumerate().filter(|(_, lr)| lr[cpu].get() != 0) {
            write!(text, ", LR{n} {:#010x}", lr[cpu].get())?;
        }
        writeln!(text)?;
        write!(text, "    GICV_CTLR {:#x}, ", virt.cpu_ctlr[cpu].get())?;
        write!(text, "PMR {:#04x}, ", virt.priority_mask[cpu].get())?;
        writeln!(text, "BPR {}, ABPR {}", virt.bpr[cpu], virt.abpr[cpu])?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_becomes_shorter_while_it_is_copied_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream");
        File::create(&path).unwrap().set_len(StreamEnd::MOST + 4096).unwrap();
        let end = StreamEnd::read(&path).unwrap();
        let mut output = Output::create(&folder.path().join("out")).unwrap();
        end.copy_to(&mut output).unwrap();
        let end = StreamEnd::read(&path).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
        let error = end.copy_to(&mut output).unwrap_err().to_string();
        assert_eq!(error, "it has become shorter meanwhile: 100 of 4104 bytes");
    }

    #[test]
    fn a_stream_that_is_no_file_is_refused_by_name() {
        let error = StreamEnd::read(Path::new("/dev/null")).err().unwrap().to_string();
        assert!(error.starts_with("/dev/null is no regular file"), "{error}");
    }

    #[test]
    fn only_interrupts_that_are_in_use_are_shown() {
        let mut vgic = Vgic::new(288, 2);
        assert!(!show(&vgic).unwrap().contains("INTID"));
        let spi = Interrupt::Shared { intid: 33 };
        vgic.set_bit(Bits::Enable, spi, true);
        vgic.set_priority(spi, 0xa0);
        vgic.set_priority(Interrupt::Shared { intid: 34 }, 0xa0);
        vgic.set_holder(33, Some(1));
        vgic.distributor.spi_targets[1] = 1;
        vgic.cpus[1].sgi_src[4] = 2;
        let text = show(&vgic).unwrap();
        let rows: Vec<_> = text.lines().skip(4).collect();
        assert_eq!(
            rows,
            [
                "4     1     yes      -        low    yes   -         0x00      0               0x02",
                "33          yes      -        low    -     vCPU 1    0xa0      0      0x01",
            ]
        );
    }

    #[test]
    fn all_that_is_no_number_for_kvm_begins_with_a_hash() {
        let mut vgic = Vgic::new(64, 1);
        vgic.set_bit(Bits::Level, Interrupt::Shared { intid: 33 }, true);
        let text = attributes(&kvm::write(&vgic)).unwrap();
        let numbers: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(numbers[0], "3 0x0000000000 0x00000040");
        assert_eq!(numbers.last(), Some(&"0x01000021"));
        assert!(text.contains("# lost: GICD_IIDR is"));
    }
}
