//! RAM of a guest that stage 2 does not map yet, while the guest runs: what is
//! [withdrawn](Translation::withdraw) [arrives](Translation::arrive) part by part.
//!
//! An entry that is invalid may become valid without break-before-make, for no core keeps an
//! invalid one (DDI 0487, D8.16.1). So pages arrive in a table of their block of 2 MiB, one after
//! another. When all of the block are there, [`Translation::settle`] makes them one block.

use super::protect::Forget;
use super::table::{Pages, TableSource};
use super::{Attributes, MapError, Translation};

impl Translation {
    /// Makes blocks of 2 MiB map nothing, also those that are mapped in part. `blocks` returns the
    /// guest-physical address of each, always in the same order. `forget` is called once with the
    /// [root](Self::root), and must make all cores drop their copies of the translation.
    ///
    /// # Safety
    ///
    /// 1. When `forget` returns, no core has a copy of what the translation was before, in a TLB or
    ///    in a walk that is under way.
    /// 2. No core needs what the blocks map.
    pub unsafe fn withdraw<B: Iterator<Item = u64>>(
        &mut self,
        blocks: impl Fn() -> B,
        forget: impl FnOnce(u64),
    ) {
        blocks().filter_map(|input| self.block(input)).for_each(|entry| entry.invalidate());
        forget(self.root());
        for input in blocks() {
            // SAFETY: an entry that refers to a table was made invalid above, and no core has a
            // copy of what it was, by condition 1.
            let pages = self.block(input).and_then(|entry| unsafe { entry.take_pages() });
            if let Some(pages) = pages {
                self.put_away(pages);
            }
        }
    }

    /// Takes the tables of the second level that the blocks of 2 MiB in `input..input + len` need,
    /// so that each can [arrive](Self::arrive) as one without any other table.
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfMemory`] if there is one table too few.
    pub fn prepare(
        &mut self,
        tables: &mut impl TableSource,
        input: u64,
        len: u64,
    ) -> Result<(), MapError> {
        let (mut at, end) = (input, input + len);
        while at < end {
            let entry = self.first_level().entry(at);
            if entry.load() == 0 {
                entry.link(tables)?;
            }
            at = (at / entry.size() + 1) * entry.size();
        }
        Ok(())
    }

    /// Maps `len` bytes of one block of 2 MiB, none of which is mapped: the block as one, if they
    /// are all of it, and else pages. Cores may use the translation meanwhile.
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfMemory`] if there is no table. No page was mapped then. A whole block that
    /// was [prepared](Self::prepare) takes none. Other [`MapError`]s as of [`Self::map`].
    pub fn arrive(
        &mut self,
        tables: &mut impl TableSource,
        input: u64,
        output: u64,
        len: u64,
        attributes: Attributes,
    ) -> Result<(), MapError> {
        let first = self.first_level().entry(input);
        let second = match first.next() {
            Some(level) => level,
            None => first.link(tables)?,
        };
        let entry = second.entry(input);
        if len < entry.size() && entry.load() == 0 {
            let spare = self.spares.pop().or_else(|| Pages::allocate(tables));
            let pages = spare.ok_or(MapError::OutOfMemory)?;
            pages.clear();
            if let Some(level) = self.first_level().entry(input).next() {
                level.entry(input).refer_to(pages);
            }
            self.split += 1;
        }
        self.map(tables, input, output, len, attributes)
    }

    /// Maps a block of 2 MiB, none of which is mapped, in pages: those that `moved` has, each with
    /// its number in the block and its physical address, and all others as the block at `output`
    /// has them.
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfMemory`] if there is no table. Nothing was mapped then.
    pub fn map_scattered(
        &mut self,
        tables: &mut impl TableSource,
        input: u64,
        output: u64,
        attributes: Attributes,
        moved: impl Iterator<Item = (usize, u64)>,
    ) -> Result<(), MapError> {
        let first = self.first_level().entry(input);
        let second = match first.next() {
            Some(level) => level,
            None => first.link(tables)?,
        };
        let entry = second.entry(input);
        if entry.load() != 0 {
            return Err(MapError::Mapped { input });
        }
        let spare = self.spares.pop().or_else(|| Pages::allocate(tables));
        let pages = spare.ok_or(MapError::OutOfMemory)?;
        pages.fill(output, attributes);
        moved.for_each(|(number, output)| pages.lead_to(number, output));
        if let Some(level) = self.first_level().entry(input).next() {
            level.entry(input).refer_to(pages);
        }
        self.split += 1;
        Ok(())
    }

    /// Makes the block of 2 MiB in which `input` lies one block, if all of it has arrived in pages.
    /// Writes are allowed to all of it, or to nothing. Cores may use the translation meanwhile.
    /// `forget` is called at most once, and must make all cores drop their copies of what it is
    /// given.
    ///
    /// # Safety
    ///
    /// 1. All pages of the block have arrived.
    /// 2. When `forget` returns, no core has a copy of what it was given, as it was before, in a
    ///    TLB or in a walk that is under way.
    pub unsafe fn settle(&mut self, input: u64, writable: bool, forget: impl FnOnce(Forget)) {
        let Some(entry) = self.block(input).filter(|entry| entry.next().is_some()) else { return };
        entry.invalidate();
        // A core may have a copy of each page.
        forget(Forget::All);
        // SAFETY: the entry was made invalid, and no core has a copy of what it was, by
        // condition 2.
        if let Some(pages) = unsafe { entry.join(writable) } {
            self.put_away(pages);
        }
    }
}
