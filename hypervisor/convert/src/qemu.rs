//! The section `arm_gic`, version 12, of QEMU's migration stream (hw/intc/arm_gic_common.c).
//!
//! - [`section`]: its fields, byte for byte; [`stream`]: where it is in a stream.
//! - [`encode()`] and [`decode()`]: a state to it and back.
//! - [`whole`], [`read`]: a whole guest to a stream and back; `cpu`, `device`, [`virtio`] (with
//!   `layout` and [`request`]): the sections of its vCPUs and devices; [`cpus`]: which CPUs.
//! - [`sections`], [`ram`]: where the devices and the memory are in a stream; `description`,
//!   `fields`, `cursor`: how they are read.
//! - [`Backend`]: both of QEMU's GICs use the section, and not in the same way.

mod cpu;
pub mod cpus;
mod cursor;
mod decode;
mod description;
mod device;
mod encode;
mod fields;
pub(crate) mod layout;
pub mod ram;
pub mod read;
pub mod request;
pub mod section;
pub mod sections;
pub mod stream;
pub mod virtio;
pub mod whole;

use alloc::vec::Vec;

pub use cpus::Cpu;
pub use decode::{Decoded, Machine, decode};
pub use encode::{Encoded, encode};
pub use section::{ArmGic, VirtState};
pub use sections::{Part, Sections};
pub use stream::{Located, locate};

use crate::error::Error;
use crate::loss::Loss;
use crate::vgic::Vgic;

/// The back end that is the GIC of a machine of QEMU's. The stream does not tell.
///
/// With KVM the section has what KVM gives: GICC_PMR without its lower three bits, and 32 levels in
/// GICC_APR. QEMU copies both raw, so a stream is only good for the back end that it was written
/// by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// QEMU itself (`-accel tcg`).
    Tcg,
    /// KVM (`-accel kvm`).
    Kvm,
}

/// Puts a state in the place of the GIC in a stream of a machine like the guest's. All else stays.
pub fn replace(stream: &mut [u8], state: &Vgic, backend: Backend) -> Result<Vec<Loss>, Error> {
    let located = locate(stream)?;
    let (machine, guest) = (located.cpus, state.cpus.len());
    if machine != guest {
        return Err(Error::Cpus { stream: machine, guest });
    }
    let Encoded { section, losses } = encode(state, backend);
    located.replace(stream, &section)?;
    Ok(losses)
}
