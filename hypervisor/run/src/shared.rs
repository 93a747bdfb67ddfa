//! Memory that guests share, and their doorbells.
//!
//! A region has its memory for as long as the machine is on. A checkpoint reads it as it was at an
//! instant, while the guests that share it run ([`FrozenRegions`]). A bell that one guest rings for
//! another waits in the region until a core of the other's takes it ([`Connected::take_rung`]). So
//! nobody takes the lock of another guest.

mod frozen;

pub use frozen::{FrozenRegions, PreparedRegions, Reading};

use crate::domain::{Domain, Ram};
use alloc::sync::Arc;
use alloc::vec::Vec;
use spin::Once;
use spin::mutex::{SpinMutex, SpinMutexGuard};
use stasis_cores::news::Bits;
use stasis_guest::shared::SharedRegion;
use stasis_guest::shared::{Connection, NotMade, connections};
use stasis_memory::WriteRam;
use stasis_memory::range::{NoRam, Range};
use stasis_state::device::MAX_PEERS;

/// A region that this machine has memory for.
pub struct Region {
    config: &'static SharedRegion,
    /// Physical addresses of the memory.
    range: Range,
    /// Memory of the region; `None` while somebody [overwrites](Connected::overwrite) it. Guests
    /// write it at any moment. Locked for the first write of a page while it is stored.
    memory: SpinMutex<Option<Ram>>,
    /// For each guest, the peers that have rung it since it was told last.
    rung: [Bits; MAX_PEERS],
    /// Guests that share the region and are on this machine, each by its number in the region.
    guests: [SpinMutex<Option<Arc<Domain>>>; MAX_PEERS],
}

static REGIONS: Once<Vec<Region>> = Once::new();

/// Makes the regions, once. If there is no memory for one, a line of the log says so, and the
/// others are made. Calls `pause` between pieces of the clearing.
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
        memory.finish_writing(pause);
        // Stage 2 lets guests write all of it from the beginning.
        memory.mark_written(0..config.size as usize);
        Ok(Self {
            config,
            range: memory.range(),
            memory: SpinMutex::new(Some(memory)),
            rung: core::array::from_fn(|_| Bits::new()),
            guests: [const { SpinMutex::new(None) }; MAX_PEERS],
        })
    }

    /// Returns the guests that share the region and are on this machine.
    pub fn guests(&self) -> Vec<Arc<Domain>> {
        self.guests.iter().filter_map(|guest| guest.lock().clone()).collect()
    }
}

/// A region, and a guest's number in it.
#[derive(Clone, Copy)]
pub struct Connected {
    /// The region.
    pub region: &'static Region,
    index: usize,
}

/// Returns the regions that `guest` shares by the configuration, with its number in each.
///
/// # Errors
///
/// [`NotMade`] if this machine does not have one of them.
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
    /// Returns the physical addresses of the region's memory.
    pub fn range(&self) -> Range {
        self.region.range
    }

    /// Returns the region's memory, for overwriting. A guest that shares it waits with what stage 2
    /// forbids it to write, until the result is dropped.
    ///
    /// # Panics
    ///
    /// If somebody overwrites it already, or stores it.
    pub fn overwrite(&self) -> Overwritten {
        let memory = self.region.memory.lock().take().filter(|memory| memory.snapshot().is_none());
        let memory = memory.expect("one task at a time loads a region, or stores it");
        Overwritten { region: self.region, memory }
    }

    /// Registers the guest in `domain` with the region: it can be rung from now on.
    pub fn enter(&self, domain: &Arc<Domain>) {
        *self.region.guests[self.index].lock() = Some(domain.clone());
    }

    /// Removes the guest from the region, with the bells that were rung for it.
    pub fn leave(&self) {
        *self.region.guests[self.index].lock() = None;
        self.silence();
    }

    /// Rings the guest with the number `peer`: its vCPUs are kicked. The caller holds no lock of a
    /// guest's but its own vCPU's.
    pub fn ring(&self, peer: u8) {
        let peer = usize::from(peer);
        self.region.rung[peer].set(self.index);
        // Clone the guest: the lock must not be held while other locks are taken.
        let guest = self.region.guests[peer].lock().clone();
        if let Some(guest) = guest {
            guest.tell();
        }
    }

    /// Returns the peers that have rung the guest since the last call: one bit for each.
    pub fn take_rung(&self) -> u32 {
        self.region.rung[self.index].take()
    }

    /// Drops the bells that were rung for the guest.
    pub fn silence(&self) {
        self.take_rung();
    }

    /// Returns the guest because of which the region's content is not put back when the guests
    /// named in `resumed` are; `None` if it is put back.
    pub fn keeper(&self, resumed: &[&str]) -> Option<&'static str> {
        let guests = self.region.guests();
        let alive = |name: &str| {
            guests.iter().any(|domain| domain.name == name && domain.look().state.is_alive())
        };
        stasis_guest::shared::keeper(self.region.config, |name| resumed.contains(&name), alive)
    }

    /// Returns the region's memory, locked; `None` stands there while somebody overwrites it.
    pub(crate) fn memory(&self) -> SpinMutexGuard<'static, Option<Ram>> {
        self.region.memory.lock()
    }

    /// Returns the region's name.
    pub fn name(&self) -> &'static str {
        &self.region.config.name
    }
}

/// Memory of a region, into which a checkpoint's content is loaded. The region has it again when
/// this is dropped.
pub struct Overwritten {
    region: &'static Region,
    memory: Ram,
}

impl Overwritten {
    /// Returns the memory, for writing.
    pub fn as_writable(&mut self) -> &mut dyn WriteRam {
        &mut *self.memory
    }

    /// Makes guests see what was written, and drops the bells that were rung before. Calls `pause`
    /// between pieces of the cache maintenance.
    pub fn finish(mut self, pause: &mut dyn FnMut()) {
        self.memory.finish_writing(pause);
        for rung in &self.region.rung {
            rung.take();
        }
    }
}

/// Puts the memory back, and kicks the vCPUs that wait for it.
impl Drop for Overwritten {
    fn drop(&mut self) {
        *self.region.memory.lock() = Some(core::mem::replace(&mut self.memory, Ram::none()));
        self.region.guests().iter().for_each(|domain| domain.kick_all());
    }
}

/// Returns the guests that share memory with these guests and are not among them.
pub fn others(domains: &[&Domain]) -> Vec<Arc<Domain>> {
    let mut others: Vec<Arc<Domain>> = Vec::new();
    let peers =
        domains.iter().flat_map(|domain| domain.shared()).flat_map(|one| one.region.guests());
    for peer in peers {
        let known =
            domains.iter().map(|domain| domain.number).chain(others.iter().map(|o| o.number));
        if !known.into_iter().any(|number| number == peer.number) {
            others.push(peer);
        }
    }
    others
}
