//! What is where in the section of a virtio device, which QEMU's description shows as one field:
//! [`Layout`] (hw/virtio/virtio.c, virtio_save; virtio-mmio.c).
//!
//! The contents are the transport's selectors, the registers, the queues, what the device has of
//! its own, and subsections, each with its name. [`Pass`] passes numbers in them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use super::fields::Way;
use super::sections::Section;
use super::stream::SUBSECTION;
use crate::error::Error;

/// Queues for which QEMU has room in each device.
const MAX_QUEUES: usize = 1024;
/// Bytes of the transport's selectors, of the registers, of a queue, of a queue's rings, and of a
/// queue in the transport.
const SELECTORS: usize = 12;
const REGISTERS: usize = 12;
const QUEUE: usize = 18;
const RINGS: usize = 16;
/// Bytes of the features that the driver has written, as the transport has them.
const WRITTEN_FEATURES: usize = 8;
const TRANSPORT_QUEUE: usize = 27;

/// The subsections: their names, and the bytes of the contents.
const SUBSECTIONS: [(&str, usize); 7] = [
    (FEATURES, 8),
    (QUEUES, MAX_QUEUES * RINGS),
    ("virtio/ringsize", MAX_QUEUES * 4),
    ("virtio/broken", 1),
    // The subsection of the transport follows in it.
    ("virtio/extra_state", 0),
    (TRANSPORT, WRITTEN_FEATURES + MAX_QUEUES * TRANSPORT_QUEUE),
    ("virtio/started", 1),
];
const FEATURES: &str = "virtio/64bit_features";
const QUEUES: &str = "virtio/virtqueues";
const TRANSPORT: &str = "virtio_mmio/state";

/// A number in the contents of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NumberAt {
    at: usize,
    len: usize,
}

/// Where a queue is. The transport has what the driver writes, the device what it works with.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueuePlaces {
    pub num: NumberAt,
    pub desc: NumberAt,
    pub next_avail: NumberAt,
    pub driver: NumberAt,
    pub device: NumberAt,
    pub written_num: NumberAt,
    pub ready: NumberAt,
    /// The low and the high half of the addresses of the descriptors, and of either ring.
    pub written: [[NumberAt; 2]; 3],
}

/// Where things are in a section.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The section's name.
    name: String,
    /// Offset of the first queue.
    queues: usize,
    /// The number of queues.
    count: usize,
    /// What the device has of its own.
    pub own: Range<usize>,
    features: usize,
    rings: usize,
    transport: usize,
}

impl Layout {
    /// Finds what is in the contents of a section.
    ///
    /// # Errors
    ///
    /// [`Error::Virtio`] if something else is there.
    pub fn find(bytes: &[u8], section: &Section) -> Result<Self, Error> {
        let name = section.device.name.clone();
        let other = |what| Error::Virtio { section: name.clone(), what };
        let number = |at: usize| {
            let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
            word.map(|word| u32::from_be_bytes(*word) as usize).ok_or(other("it is cut"))
        };
        let configuration = number(SELECTORS + 8)?;
        let count_at = (SELECTORS + REGISTERS).saturating_add(configuration);
        let (count, queues) = (number(count_at)?, count_at + 4);
        let own = count.checked_mul(QUEUE).and_then(|len| len.checked_add(queues));
        let own = own.filter(|own| *own <= bytes.len()).ok_or(other("it has too many queues"))?;
        let first = header(FEATURES);
        let found = bytes[own..].windows(first.len()).position(|bytes| bytes == first);
        let why = "its transport is of the legacy interface; start QEMU with -global virtio-mmio.force-legacy=false";
        let end = own + found.ok_or(other(why))?;
        let places =
            subsections(bytes, end).ok_or(other("it has a subsection that is not known"))?;
        let place = |name| places.iter().find(|(known, _)| *known == name).map(|(_, at)| *at);
        Ok(Self {
            name: name.clone(),
            queues,
            count,
            own: own..end,
            features: place(FEATURES).ok_or(other(why))?,
            rings: place(QUEUES).ok_or(other(why))?,
            transport: place(TRANSPORT).ok_or(other(why))?,
        })
    }

    /// Returns the error that says what of the section is not as it should be.
    pub fn other(&self, what: &'static str) -> Error {
        Error::Virtio { section: self.name.clone(), what }
    }

    /// Checks that there are so many queues.
    ///
    /// # Errors
    ///
    /// [`Error::Virtio`] if there are more or fewer.
    pub fn expect_queues(&self, count: usize) -> Result<(), Error> {
        if self.count == count && count <= MAX_QUEUES {
            return Ok(());
        }
        Err(self.other("it has another number of queues than Stasis's"))
    }

    pub fn status(&self) -> NumberAt {
        NumberAt { at: SELECTORS, len: 1 }
    }

    pub fn interrupt_status(&self) -> NumberAt {
        NumberAt { at: SELECTORS + 1, len: 1 }
    }

