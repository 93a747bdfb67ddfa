//! Whether there is memory for a guest that takes it as it is loaded, and when: [`Frames`] is what
//! there is, and [`Wanted`] what the guest's checkpoint needs.
//!
//! Such a guest takes a frame for each page that has content, and a table of frames for each block
//! that has any. In the place of another guest, it has the memory of that one as soon as nothing is
//! needed of it any more. So a checkpoint of which not all fits beside what is in use is not worse
//! than one that does: it is loaded later ([`Plan::AfterBefore`]).

use stasis_memory::PAGE_SIZE;
use stasis_memory::range::{NoRam, Range};
use stasis_state::change::BLOCK_PAGES;
use stasis_state::directory::Entry;
use stasis_state::written::BLOCK_SIZE;

/// What a checkpoint needs of memory that takes frames as it is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Blocks of 2 MiB with any content: each takes a table of frames, and a table of stage 2.
    pub blocks: u64,
    /// Pages with content, each of which takes a frame.
    pub pages: u64,
}

/// The frames that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// Free pages of blocks of which some page is in use.
    pub loose: u64,
    /// Bytes of RAM that nobody has.
    pub free_bytes: u64,
    /// Bytes of these that are not for frames.
    pub kept_bytes: u64,
    /// What the guest has in whose place the other one comes, if there is one.
    pub before: Option<Before>,
}

/// What a guest has that goes, and comes back with its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Pages that the guest alone uses.
    pub own: u64,
    /// Tables of stage 2.
    pub tables: u64,
}

/// When all of a checkpoint is loaded that is resumed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Before anything is changed, into memory that nobody uses.
    Beside,
    /// When the guest that was there has given its memory back, while the new one runs. All of the
    /// checkpoint is read and checked before.
    AfterBefore,
}

impl Wanted {
    /// Returns what those blocks need that lie in `ram`, of all blocks with content.
    pub fn of(blocks: &[Entry], ram: Range) -> Self {
        let blocks = blocks.iter().filter(|one| ram.contains(one.address));
        blocks.fold(Self::default(), |sum, one| Self {
            blocks: sum.blocks + 1,
            pages: sum.pages + u64::from(one.raw) + u64::from(one.words),
        })
    }
}

impl Before {
    /// Returns how many tables of stage 2 are lacking for memory of which so many blocks are in
    /// frames.
    pub fn lacking(&self, blocks: u64) -> u64 {
        blocks.saturating_sub(self.tables)
    }

    /// Returns whether its pages can be so many tables, when they come back.
    pub fn has_pages_for(&self, tables: u64) -> bool {
        tables <= self.own
    }
}

impl Frames {
    /// Decides when a checkpoint is loaded that is resumed as a whole.
    ///
    /// # Errors
    ///
    /// [`NoRam::NoFrames`] if not even the first page could be loaded, or not all, and there is no
    /// guest that gives its memory back.
    pub fn plan(&self, wanted: Wanted) -> Result<Plan, NoRam> {
        let all = wanted.pages + wanted.blocks;
        let left = self.free().checked_sub(all);
        match (left, self.before) {
            (Some(left), None) if wanted.blocks <= left => Ok(Plan::Beside),
            (_, None) => Err(self.lack(all + wanted.blocks)),
            // The tables of stage 2 are taken when the memory before has been given back.
            (Some(left), Some(before))
                if before.has_pages_for(before.lacking(wanted.blocks).saturating_sub(left)) =>
            {
                Ok(Plan::Beside)
            }
            _ => self.check_begin(wanted).map(|()| Plan::AfterBefore),
        }
    }

    /// Checks that there is what is needed before a guest runs whose memory is loaded then: the
    /// tables of its frames. What is loaded waits for frames, if it must.
    ///
    /// # Errors
    ///
    /// [`NoRam::NoFrames`] if there is not, also with what the guest before gives back.
    pub fn check_begin(&self, wanted: Wanted) -> Result<(), NoRam> {
        match wanted.blocks <= self.free_after() {
            true => Ok(()),
            false => Err(self.lack(wanted.blocks)),
        }
    }

    /// Returns how many frames can be taken now: those of whole blocks, and the loose ones.
    fn free(&self) -> u64 {
        let blocks = self.free_bytes.saturating_sub(self.kept_bytes) / BLOCK_SIZE as u64;
        self.loose + blocks * BLOCK_PAGES as u64
    }

