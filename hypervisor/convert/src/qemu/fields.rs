//! Numbers in a section, by the names that QEMU's description gives them: [`Fields`].
//!
//! A function that calls [`Fields::exchange`] for each field is the table of a device for both
//! directions, so that what goes to QEMU and what comes from it can't differ.

use super::sections::Section;
use crate::error::Error;

/// The way on which numbers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From a guest's records to QEMU's section.
    ToQemu,
    /// From QEMU's section to a guest's records.
    FromQemu,
}

/// The contents of a section.
pub(super) struct Fields<'a> {
    pub section: &'a Section,
    pub bytes: &'a mut [u8],
    pub way: Way,
}

impl<'a> Fields<'a> {
    /// Returns the fields of a section of `stream`, which is what the section was found in.
    ///
    /// # Errors
    ///
    /// [`Error::NoDescription`] if the stream is another one, which is too short.
    pub fn new(section: &'a Section, stream: &'a mut [u8], way: Way) -> Result<Self, Error> {
        let bytes = stream.get_mut(section.contents.clone()).ok_or(Error::NoDescription)?;
        Ok(Self { section, bytes, way })
    }

    /// Returns the bytes of element `index` of a field.
    fn element(&mut self, name: &str, index: usize) -> Result<&mut [u8], Error> {
        let missing = || Error::FieldMissing {
            section: self.section.device.name.clone(),
            field: name.into(),
        };
        let place = self.section.device.contents.find(name).ok_or_else(missing)?;
        let start = index.checked_mul(place.size).and_then(|at| at.checked_add(place.offset));
        let range = start.filter(|_| index < place.count).map(|start| start..start + place.size);
        let is_number = (1..=8).contains(&place.size);
        let range = range.filter(|range| is_number && range.end <= self.bytes.len());
        range.map(|range| &mut self.bytes[range]).ok_or_else(missing)
    }

    /// Returns the number of elements of a field; 0 if there is no such field.
    pub fn count(&self, name: &str) -> usize {
        self.section.device.contents.find(name).map_or(0, |place| place.count)
    }

    /// Returns the number in element `index` of a field. Sections are big-endian.
    ///
    /// # Errors
    ///
    /// [`Error::FieldMissing`] if there is no such element.
    pub fn get(&mut self, name: &str, index: usize) -> Result<u64, Error> {
        let bytes = self.element(name, index)?;
        Ok(bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    /// Writes the number in element `index` of a field.
    ///
    /// # Errors
    ///
    /// [`Error::FieldMissing`] if there is no such element, [`Error::FieldTooSmall`] if the number
    /// does not fit.
    pub fn set(&mut self, name: &str, index: usize, value: u64) -> Result<(), Error> {
        let bytes = self.element(name, index)?;
        let (rest, number) = (8 - bytes.len(), value.to_be_bytes());
        let fits = number[..rest].iter().all(|&byte| byte == 0);
        bytes.copy_from_slice(&number[rest..]);
        if fits { Ok(()) } else { Err(Error::FieldTooSmall { field: name.into(), value }) }
    }

    /// Passes a number on its way between element `index` of a field and `value`.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::get`] and [`Self::set`]; [`Error::FieldTooSmall`] if `value` can't
    /// hold what QEMU has.
    pub fn exchange<N>(&mut self, name: &str, index: usize, value: &mut N) -> Result<(), Error>
    where
        N: Copy + Into<u64> + TryFrom<u64>,
    {
        match self.way {
            Way::ToQemu => self.set(name, index, (*value).into()),
            Way::FromQemu => {
                let found = self.get(name, index)?;
                let too_small = |_| Error::FieldTooSmall { field: name.into(), value: found };
                *value = N::try_from(found).map_err(too_small)?;
                Ok(())
            }
        }
    }
}