    pub fn queue_sel(&self) -> NumberAt {
        NumberAt { at: SELECTORS + 2, len: 2 }
    }

    /// Returns the place of the lower half of the features that the driver has accepted, which are
    /// as a whole at [`Self::driver_features`].
    pub fn driver_features_low(&self) -> NumberAt {
        NumberAt { at: SELECTORS + 4, len: 4 }
    }

    pub fn driver_features(&self) -> NumberAt {
        NumberAt { at: self.features, len: 8 }
    }

    pub fn features_sel(&self) -> NumberAt {
        NumberAt { at: 0, len: 4 }
    }

    pub fn driver_features_sel(&self) -> NumberAt {
        NumberAt { at: 4, len: 4 }
    }

    /// Returns the places of the halves of the features that the driver has written, which the
    /// device accepts with FEATURES_OK.
    pub fn written_features(&self) -> [NumberAt; 2] {
        [NumberAt { at: self.transport, len: 4 }, NumberAt { at: self.transport + 4, len: 4 }]
    }

    /// Returns the place of a number of what the device has of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Virtio`] if it has less than that.
    pub fn own(&self, bytes: Range<usize>) -> Result<NumberAt, Error> {
        let place = NumberAt { at: self.own.start + bytes.start, len: bytes.len() };
        let is_there = place.at + place.len <= self.own.end;
        if is_there { Ok(place) } else { Err(self.other("it lacks what such a device has")) }
    }

    /// Returns the places of queue `n`, which is there.
    pub fn queue(&self, n: usize) -> QueuePlaces {
        let place = |at, len| NumberAt { at, len };
        let own = self.queues + n * QUEUE;
        let rings = self.rings + n * RINGS;
        let transport = self.transport + WRITTEN_FEATURES + n * TRANSPORT_QUEUE;
        let halves = |n: usize| [place(transport + 3 + 8 * n, 4), place(transport + 7 + 8 * n, 4)];
        QueuePlaces {
            num: place(own, 4),
            desc: place(own + 8, 8),
            next_avail: place(own + 16, 2),
            driver: place(rings, 8),
            device: place(rings + 8, 8),
            written_num: place(transport, 2),
            ready: place(transport + 2, 1),
            written: [halves(0), halves(1), halves(2)],
        }
    }
}

/// Returns what stands before the contents of a subsection: the mark, the name, and version 1.
pub(crate) fn header(name: &str) -> Vec<u8> {
    let mut bytes = Vec::from([SUBSECTION, name.len() as u8]);
    bytes.extend(name.bytes());
    bytes.extend(1_u32.to_be_bytes());
    bytes
}

/// Returns the offsets of the contents of all subsections from `at` on; `None` if something else is
/// there.
fn subsections(bytes: &[u8], mut at: usize) -> Option<Vec<(&'static str, usize)>> {
    let mut found = Vec::new();
    while at < bytes.len() {
        let starts = |name: &str| bytes[at..].starts_with(&header(name));
        let (name, len) = SUBSECTIONS.into_iter().find(|(name, _)| starts(name))?;
        let contents = at + header(name).len();
        at = contents.checked_add(len).filter(|end| *end <= bytes.len())?;
        found.push((name, contents));
    }
    Some(found)
}

/// The way of numbers between the contents of a section and a guest's record.
pub(super) struct Pass<'a> {
    pub bytes: &'a mut [u8],
    pub way: Way,
}

impl Pass<'_> {
    /// Passes a number. The places are those of a [`Layout`] of these bytes.
    ///
    /// # Errors
    ///
    /// [`Error::FieldTooSmall`] if it does not fit where it goes.
    pub fn number<N>(&mut self, place: NumberAt, value: &mut N) -> Result<(), Error>
    where
        N: Copy + Into<u64> + TryFrom<u64>,
    {
        let too_small =
            |value| Error::FieldTooSmall { field: format!("virtio+{}", place.at), value };
        let bytes = self.bytes.get_mut(place.at..place.at + place.len);
        let bytes = bytes.ok_or(too_small(0))?;
        match self.way {
            Way::ToQemu => {
                let number: u64 = (*value).into();
                let all = number.to_be_bytes();
                let (rest, low) = all.split_at(all.len() - place.len);
                bytes.copy_from_slice(low);
                if rest.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(too_small(number)) }
            }
            Way::FromQemu => {
                let number = bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
                *value = N::try_from(number).map_err(|_| too_small(number))?;
                Ok(())
            }
        }
    }

    /// Passes a number by its two halves, the low one first.
    ///
    /// # Errors
    ///
    /// None: both halves fit.
    pub fn halves(&mut self, [low, high]: [NumberAt; 2], value: &mut u64) -> Result<(), Error> {
        let (mut l, mut h) = (*value as u32, (*value >> 32) as u32);
        self.number(low, &mut l)?;
        self.number(high, &mut h)?;
        *value = u64::from(h) << 32 | u64::from(l);
        Ok(())
    }
}