    /// Returns how many frames can be taken when the guest before has given its own back. Those may
    /// be whole blocks then, which first fill up what is kept.
    fn free_after(&self) -> u64 {
        let Some(before) = self.before else { return self.free() };
        let free = self.loose + before.own + self.free_bytes / PAGE_SIZE;
        free.saturating_sub(self.kept_bytes / PAGE_SIZE)
    }

    fn lack(&self, wanted: u64) -> NoRam {
        NoRam::NoFrames { wanted: wanted * PAGE_SIZE, free: self.free_after() * PAGE_SIZE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const MIB: u64 = 256;

    /// Returns free frames: so many pages beside 8 MiB that are kept, and what a guest before has.
    fn frames(free: u64, before: Option<u64>) -> Frames {
        let before = before.map(|own| Before { own, tables: 0 });
        Frames { loose: free, free_bytes: 8 << 20, kept_bytes: 8 << 20, before }
    }

    fn content(mib: u64) -> Wanted {
        Wanted { blocks: mib.div_ceil(2), pages: mib * MIB }
    }

    #[test]
    fn a_checkpoint_that_does_not_fit_beside_the_guest_is_loaded_when_that_has_gone() {
        let crashed = frames(40 * MIB, Some(60 * MIB));
        assert_eq!(crashed.plan(content(60)), Ok(Plan::AfterBefore));
        assert_eq!(crashed.plan(content(30)), Ok(Plan::Beside));
    }

    #[test]
    fn beside_others_all_of_a_checkpoint_must_fit_that_is_resumed_as_a_whole() {
        let (wanted, tables) = (content(30), 15);
        let least = 30 * MIB + 2 * tables;
        assert_eq!(frames(least, None).plan(wanted), Ok(Plan::Beside));
        let lack = NoRam::NoFrames { wanted: least * PAGE_SIZE, free: (least - 1) * PAGE_SIZE };
        assert_eq!(frames(least - 1, None).plan(wanted), Err(lack));
        assert_eq!(
            lack.to_string(),
            "it needs 30840 KiB of memory at once; 30836 KiB are free for guests that take memory as they write"
        );
    }

    /// A guest that has taken all frames is resumed in its own.
    #[test]
    fn loading_begins_with_the_tables_that_the_guest_before_gives_back() {
        let wanted = content(60);
        assert_eq!(frames(0, Some(30)).check_begin(wanted), Ok(()));
        assert_eq!(frames(0, Some(30)).plan(wanted), Ok(Plan::AfterBefore));
        assert!(frames(0, Some(29)).check_begin(wanted).is_err());
        assert!(frames(0, None).check_begin(wanted).is_err());
        assert_eq!(frames(30, None).check_begin(wanted), Ok(()));
        // What comes back fills up what is kept first.
        let short = Frames { free_bytes: 0, ..frames(0, Some(8 * MIB + 29)) };
        assert!(short.check_begin(wanted).is_err());
        assert_eq!(Frames { loose: 1, ..short }.check_begin(wanted), Ok(()));
    }

    #[test]
    fn tables_of_stage_2_come_from_what_is_left_or_from_the_guest_before() {
        let wanted = content(2);
        let exact = frames(2 * MIB + 1, Some(0));
        assert_eq!(exact.plan(wanted), Ok(Plan::AfterBefore), "no table of stage 2 is left");
        for before in [Before { own: 1, tables: 0 }, Before { own: 0, tables: 1 }] {
            assert_eq!(Frames { before: Some(before), ..exact }.plan(wanted), Ok(Plan::Beside));
        }
    }

    #[test]
    fn frames_come_in_whole_blocks_beside_what_is_kept() {
        let free = |free_bytes| Frames { free_bytes, ..frames(3, None) }.free();
        assert_eq!([0, 8 << 20, (10 << 20) - 4096].map(free), [3; 3]);
        assert_eq!(free(10 << 20), 3 + 512);
    }

    #[test]
    fn blocks_of_the_ram_with_content_count() {
        let block = |address, raw, words| Entry { address, start: 1, raw, words };
        let blocks: Vec<Entry> = [
            block(0x4000_0000, 3, 4),
            block(0x4020_0000, 0, 1),
            // Memory that guests share.
            block(0x50_0000_0000, 5, 5),
        ]
        .into();
        let wanted = Wanted::of(&blocks, Range::new(0x4000_0000, 0x80_0000));
        assert_eq!(wanted, Wanted { blocks: 2, pages: 8 });
    }
}
