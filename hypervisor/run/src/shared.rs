//! The memory that guests share, and their doorbells.
//!
//! A region has its memory for as long as the machine is on, and beside it as much again, for what a checkpoint holds of it: the
//! guests that share it, and are not stored themselves, stand still only while it is copied there. What one guest rings another
//! waits in the region until a core of the other's comes by ([`Connected::take_rung`]): so nobody takes the lock of another guest.

use crate::slot::{Ram, Slot};
use alloc::sync::Arc;
use alloc::vec::Vec;
use spin::Once;
use spin::mutex::{SpinMutex, SpinMutexGuard};
use stasis_cores::news::Bits;
use stasis_guest::shared::SharedRegion;
use stasis_guest::shared::{Connection, NotMade, connections};
use stasis_memory::range::{NoRam, Range};
use stasis_memory::{ReadRam, WriteRam};
use stasis_state::device::MAX_PEERS;

/// A region that this machine has memory for.
pub struct Region {
    config: &'static SharedRegion,
    /// Where its memory is.
    range: Range,
    /// Guests write it, and nobody watches where. Held while it is copied or overwritten.
    memory: SpinMutex<Ram>,
    copy: SpinMutex<Ram>,
    /// For each guest, who has rung it since it was told last.
    rung: [Bits; MAX_PEERS],
    /// The guests that are there.
    guests: [SpinMutex<Option<Arc<Slot>>>; MAX_PEERS],
}

static REGIONS: Once<Vec<Region>> = Once::new();

/// Makes the regions. One that there is no memory for is said, and the others are made. Calls `pause` between pieces of their clearing.
pub fn init(configs: &'static [SharedRegion], pause: &mut dyn FnMut()) {
    REGIONS.call_once(|| {
        let made = configs.iter().filter_map(|config| {
            let region = Region::new(config, pause);
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
    fn new(config: &'static SharedRegion, pause: &mut dyn FnMut()) -> Result<Self, NoRam> {
        let mut memory = Ram::take(0, config.size, pause)?;
        let copy = Ram::take(0, config.size, pause)?;
        memory.finish_writing(pause);
        // Stage 2 lets guests write it all from the beginning.
        memory.mark_written(0..config.size as usize);
        Ok(Self {
            config,
            range: memory.range(),
            memory: SpinMutex::new(memory),
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
pub fn connect(
    configured: &'static [SharedRegion],
    guest: &str,
) -> Result<Vec<Connected>, NotMade> {
    let find = |Connection { region, index }: Connection| {
        let made = regions().iter().find(|made| made.config.name == region.name);
        let made = made.ok_or_else(|| NotMade { region: region.name.clone() })?;
        Ok(Connected { region: made, index: index.into() })
    };
    connections(configured, guest).into_iter().map(find).collect()
}

impl Connected {
    /// Returns the physical addresses of its memory.
    pub fn range(&self) -> Range {
        self.region.range
    }

    /// Returns its memory, locked, to be overwritten while nobody who shares it runs.
    pub fn overwrite(&self) -> Overwritten {
        Overwritten { region: self.region, memory: self.region.memory.lock() }
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
            guests.iter().any(|slot| slot.name == name && slot.look().state.is_alive())
        };
        stasis_guest::shared::keeper(self.region.config, |name| resumed.contains(&name), alive)
    }

    /// The region's name.
    pub fn name(&self) -> &'static str {
        &self.region.config.name
    }
}

/// The memory of a region that a checkpoint's content goes to.
pub struct Overwritten {
    region: &'static Region,
    memory: SpinMutexGuard<'static, Ram>,
}

impl Overwritten {
    /// Returns the memory, to be written.
    pub fn as_writable(&mut self) -> &mut dyn WriteRam {
        &mut **self.memory
    }

    /// Ends it: guests see what was written, and what was rung before is over. Nobody who shares the region has run since before that. Calls
    /// `pause` between pieces of its leaving the caches.
    pub fn finish(mut self, pause: &mut dyn FnMut()) {
        self.memory.finish_writing(pause);
        for rung in &self.region.rung {
            rung.take();
        }
    }
}

/// Copies what is in the regions that these guests share. Whoever shares them stands still. Calls `pause` between pieces.
pub fn copy<'a>(slots: impl Iterator<Item = &'a Slot>, pause: &mut dyn FnMut()) {
    let mut copied: Vec<&Region> = Vec::new();
    for Connected { region, .. } in slots.flat_map(Slot::shared) {
        if !copied.iter().any(|other| core::ptr::eq(*other, *region)) {
            let memory = region.memory.lock();
            memory.leave_caches(pause);
            region.copy.lock().copy_from(&memory, pause).expect("both were made as large");
            memory.leave_caches(pause);
            copied.push(region);
        }
    }
}

/// Lends the copies of what a guest shares to `action`, and returns what that returns.
pub fn with_copies<T>(slot: &Slot, action: impl FnOnce(&[&dyn ReadRam]) -> T) -> T {
    let copies: Vec<_> = slot.shared().iter().map(|one| one.region.copy.lock()).collect();
    let copies: Vec<&dyn ReadRam> =
        copies.iter().map(|copy| -> &dyn ReadRam { &***copy }).collect();
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
