//! Where the pages of a memory are that has not all of them in one place: [`Map`].
//!
//! A guest's memory is one piece at first. When the guest is cloned, the piece becomes a [`Base`],
//! whose blocks both guests use, and each page that one of them writes moves to a frame of that
//! guest. A clone of a clone shares such frames, too. So a page is in its frame, if it has one, and
//! else in the base.
//!
//! Another core may look for a page meanwhile, for a snapshot: [`stasis_cores::clones`] has what
//! the cores say to each other, and its tests. A snapshot that finds a frame in the place of
//! another has read a page that was kept before: [`stasis_cores::copies`] makes it look again.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::{NonNull, with_exposed_provenance, with_exposed_provenance_mut};
use stasis_cores::clones::{Entry, Users};
use stasis_state::change::BLOCK_PAGES;
use stasis_state::written::BLOCK_SIZE;
use stasis_state::{PAGE_SIZE, PageBits};

use crate::frames::{Frames, NoFrame};
use crate::pages::NoMemory;

/// Blocks that memories share. Each goes back when nobody uses it any more.
#[derive(Debug)]
struct Base {
    start: u64,
    /// Bytes from one block to the next: 0 if all are the same one, of zeros, which stays for ever.
    stride: u64,
    /// How many memories use each block.
    users: Box<[Users]>,
}

/// A table of the frames of a block's pages. It is a frame itself.
type Table = [Entry; BLOCK_PAGES];

const _: () = assert!(size_of::<Table>() == PAGE_SIZE);

/// Where the pages of a memory are, which is whole blocks. Offsets are bytes, and in the memory:
/// the methods panic otherwise.
#[derive(Debug)]
pub struct Map {
    base: Arc<Base>,
    /// The address of the table of each block; none if no page of the block has a frame.
    tables: Box<[Entry]>,
    frames: &'static dyn Frames,
}

/// Where a page is that its memory alone uses.
#[derive(Debug)]
pub enum Own {
    /// In the base, as all pages of its block.
    Block,
    /// Where it was.
    Page,
    /// In a frame that was taken for it, and that it was copied to. The frame that it has left is
    /// kept until stage 2 leads elsewhere.
    Moved(Option<Left>),
}

/// A frame that a page has left. The memory is a user of it until this is dropped: then nobody may
/// find it by stage 2.
#[derive(Debug)]
pub struct Left {
    frame: u64,
    frames: &'static dyn Frames,
}

impl Drop for Left {
    fn drop(&mut self) {
        // SAFETY: the map was a user of the frame, for an entry had it. The entry has another one
        // now. `GuestRam` keeps this until it is dropped itself, when no guest has it, or until the
        // caller of `seen` or `all_seen` has promised that stage 2 leads elsewhere. A snapshot that
        // has found the old frame before reads memory that has another user, and looks again.
        unsafe { self.frames.give_back(self.frame) };
    }
}

/// Returns a slice of `count` values.
fn defaults<T: Default>(count: usize) -> Result<Box<[T]>, NoMemory> {
    let mut all = Vec::new();
    all.try_reserve_exact(count)?;
    all.resize_with(count, T::default);
    Ok(all.into_boxed_slice())
}

/// Frames that are shared without a break: the guest stands still meanwhile, and for a turn of
/// others in each break.
const SHARED_AT_ONCE: usize = 2048;

impl Map {
    /// Takes the blocks of a memory at `start`, which nobody else uses, and which go back to
    /// `frames`.
    ///
    /// # Safety
    ///
    /// 1. For as long as anything is made of this, the blocks are normal memory, mapped one to one
    ///    for reading and writing, with exposed provenance, of one owner: this.
    /// 2. Nobody has a reference to them.
    pub unsafe fn of_blocks(
        start: u64,
        count: usize,
        frames: &'static dyn Frames,
    ) -> Result<Self, NoMemory> {
        Self::new(start, BLOCK_SIZE as u64, count, frames)
    }

