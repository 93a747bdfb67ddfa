//! The section `arm_gic` in a migration stream: [`locate`].

use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::{FromBytes, IntoBytes};

use super::description::{Device, Field};
use super::section::{ArmGic, NAME, VERSION, VIRT_NAME, VIRT_VERSION, VirtState};
use super::sections::Sections;
use crate::error::Error;

pub(super) const SUBSECTION: u8 = 0x05;
/// In the description: what of the stream are CPUs.
pub(super) const CPU_NAME: &str = "cpu";

/// Where things are in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The section, without its header and its subsections.
    pub gic: Range<usize>,
    /// The subsection `arm_gic_virt_state`, without its header, where there is one.
    pub virt: Option<Range<usize>>,
    /// CPUs of the machine.
    pub cpus: usize,
}

/// Finds the section in a stream.
pub fn locate(stream: &[u8]) -> Result<Located, Error> {
    locate_in(stream, &Sections::find(stream)?)
}

/// Finds the section among those of a stream.
pub fn locate_in(stream: &[u8], sections: &Sections) -> Result<Located, Error> {
    let section = sections.get(NAME, 0).map_err(|_| Error::NoSection)?;
    let (gic, virt) = contents(stream, &section.device, section.contents.start)?;
    Ok(Located { gic, virt, cpus: sections.count(CPU_NAME) })
}

type Parts = (Range<usize>, Option<Range<usize>>);

/// The section's fields and those of its subsection, if they are the ones that are known here.
fn contents(stream: &[u8], device: &Device, start: usize) -> Result<Parts, Error> {
    if device.version != Some(VERSION) {
        return Err(Error::SectionVersion { found: device.version.unwrap_or(0) });
    }
    layout(&device.contents.fields, ArmGic::FIELDS)?;
    let gic = start..start + size_of::<ArmGic>();
    let mut at = gic.end;
    let mut virt = None;
    for subsection in &device.contents.subsections {
        let lost = || Error::SectionLayout { what: format!("no {}", subsection.vmsd_name) };
        let mut header = Vec::from([SUBSECTION, subsection.vmsd_name.len() as u8]);
        header.extend(subsection.vmsd_name.bytes());
        header.extend(subsection.version.to_be_bytes());
        if !stream[at..].starts_with(&header) {
            return Err(lost());
        }
        at += header.len();
        // All of it lies in the section, whose length has been computed.
        let len = subsection.contents.len().ok_or_else(lost)?;
        if subsection.vmsd_name == VIRT_NAME && subsection.version == VIRT_VERSION {
            layout(&subsection.contents.fields, VirtState::FIELDS)?;
            virt = Some(at..at + size_of::<VirtState>());
        }
        at += len;
    }
    Ok((gic, virt))
}

fn layout(found: &[Field], known: &[(&str, usize)]) -> Result<(), Error> {
    let other = |what| Err(Error::SectionLayout { what });
    if found.len() != known.len() {
        return other(format!("it has {} fields instead of {}", found.len(), known.len()));
    }
    for (field, &(name, len)) in found.iter().zip(known) {
        if field.name != name || field.len() != Some(len) {
            return other(format!(
                "{} with {} times {} bytes stands where {name} with {len} bytes should",
                field.name,
                field.array_len.unwrap_or(1),
                field.size
            ));
        }
    }
    Ok(())
}

impl Located {
    /// Returns the section itself. `stream` is the one that it was found in.
    pub fn section(&self, stream: &[u8]) -> Result<ArmGic, Error> {
        stream
            .get(self.gic.clone())
            .and_then(|bytes| ArmGic::read_from_bytes(bytes).ok())
            .ok_or(Error::NoSection)
    }

    /// Returns the subsection, for people to read. `stream` is the one that it was found in.
    pub fn virt_state(&self, stream: &[u8]) -> Option<VirtState> {
        VirtState::read_from_bytes(stream.get(self.virt.clone()?)?).ok()
    }

    /// Puts another section into the stream. It has the same length, so all else stays.
    pub fn replace(&self, stream: &mut [u8], section: &ArmGic) -> Result<(), Error> {
        let place = stream.get_mut(self.gic.clone()).ok_or(Error::NoSection)?;
        section.write_to(place).map_err(|_| Error::NoSection)
    }
}
