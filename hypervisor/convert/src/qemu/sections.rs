//! Where the devices' sections are in a migration stream, as `migrate file:...` writes it
//! (migration/savevm.c): [`Sections`].
//!
//! A section does not say how long it is. At the stream's end there is a description of all
//! sections of devices, in JSON, for people and for this: from there the sections are walked
//! backwards, each checked by its header and its footer. RAM comes before them and is not looked
//! at; a guest may have anything in it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use super::description::{Description, Device};
use crate::error::Error;

/// "QEVM", and the version of the stream.
pub const MAGIC: &[u8] = b"QEVM\0\0\0\x03";
pub(super) const EOF: u8 = 0x00;
pub(super) const SECTION_FULL: u8 = 0x04;
pub(super) const DESCRIPTION: u8 = 0x06;
pub(super) const CONFIGURATION: u8 = 0x07;
pub(super) const FOOTER: u8 = 0x7e;
/// A footer: its mark and the section's number.
pub(super) const FOOTER_LEN: usize = 5;
/// The description is not sought further from the end.
const DESCRIPTION_MAX: usize = 64 << 20;
/// How the description says how long a field is.
const SIZE: &str = "\"size\": ";

/// The sections of a stream's devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sections {
    /// The sections, in the order of the stream.
    pub all: Vec<Section>,
    /// Bytes from the start of the stream to its first record: the magic, and the configuration.
    pub head: usize,
    /// Where the sections begin, counted from the end of the stream.
    pub from_end: usize,
}

/// A section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What the description says of it.
    pub device: Device,
    /// Where it is in the bytes that were looked at, its header and footer left out.
    pub contents: Range<usize>,
}

/// A stream: its magic and its last bytes, and the sections in them.
#[derive(Debug)]
pub struct Part<'a> {
    /// The bytes. They are not changed.
    pub bytes: &'a mut [u8],
    /// The sections in them.
    pub sections: &'a Sections,
}

impl Sections {
    /// Finds the sections in `stream`: a whole stream, or the magic of one and behind it the last
    /// bytes of it.
    ///
    /// # Errors
    ///
    /// The rule of a stream that is broken.
    pub fn find(stream: &[u8]) -> Result<Self, Error> {
        if !stream.starts_with(MAGIC) {
            return Err(Error::NotAStream);
        }
        let (mut end, json) = description(stream)?;
        let description: Description =
            serde_json::from_slice(json).map_err(|error| Error::Description(error.to_string()))?;
        let configuration = description.configuration.as_ref().map(|contents| contents.len());
        let head = match configuration {
            Some(len) => len.and_then(|len| len.checked_add(MAGIC.len() + 1)),
            None => Some(MAGIC.len()),
        };
        let head = head.ok_or(Error::NoDescription)?;
        let mut all = Vec::new();
        for device in description.devices.into_iter().rev() {
            let Some(place) = place(stream, end, &device) else {
                return Err(Error::SectionLost { name: device.name, instance: device.instance_id });
            };
            end = place.start;
            all.push(Section { device, contents: place.contents });
        }
        all.reverse();
        Ok(Self { all, head, from_end: stream.len() - end })
    }

    /// Returns the section of this name and instance.
    ///
    /// # Errors
    ///
    /// [`Error::SectionMissing`] if there is none.
    pub fn get(&self, name: &'static str, instance: usize) -> Result<&Section, Error> {
        let is_it = |section: &&Section| {
            section.device.name == name && section.device.instance_id as usize == instance
        };
        self.all.iter().find(is_it).ok_or(Error::SectionMissing { name, instance })
    }

    /// Returns the number of sections of this name.
    pub fn count(&self, name: &str) -> usize {
        self.all.iter().filter(|section| section.device.name == name).count()
    }
}

/// Returns the description at the stream's end, and where the last section ends.
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

struct Found {
    start: usize,
    contents: Range<usize>,
}

/// Returns the place of the device's section, which ends at `end`; `None` if its header or its
/// footer is not there.
fn place(stream: &[u8], end: usize, device: &Device) -> Option<Found> {
    let footer = end.checked_sub(FOOTER_LEN)?;
    let (&[FOOTER, ref number @ ..], []) = stream[footer..end].split_first_chunk::<5>()? else {
        return None;
    };
    let mut header = Vec::from([SECTION_FULL]);
    header.extend(number);
    header.push(device.name.len().try_into().ok()?);
    header.extend(device.name.bytes());
    header.extend(device.instance_id.to_be_bytes());
    let contents = footer.checked_sub(device.contents.len()?)?;
    let version = contents.checked_sub(4)?;
    let start = version.checked_sub(header.len())?;
    let is_version =
        device.version.is_none_or(|known| stream[version..contents] == known.to_be_bytes());
    (stream[start..version] == header && is_version)
        .then_some(Found { start, contents: contents..footer })
}

/// Makes the description of a stream say that the only field of a section has `more` bytes more.
///
/// # Errors
///
/// [`Error::SectionLost`] if the description does not say how long the section is.
pub(super) fn resize(stream: &mut Vec<u8>, section: &Section, more: usize) -> Result<(), Error> {
    let Device { name, instance_id, .. } = &section.device;
    let lost = || Error::SectionLost { name: name.clone(), instance: *instance_id };
    let (start, json) = description(stream)?;
    let mut text = String::from_utf8_lossy(json).into_owned();
    let said = text.find(&format!("\"name\": \"{name}\"")).ok_or_else(lost)?;
    let size = text[said..].find(SIZE).ok_or_else(lost)? + said + SIZE.len();
    let digits = text[size..].bytes().take_while(u8::is_ascii_digit).count();
    let len: usize = text[size..size + digits].parse().map_err(|_| lost())?;
    text.replace_range(size..size + digits, &(len.saturating_add(more)).to_string());
    let len = u32::try_from(text.len()).map_err(|_| lost())?;
    stream.truncate(start + 2);
    stream.extend(len.to_be_bytes());
    stream.extend(text.into_bytes());
    Ok(())
}
