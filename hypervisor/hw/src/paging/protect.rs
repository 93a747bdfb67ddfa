//! Forbidding a guest to write its memory, and allowing it again page by page, while the guest's
//! other vCPUs use the translation.
//!
//! A checkpoint [forbids](Translation::forbid_writes) all writes while no vCPU runs. The first
//! write to a block then [splits](Translation::split) the block into pages, of which one is
//! writable; the next ones [allow](Translation::allow_writes) one more page each. The next
//! checkpoint forbids writes to these pages alone. When all pages of a block are writable, they are
//! [a block again](Translation::join).
//!
//! An entry that allows writes may become one that does not, but a core may go on with its copy of
//! the old one until it is told to drop it. A block may become a table, or a table a block, by
//! break-before-make alone: the entry is made invalid, all cores drop their copies, and then the
//! entry gets its new value (DDI 0487, D8.16.1). A core that looks the address up meanwhile takes a
//! translation fault, and tries again. A page that [moves](Translation::move_page), because its
//! guest writes what it shares with another one, gets its new address so, too.

use super::table::{Entry, LAST_LEVEL, Pages, Spares, TableSource, index};
use super::{MapError, OUTPUT_ADDRESS, Translation};

/// What all cores must drop their copies of, before the translation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forget {
    /// Whatever maps this guest-physical address.
    Address(u64),
    /// All of the guest's translation.
    All,
}

/// What of a block of 2 MiB may be writable, and nothing else of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writable {
    /// Each page.
    Block,
    /// These pages: bit n of word n / 64 for page n.
    Pages([u64; 8]),
}

/// Returns the numbers of the bits that are set.
fn bits(words: [u64; 8]) -> impl Iterator<Item = usize> {
    words.into_iter().enumerate().flat_map(|(n, mut word)| {
        core::iter::from_fn(move || {
            let bit = word.trailing_zeros() as usize;
            word &= word.checked_sub(1)?;
            Some(n * 64 + bit)
        })
    })
}

impl Translation {
    /// Forbids writes to blocks of 2 MiB. `blocks` returns the guest-physical address of each,
    /// always in the same order, and what of it is writable at the most: a block that is writable
    /// as a whole and was split is one block again. `forget` is called once with the
    /// [root](Self::root), and must make all cores drop their copies of the translation. After that
    /// nobody writes to the blocks.
    ///
    /// A core may write until then. So the caller makes all vCPUs of the guest stand still, if it
    /// wants to know what was written before.
    ///
    /// # Safety
    ///
    /// When `forget` returns, no core has a copy of what the translation was before, in a TLB or in
    /// a walk that is under way.
    pub unsafe fn forbid_writes<B: Iterator<Item = (u64, Writable)>>(
        &mut self,
        blocks: impl Fn() -> B,
        forget: impl FnOnce(u64),
    ) {
        let mut is_any_joined = false;
        for (input, writable) in blocks() {
            let Some(entry) = self.block(input) else { continue };
            match (entry.next(), writable) {
                (None, _) => entry.forbid_writes(),
                (Some(_), Writable::Block) => {
                    entry.invalidate();
                    is_any_joined = true;
                }
                (Some(pages), Writable::Pages(words)) => {
                    bits(words).for_each(|page| pages.nth(page).forbid_writes());
                }
            }
        }
        forget(self.root());
        if !is_any_joined {
            return;
        }
        for (input, _) in blocks().filter(|(_, writable)| *writable == Writable::Block) {
            // SAFETY: an entry that refers to a table was made invalid in the loop above, and no
            // core has a copy of what it was, by the condition.
            let pages = self.block(input).and_then(|entry| unsafe { entry.join(false) });
            if let Some(pages) = pages {
                self.put_away(pages);
            }
        }
    }

    /// Returns how many tables of pages the translation has: those of blocks that were
    /// [split](Self::split), and those for more of them.
    pub fn page_tables(&self) -> usize {
        self.split + self.spares.count()
    }

    /// Takes the tables that no block needs now.
    pub fn take_spares(&mut self) -> Spares {
        core::mem::take(&mut self.spares)
    }

    /// Adds tables for blocks that will be split. They come from such a source as those of the
    /// translation.
    pub fn stock(&mut self, spares: Spares) {
        self.spares.append(spares);
    }

    /// Returns whether `input` lies in a block of 2 MiB that was split into pages.
    pub fn is_split(&self, input: u64) -> bool {
        self.block(input).is_some_and(|entry| entry.next().is_some())
    }