    /// Returns `count` blocks of zeros, all of which are the one at `start`.
    ///
    /// # Safety
    ///
    /// 1. The block is normal memory, mapped one to one with exposed provenance, for ever. 2.
    ///    Nobody has a reference to it, and nobody ever writes it.
    pub unsafe fn of_zeros(
        start: u64,
        count: usize,
        frames: &'static dyn Frames,
    ) -> Result<Self, NoMemory> {
        Self::new(start, 0, count, frames)
    }

    fn new(
        start: u64,
        stride: u64,
        count: usize,
        frames: &'static dyn Frames,
    ) -> Result<Self, NoMemory> {
        let (users, tables) = (defaults(count)?, defaults(count)?);
        Ok(Self { base: Arc::new(Base { start, stride, users }), tables, frames })
    }

    /// Returns another memory with the same content, of which `moved` returns the pages that have
    /// frames, by block. Both share all of it. Calls `pause` after each [`SHARED_AT_ONCE`] frames.
    ///
    /// # Errors
    ///
    /// Nothing is shared then, if there is no memory for its notes, or no frame for a table.
    pub fn fork(
        &self,
        moved: impl Fn(usize) -> PageBits,
        pause: &mut dyn FnMut(),
    ) -> Result<Self, NoFrame> {
        let tables = defaults(self.tables.len()).map_err(|NoMemory| NoFrame)?;
        self.base.users.iter().for_each(Users::add);
        // From here on, dropping gives back what was shared.
        let other = Self { base: self.base.clone(), tables, frames: self.frames };
        let mut shared = 0;
        for index in 0..self.tables.len() {
            let Some(from) = self.table(index) else { continue };
            let to = other.table_or_new(index)?;
            shared += moved(index).count();
            for page in moved(index).pages() {
                let Some(frame) = from[page].own() else { continue };
                self.frames.share(frame).map_err(|_| NoFrame)?;
                to[page].put(frame);
            }
            if shared >= SHARED_AT_ONCE {
                shared = 0;
                pause();
            }
        }
        Ok(other)
    }

    /// Returns the table of the block with this index, if it has one.
    fn table(&self, index: usize) -> Option<&Table> {
        let address = self.tables[index].find()? as usize;
        let table = NonNull::new(with_exposed_provenance_mut::<Table>(address))?;
        // SAFETY: 1. `table_or_new` alone writes the address, of a frame that it has taken and made
        // zeros, which is as large and as aligned as a table, by `Frames`; it is given back when
        // `self` is dropped, whose borrow the reference has. 2. Its entries are atomics, and this
        // map is its one user.
        Some(unsafe { table.as_ref() })
    }

    /// Returns the table of the block with this index, which is taken if it has none.
    fn table_or_new(&self, index: usize) -> Result<&Table, NoFrame> {
        if self.table(index).is_none() {
            let frame = self.frames.take().ok_or(NoFrame)?.cast::<Table>();
            // SAFETY: the frame was taken, so it is memory that nobody else uses, as large and as
            // aligned as a table. Zeros are a table without an entry.
            unsafe { frame.write_bytes(0, 1) };
            self.tables[index].put(frame.as_ptr().expose_provenance() as u64);
        }
        self.table(index).ok_or(NoFrame)
    }

    /// Returns the address of the block of the base in which `offset` lies.
    fn block(&self, offset: usize) -> u64 {
        self.base.start + (offset / BLOCK_SIZE) as u64 * self.base.stride
    }

    /// Returns the frame of the page at `offset`, if it has one.
    fn frame(&self, offset: usize) -> Option<u64> {
        let table = self.table(offset / BLOCK_SIZE)?;
        table[offset % BLOCK_SIZE / PAGE_SIZE].find()
    }

    /// Returns whether the page at `offset` is in a frame.
    pub fn has_frame(&self, offset: usize) -> bool {
        self.frame(offset).is_some()
    }

    /// Returns whether the block in which `offset` lies has a table.
    pub fn has_table(&self, offset: usize) -> bool {
        self.table(offset / BLOCK_SIZE).is_some()
    }

