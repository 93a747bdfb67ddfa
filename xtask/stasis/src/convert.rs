//! `stasis convert`: whole guests to QEMU and from it, and the virtual GIC of a checkpoint for KVM.
//!
//! - [`to_qemu`], [`from_qemu`]: the two directions; [`machine`]: the QEMU at the other end, and
//!   the base that it writes; [`plugged`]: its virtio devices; [`requests`]: what its disks have
//!   not done yet; [`stream`]: a stream's file.
//! - [`show`]: a GIC in words.

mod from_qemu;
mod machine;
mod plugged;
mod requests;
mod show;
mod stream;
mod to_qemu;

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use stasis_convert::qemu::Backend;
use stasis_convert::{Vgic, kvm};

use crate::checkpoint::Loaded;
use crate::report;

/// The text behind the command's help.
pub const DETAILS: &str = "\
What is lost on the way is said. docs/conversion.md tells more.";

/// The program of QEMU's.
const QEMU: &str = "qemu-system-aarch64";

/// What is converted to what.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Make a stream from which QEMU goes on with a checkpoint's guest, and print the command for
    /// it
    Qemu(to_qemu::Arguments),
    /// Make a checkpoint of a machine that QEMU has written, or print its GIC
    FromQemu(Box<from_qemu::Arguments>),
    /// Print what must be done with KVM's GICv2 device, for programs that make a guest of their
    /// own; `stasis-kvm` runs whole checkpoints
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
            Self::Qemu(arguments) => to_qemu::run(arguments),
            Self::FromQemu(arguments) => from_qemu::run(&arguments),
            Self::Kvm { file } => to_kvm(&file),
        }
    }
}

fn checkpoint(file: &Path) -> Result<Vgic> {
    Ok(Vgic::settled(&Loaded::from_file(file)?.checkpoint.state))
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

#[cfg(test)]
mod tests {
    use stasis_convert::{Bits, Interrupt};

    use super::*;

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
