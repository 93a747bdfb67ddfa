//! The memory that guests share, and their doorbells.
//!
//! A region has its memory for as long as the machine is on, and beside it as much again, for what a checkpoint holds of it: the
//! guests that share it, and are not stored themselves, stand still only while it is copied there. What one guest rings another
//! waits in the region until a core of the other's comes by ([`Connected::take_rung`]): so nobody takes the lock of another guest.

use crate::slot::{self, FreshRam, Slot};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use spin::Once;
use spin::mutex::SpinMutex;
use stasis_cores::news::Bits;
use stasis_guest::shared::SharedRegion;
use stasis_guest::shared::{Connection, connections};
use stasis_memory::range::Range;
use stasis_state::device::MAX_PEERS;

/// A region that this machine has memory for.
pub struct Region {
    config: &'static SharedRegion,
    memory: Range,
    copy: SpinMutex<FreshRam>,
    /// For each guest, who has rung it since it was told last.
    rung: [Bits; MAX_PEERS],
    /// The guests that are there.
    guests: [SpinMutex<Option<Arc<Slot>>>; MAX_PEERS],
}

static REGIONS: Once<Vec<Region>> = Once::new();

/// Makes the regions. One that there is no memory for is said, and the others are made.
pub fn init(configs: &'static [SharedRegion]) {
    REGIONS.call_once(|| {
        let made = configs.iter().filter_map(|config| {
            let region = Region::new(config);
            region
                .inspect_err(|error| log::error!("shared memory \"{}\": {error}", config.name))
                .ok()
        });
        made.collect()
    });
}

fn regions() -> &'static [Region] {
    REGIONS.get().map_or(&[], Vec::as_slice)
}

impl Region {
    fn new(config: &'static SharedRegion) -> Result<Self, String> {
        let memory = FreshRam::take(0, config.size)?;
        let copy = FreshRam::take(0, config.size)?;
        Ok(Self {
            config,
            memory: memory.keep_clean(),
            copy: SpinMutex::new(copy),
            rung: core::array::from_fn(|_| Bits::new()),
            guests: [const { SpinMutex::new(None) }; MAX_PEERS],
        })
    }

    /// Who shares it, and is on this machine.
    pub fn guests(&self) -> Vec<Arc<Slot>> {
        self.guests.iter().filter_map(|guest| guest.lock().clone()).collect()
    }
}

/// A region as a guest has it.
#[derive(Clone, Copy)]
pub struct Connected {
    /// The region.
    pub region: &'static Region,
    index: usize,
}

/// What a guest is to share by the configuration; an error if this machine does not have it.
pub fn connect(configured: &'static [SharedRegion], guest: &str) -> Result<Vec<Connected>, String> {
    let find = |Connection { region, index }: Connection| {
        let made = regions().iter().find(|made| made.config.name == region.name);
        let made = made.ok_or_else(|| format!("there is no shared memory \"{}\"", region.name))?;
        Ok(Connected { region: made, index: index.into() })
    };
    connections(configured, guest).into_iter().map(find).collect()
}

impl Connected {
    /// What of physical memory it is.
    pub fn memory(&self) -> Range {
        self.region.memory
    }

    /// The guest is there, and can be rung.
    pub fn enter(&self, slot: &Arc<Slot>) {
        *self.region.guests[self.index].lock() = Some(slot.clone());
    }

    /// The guest is not there any more.
    pub fn leave(&self) {
        *self.region.guests[self.index].lock() = None;
        self.silence();
    }

    /// Rings the guest with the number `peer`.
    pub fn ring(&self, peer: u8) {
        let peer = usize::from(peer);
        self.region.rung[peer].set(self.index);
        // Cloned, for the lock is not to be held while other locks are taken.
        let guest = self.region.guests[peer].lock().clone();
        if let Some(guest) = guest {
            guest.tell();
        }
    }

    /// Who has rung since this was asked last: a bit for each.
    pub fn take_rung(&self) -> u32 {
        self.region.rung[self.index].take()
    }

    /// Forgets who has rung.
    pub fn silence(&self) {
        self.take_rung();
    }

    /// Because of whom the content is not put back when the guests with these names are resumed.
    pub fn keeper(&self, resumed: &[&str]) -> Option<&'static str> {
        let guests = self.region.guests();
        let alive = |name: &str| {
            guests.iter().any(|slot| slot.name == name && slot.park().state.is_alive())
        };
        stasis_guest::shared::keeper(self.region.config, |name| resumed.contains(&name), alive)
    }

    /// The region's memory was overwritten with what a checkpoint holds: what was rung before is over. Nobody who shares it has run
    /// since before that.
    pub fn overwritten(&self) {
        slot::finish_writing(self.region.memory);
        for rung in &self.region.rung {
            rung.take();
        }
    }

    /// The region's name.
    pub fn name(&self) -> &'static str {
        &self.region.config.name
    }
}

/// Copies what is in the regions that these guests share. Whoever shares them stands still.
pub fn copy<'a>(slots: impl Iterator<Item = &'a Slot>) {
    let mut copied: Vec<&Region> = Vec::new();
    for Connected { region, .. } in slots.flat_map(Slot::shared) {
        if !copied.iter().any(|other| core::ptr::eq(*other, *region)) {
            let mut memory = region.memory;
            slot::leave_caches(memory);
            slot::copy(slot::ram_of(&mut memory), region.copy.lock().bytes());
            slot::leave_caches(memory);
            copied.push(region);
        }
    }
}

/// The copies of what a guest shares, for as long as `action` looks at them.
pub fn with_copies<T>(slot: &Slot, action: impl FnOnce(&[&[u8]]) -> T) -> T {
    let mut copies: Vec<_> = slot.shared().iter().map(|one| one.region.copy.lock()).collect();
    let copies: Vec<&[u8]> = copies.iter_mut().map(|copy| &*copy.bytes()).collect();
    action(&copies)
}

/// Those that share memory with these guests, and are none of them.
pub fn others(slots: &[&Slot]) -> Vec<Arc<Slot>> {
    let mut others: Vec<Arc<Slot>> = Vec::new();
    let peers = slots.iter().flat_map(|slot| slot.shared()).flat_map(|one| one.region.guests());
    for peer in peers {
        let known = slots.iter().map(|slot| slot.number).chain(others.iter().map(|o| o.number));
        if !known.into_iter().any(|number| number == peer.number) {
            others.push(peer);
        }
    }
    others
}