    /// Takes the table of the block in which `offset` lies, if it has none.
    ///
    /// # Errors
    ///
    /// [`NoFrame`] if there is no frame for it.
    pub fn reserve_table(&self, offset: usize) -> Result<(), NoFrame> {
        self.table_or_new(offset / BLOCK_SIZE).map(|_| ())
    }

    /// Returns the physical address of the byte at `offset`. The rest of its page follows.
    pub fn address_of(&self, offset: usize) -> u64 {
        match self.frame(offset) {
            Some(frame) => frame + (offset % PAGE_SIZE) as u64,
            None => self.block(offset) + (offset % BLOCK_SIZE) as u64,
        }
    }

    /// Returns a pointer to the byte at `offset`. The rest of its page follows.
    pub fn place(&self, offset: usize) -> *mut u8 {
        with_exposed_provenance_mut(self.address_of(offset) as usize)
    }

    /// Returns whether the block of the base in which `offset` lies has no other user.
    pub fn has_block_alone(&self, offset: usize) -> bool {
        let users = &self.base.users[offset / BLOCK_SIZE];
        self.base.stride > 0 && users.is_one()
    }

    /// Returns whether what has no frame is zeros that nobody has memory for.
    pub fn is_of_zeros(&self) -> bool {
        self.base.stride == 0
    }

    /// Makes the page at `offset` one that this memory alone uses. If it is not, moves it: calls
    /// `copy` with where it is, and with a frame for it.
    ///
    /// # Errors
    ///
    /// [`NoFrame`]: all is as it was.
    pub fn make_own(
        &self,
        offset: usize,
        copy: impl FnOnce(*const u8, *mut u8),
    ) -> Result<Own, NoFrame> {
        let before = self.frame(offset);
        match before {
            Some(frame) if !self.frames.is_shared(frame) => return Ok(Own::Page),
            None if self.has_block_alone(offset) => {
                let is_block = self.table(offset / BLOCK_SIZE).is_none();
                return Ok(if is_block { Own::Block } else { Own::Page });
            }
            _ => {}
        }
        let table = self.table_or_new(offset / BLOCK_SIZE)?;
        let frame = self.frames.take().ok_or(NoFrame)?;
        let page = self.address_of(offset - offset % PAGE_SIZE) as usize;
        copy(with_exposed_provenance(page), frame.as_ptr());
        table[offset % BLOCK_SIZE / PAGE_SIZE].put(frame.as_ptr().expose_provenance() as u64);
        Ok(Own::Moved(before.map(|frame| Left { frame, frames: self.frames })))
    }

    /// Gives back all frames, in pieces between which it calls `pause`: to drop the map takes no
    /// longer than a moment then.
    pub fn release(&mut self, pause: &mut dyn FnMut()) {
        for index in 0..self.tables.len() {
            if self.release_table(index) {
                pause();
            }
        }
    }

    /// Gives back the table of a block, and the frames that are in it. Returns whether there was
    /// one.
    fn release_table(&mut self, index: usize) -> bool {
        let Some(table) = self.table(index) else { return false };
        for frame in table.iter().filter_map(Entry::own) {
            // SAFETY: the map is a user of the frame, for an entry has it. Nobody looks at the
            // entry again: the map is not shared, and forgets the table.
            unsafe { self.frames.give_back(frame) };
        }
        let Some(table) = self.tables[index].take() else { return false };
        // SAFETY: the map is the one user of the frame, which it took for the table, and has
        // forgotten it.
        unsafe { self.frames.give_back(table) };
        true
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        for index in 0..self.tables.len() {
            self.release_table(index);
            let is_last = self.base.users[index].leave();
            if is_last && self.base.stride > 0 {
                // SAFETY: no memory uses the block any more: each counts, and the last one does not
                // access it any more, for it is dropped.
                unsafe { self.frames.give_back_block(self.block(index * BLOCK_SIZE)) };
            }
        }
    }
}
