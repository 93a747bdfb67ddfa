//! Where the section is in a migration stream, as `migrate file:...` writes it (migration/savevm.c).
//!
//! A section does not say how long it is. At the stream's end there is a description of all sections of devices, in
//! JSON, for people and for this: from there the sections are walked backwards, each checked by its
//! header and its footer. RAM comes before them and is not looked at; a guest may have anything in it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use serde::Deserialize;
use zerocopy::{FromBytes, IntoBytes};

use super::section::{ArmGic, NAME, VERSION, VIRT_NAME, VIRT_VERSION, VirtState};
use crate::error::Error;

/// "QEVM", and the version of the stream.
const MAGIC: &[u8] = b"QEVM\0\0\0\x03";
const EOF: u8 = 0x00;
const SECTION_FULL: u8 = 0x04;
const SUBSECTION: u8 = 0x05;
const DESCRIPTION: u8 = 0x06;
const FOOTER: u8 = 0x7e;
/// A footer: its mark and the section's number.
const FOOTER_LEN: usize = 5;
/// The description is not sought further from the end.
const DESCRIPTION_MAX: usize = 64 << 20;
/// In the description: what of the stream are CPUs.
const CPU_NAME: &str = "cpu";

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

/// The description, as far as it matters.
#[derive(Deserialize)]
struct Description {
    devices: Vec<Device>,
}

#[derive(Deserialize)]
struct Device {
    name: String,
    instance_id: u32,
    version: u32,
    #[serde(flatten)]
    contents: Contents,
}

#[derive(Deserialize)]
struct Contents {
    #[serde(default)]
    fields: Vec<Field>,
    #[serde(default)]
    subsections: Vec<Subsection>,
}

#[derive(Deserialize)]
struct Field {
    name: String,
    /// Of one element, what is in it included.
    size: usize,
    array_len: Option<usize>,
}

#[derive(Deserialize)]
struct Subsection {
    vmsd_name: String,
    #[serde(default)]
    version: u32,
    #[serde(flatten)]
    contents: Contents,
}

impl Field {
    fn len(&self) -> Option<usize> {
        self.size.checked_mul(self.array_len.unwrap_or(1))
    }
}

impl Contents {
    fn fields_len(&self) -> Option<usize> {
        self.fields.iter().try_fold(0usize, |sum, field| sum.checked_add(field.len()?))
    }

    /// `None` if no stream is that long.
    fn len(&self) -> Option<usize> {
        self.subsections.iter().try_fold(self.fields_len()?, |sum, subsection| {
            sum.checked_add(subsection.header_len())?.checked_add(subsection.contents.len()?)
        })
    }
}

impl Subsection {
    /// Mark, length of the name, name, version.
    fn header_len(&self) -> usize {
        1 + 1 + self.vmsd_name.len() + 4
    }
}

/// Finds the section in a stream.
pub fn locate(stream: &[u8]) -> Result<Located, Error> {
    if !stream.starts_with(MAGIC) {
        return Err(Error::NotAStream);
    }
    let (mut end, json) = description(stream)?;
    let description: Description =
        serde_json::from_slice(json).map_err(|error| Error::Description(error.to_string()))?;
    let cpus = description.devices.iter().filter(|device| device.name == CPU_NAME).count();
    for device in description.devices.iter().rev() {
        let section = section(stream, end, device).ok_or_else(|| Error::SectionLost {
            name: device.name.clone(),
            instance: device.instance_id,
        })?;
        if device.name == NAME && device.instance_id == 0 {
            let (gic, virt) = contents(stream, device, section.contents.start)?;
            return Ok(Located { gic, virt, cpus });
        }
        end = section.start;
    }
    Err(Error::NoSection)
}

/// The description at the stream's end, and where the last section ends.
fn description(stream: &[u8]) -> Result<(usize, &[u8]), Error> {
    // After an EOF: a mark, the length, the description.
    let earliest = stream.len().saturating_sub(DESCRIPTION_MAX).max(MAGIC.len());
    let starts = (earliest..stream.len().saturating_sub(6)).rev();
    for start in starts {
        let Some(&[EOF, DESCRIPTION, a, b, c, d]) = stream[start..].first_chunk() else { continue };
        let json = &stream[start + 6..];
        let len = u32::from_be_bytes([a, b, c, d]);
        if len as usize == json.len() && json.starts_with(b"{") {
            return Ok((start, json));
        }
    }
    Err(Error::NoDescription)
}

struct Section {
    start: usize,
    contents: Range<usize>,
}

/// The device's section, which ends at `end`: its header and its footer must be there.
fn section(stream: &[u8], end: usize, device: &Device) -> Option<Section> {
    let footer = end.checked_sub(FOOTER_LEN)?;
    let (&[FOOTER, ref number @ ..], []) = stream[footer..end].split_first_chunk::<5>()? else {
        return None;
    };
    let mut header = Vec::from([SECTION_FULL]);
    header.extend(number);
    header.push(device.name.len().try_into().ok()?);
    header.extend(device.name.bytes());
    header.extend(device.instance_id.to_be_bytes());
    header.extend(device.version.to_be_bytes());
    let contents = footer.checked_sub(device.contents.len()?)?;
    let start = contents.checked_sub(header.len())?;
    (stream[start..contents] == header).then_some(Section { start, contents: contents..footer })
}

type Parts = (Range<usize>, Option<Range<usize>>);

/// The section's fields and those of its subsection, if they are the ones that are known here.
fn contents(stream: &[u8], device: &Device, start: usize) -> Result<Parts, Error> {
    if device.version != VERSION {
        return Err(Error::SectionVersion { found: device.version });
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