    /// Splits the block of 2 MiB in which `input` lies into pages, unless it was split already, and
    /// allows writes to the page of `input`. Other cores may use the translation meanwhile.
    /// `forget` is called at most once, and must make all cores drop their copies of what it is
    /// given.
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfMemory`] if there is no table for the pages in [stock](Self::stock).
    /// Nothing was changed then.
    ///
    /// # Safety
    ///
    /// When `forget` returns, no core has a copy of what it was given, as it was before, in a TLB
    /// or in a walk that is under way.
    pub unsafe fn split(
        &mut self,
        input: u64,
        forget: impl FnOnce(Forget),
    ) -> Result<(), MapError> {
        let Some(entry) = self.block(input) else { return Ok(()) };
        // Mostly the block was split by another page's first write.
        if let Some(pages) = entry.next() {
            pages.entry(input).allow_writes_to_mapped();
            return Ok(());
        }
        let pages = self.spares.pop().ok_or(MapError::OutOfMemory)?;
        if let Some(entry) = self.block(input) {
            entry.fill(&pages);
            entry.invalidate();
            forget(Forget::Address(input));
            entry.refer_to(pages);
        }
        self.split += 1;
        self.allow_writes(input);
        Ok(())
    }

    /// Maps the page at `input`, which lies in a block of 2 MiB that is mapped, to `output`,
    /// writable or not. The block is split unless it was already. Other cores may use the
    /// translation meanwhile: they find the page where it was, or nothing, until it is at `output`.
    /// `forget` is called at most once, and must make all cores drop their copies of what it is
    /// given.
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfMemory`] if there is no table for the pages, in [stock](Self::stock) or in
    /// `tables`. Nothing was changed then.
    ///
    /// # Safety
    ///
    /// When `forget` returns, no core has a copy of what it was given, as it was before, in a TLB
    /// or in a walk that is under way.
    pub unsafe fn move_page(
        &mut self,
        tables: &mut impl TableSource,
        input: u64,
        output: u64,
        writable: bool,
        forget: impl FnOnce(Forget),
    ) -> Result<(), MapError> {
        let Some(is_split) = self.block(input).map(|entry| entry.next().is_some()) else {
            return Ok(());
        };
        if is_split {
            let Some(leaf) = self.leaf(input) else { return Ok(()) };
            if leaf.load() & OUTPUT_ADDRESS != output {
                leaf.invalidate();
                forget(Forget::Address(input));
                leaf.forbid_writes();
                leaf.lead_to(output);
            }
            if writable {
                leaf.allow_writes();
            }
            return Ok(());
        }
        let spare = self.spares.pop().or_else(|| Pages::allocate(tables));
        let pages = spare.ok_or(MapError::OutOfMemory)?;
        if let Some(entry) = self.block(input) {
            entry.fill(&pages);
            pages.lead_to(index(input, LAST_LEVEL), output);
            entry.invalidate();
            forget(Forget::Address(input));
            entry.refer_to(pages);
        }
        self.split += 1;
        if writable {
            self.allow_writes(input);
        }
        Ok(())
    }

    /// Allows writes to all of the block of 2 MiB in which `input` lies. If the block was split, it
    /// is one block again. Other cores may use the translation meanwhile. `forget` is called at
    /// most once, and must make all cores drop their copies of what it is given.
    ///
    /// # Safety
    ///
    /// When `forget` returns, no core has a copy of what it was given, as it was before, in a TLB
    /// or in a walk that is under way.
    pub unsafe fn join(&mut self, input: u64, forget: impl FnOnce(Forget)) {
        let Some(entry) = self.block(input) else { return };
        if entry.next().is_none() {
            return entry.allow_writes();
        }
        entry.invalidate();
        // A core may have a copy of each page.
        forget(Forget::All);
        // SAFETY: the entry was made invalid, and no core has a copy of what it was, by the
        // condition.
        if let Some(pages) = unsafe { entry.join(true) } {
            self.put_away(pages);
        }
    }

    /// Keeps a table whose block is not split any more for the next one that will be.
    pub(super) fn put_away(&mut self, pages: Pages) {
        self.spares.push(pages);
        self.split -= 1;
    }

    /// Returns the entry for `input` in a table of level 2, if it maps a block or refers to a table
    /// of pages.
    pub(super) fn block(&self, input: u64) -> Option<Entry<'_>> {
        let entry = self.first_level().entry(input).next()?.entry(input);
        (entry.load() != 0).then_some(entry)
    }
}
