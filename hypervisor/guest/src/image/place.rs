//! Finds the places of the initial RAM disk and the device tree: those of QEMU's hw/arm/boot.c, and
//! if a part does not fit there, another place with room.
//!
//! All numbers are offsets from the start of RAM.

use core::ops::Range;

use super::ImageError;
use super::Kind;

const PAGE: usize = 4096;
/// Bytes of the blocks in which Linux maps its device tree: 2 MiB.
const BLOCK: usize = 2 << 20;
/// Highest offset of QEMU's place for the initial RAM disk, which is half of RAM, but not higher
/// than this.
const INITRD_HIGHEST: usize = 128 << 20;

/// A guest's RAM, and the ranges of it that are taken.
pub(super) struct Layout {
    size: usize,
    image: Range<usize>,
    initrd: Range<usize>,
}

impl Layout {
    pub(super) fn new(size: usize, image: Range<usize>) -> Self {
        Self { size, image, initrd: 0..0 }
    }

    /// Returns QEMU's place for what follows the image. It leaves room behind the image, for data
    /// whose size no header tells.
    fn behind_image(&self) -> usize {
        (self.size / 2).min(INITRD_HIGHEST).max(self.image.end).next_multiple_of(PAGE)
    }

    /// Returns the place of the initial RAM disk, and takes it.
    ///
    /// # Errors
    ///
    /// [`ImageError::DoesNotFit`] if none of its places has room for `len` bytes.
    pub(super) fn initrd(&mut self, len: usize) -> Result<Range<usize>, ImageError> {
        let places = [
            self.behind_image(),
            self.image.end.next_multiple_of(PAGE),
            // A place below an image that is high in RAM. The first block is for the device tree.
            BLOCK,
            0,
        ];
        self.initrd = self.first_free("the initrd", len, &places)?;
        Ok(self.initrd.clone())
    }

    /// Returns the place of the device tree. The RAM disk, if there is one, has its place already.
    ///
    /// # Errors
    ///
    /// [`ImageError::DoesNotFit`] if none of its places has room for `len` bytes.
    pub(super) fn device_tree(&self, len: usize, kind: Kind) -> Result<Range<usize>, ImageError> {
        let behind_initrd = match self.initrd.end {
            0 => self.behind_image().next_multiple_of(BLOCK),
            end => end.next_multiple_of(BLOCK),
        };
        let behind_image = self.image.end.next_multiple_of(BLOCK);
        let places = match kind {
            Kind::Linux | Kind::Raw => [behind_initrd, behind_image, 0],
            // Programs look for the device tree at the start of RAM.
            Kind::Elf => [0, behind_initrd, behind_image],
        };
        self.first_free("the device tree", len, &places)
    }

    /// Returns the place of bare code's second device tree: the start of RAM, if there is room
    /// before the first device tree, `tree`.
    pub(super) fn device_tree_copy(&self, tree: &Range<usize>, kind: Kind) -> Option<Range<usize>> {
        let copy = 0..tree.len();
        let fits = kind == Kind::Raw && self.is_free(&copy) && copy.end <= tree.start;
        fits.then_some(copy)
    }

    fn first_free(
        &self,
        what: &'static str,
        len: usize,
        places: &[usize],
    ) -> Result<Range<usize>, ImageError> {
        let ranges = places.iter().filter_map(|&start| Some(start..start.checked_add(len)?));
        let mut free = ranges.filter(|range| self.is_free(range));
        free.next().ok_or_else(|| ImageError::DoesNotFit {
            what,
            needed: len as u64,
            available: self.largest_gap() as u64,
        })
    }

    fn is_free(&self, range: &Range<usize>) -> bool {
        let apart = |taken: &Range<usize>| {
            taken.is_empty() || range.end <= taken.start || taken.end <= range.start
        };
        range.end <= self.size && apart(&self.image) && apart(&self.initrd)
    }

    fn largest_gap(&self) -> usize {
        let (mut first, mut second) = (self.image.clone(), self.initrd.clone());
        if second.start < first.start {
            core::mem::swap(&mut first, &mut second);
        }
        let mut end = 0;
        let mut largest = 0;
        for range in [first, second, self.size..self.size] {
            largest = largest.max(range.start.saturating_sub(end));
            end = end.max(range.end);
        }
        largest
    }
}
