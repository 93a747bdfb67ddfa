//! The description at a stream's end, in JSON: which sections it has, with which fields, of which
//! sizes (migration/vmstate.c). Numbers in it are claims, until [`sections`](super::sections) has
//! found each section where the description says.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

/// The description, as far as it matters.
#[derive(Debug, Deserialize)]
pub(super) struct Description {
    /// The head of the stream, which is no section.
    pub configuration: Option<Contents>,
    pub devices: Vec<Device>,
}

/// A device, whose section has these contents.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Device {
    /// The section's name.
    pub name: String,
    /// Tells sections of one name apart.
    pub instance_id: u32,
    /// The version of the contents; `None` of a section that QEMU describes as bytes (`slirp`).
    #[serde(default)]
    pub version: Option<u32>,
    #[serde(flatten)]
    pub(super) contents: Contents,
}

/// Fields that follow each other, and behind them subsections.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Contents {
    #[serde(default)]
    pub fields: Vec<Field>,
    #[serde(default)]
    pub subsections: Vec<Subsection>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Field {
    pub name: String,
    /// Of one element, what is in it included.
    pub size: usize,
    pub array_len: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Subsection {
    pub vmsd_name: String,
    #[serde(default)]
    pub version: u32,
    #[serde(flatten)]
    pub contents: Contents,
}

/// Where a field is in the contents of its section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FieldSpan {
    /// Offset of the first element, in bytes.
    pub offset: usize,
    /// Bytes of an element.
    pub size: usize,
    /// Number of elements.
    pub count: usize,
}

impl Field {
    pub fn len(&self) -> Option<usize> {
        self.size.checked_mul(self.array_len.unwrap_or(1))
    }
}

impl Contents {
    fn fields_len(&self) -> Option<usize> {
        self.fields.iter().try_fold(0usize, |sum, field| sum.checked_add(field.len()?))
    }

    /// Returns the bytes of the contents; `None` if no stream is that long.
    pub fn len(&self) -> Option<usize> {
        self.subsections.iter().try_fold(self.fields_len()?, |sum, subsection| {
            sum.checked_add(subsection.header_len())?.checked_add(subsection.contents.len()?)
        })
    }

    /// Returns where the first field of this name is, in the contents themselves or in a subsection
    /// at any depth.
    pub fn find(&self, name: &str) -> Option<FieldSpan> {
        let mut offset = 0;
        for field in &self.fields {
            if field.name == name {
                return Some(FieldSpan {
                    offset,
                    size: field.size,
                    count: field.array_len.unwrap_or(1),
                });
            }
            offset += field.len()?;
        }
        for subsection in &self.subsections {
            offset += subsection.header_len();
            if let Some(place) = subsection.contents.find(name) {
                return Some(FieldSpan { offset: offset + place.offset, ..place });
            }
            offset += subsection.contents.len()?;
        }
        None
    }
}

impl Subsection {
    /// Returns the bytes of the mark, the length of the name, the name, and the version.
    pub fn header_len(&self) -> usize {
        1 + 1 + self.vmsd_name.len() + 4
    }
}
