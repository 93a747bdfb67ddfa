//! The invariants of the memory that a guest shares with others.

use crate::{
    device::{MAX_PEERS, MAX_SHARED, SharedMemory},
    devices::DeviceRecord,
    guest::{Guest, NAME_LEN},
    routines::PAGE_SIZE,
};

use super::{Violation, each};

type Result = core::result::Result<(), Violation>;

impl DeviceRecord for SharedMemory {
    fn check(&self, guest: &Guest) -> Result {
        shared(self, guest)
    }

    fn check_names(&self) -> Result {
        names(self)
    }
}

/// Checks the names of the regions by the rule that holds since version 1.3.
fn names(shared: &SharedMemory) -> Result {
    (0..MAX_SHARED).filter(|n| shared.has(*n)).try_for_each(|n| {
        let violation =
            |why| Violation::Name { register: "name", found: shared.shown_name(n), why };
        shared.checked_name(n).map(|_| ()).map_err(violation)
    })
}

fn shared(shared: &SharedMemory, guest: &Guest) -> Result {
    let why = "there is a region, and those that there are come first";
    let sizes = &shared.size;
    let none_from = |n: usize| sizes[n..].iter().all(|size| *size == 0);
    each("size", &sizes[..], why, |n, size| size != 0 || (n > 0 && none_from(n)))?;
    let in_use = |n: usize| shared.has(n);

    let why = "it is UTF-8, padded with 0, and not empty where there is a region";
    let named = |n: usize| {
        let name = shared.name_bytes(n);
        let len = name.iter().position(|&byte| byte == 0).unwrap_or(NAME_LEN);
        let padded = name[len..].iter().all(|&byte| byte == 0);
        padded && core::str::from_utf8(&name[..len]).is_ok() && (len > 0) == in_use(n)
    };
    each("name", &shared.name[..], why, |at, _| at % NAME_LEN != 0 || named(at / NAME_LEN))?;

    let whole = |bytes: u64| bytes.is_multiple_of(PAGE_SIZE as u64);
    let why = "it is a multiple of 4096, and 0 where there is no region";
    each("base", &shared.base[..], why, |n, base| whole(base) && (base == 0 || in_use(n)))?;
    each("size", &shared.size[..], "it is a multiple of 4096", |_, size| whole(size))?;
    let why = "the region ends below 2^64, and there is something else between it, the next one and the RAM";
    let (ram_base, ram_size) = (*guest.ram_base, *guest.ram_size);
    let placed = |n: usize, base: u64| {
        let Some(end) = base.checked_add(shared.size[n]) else { return false };
        let beside_ram = end < ram_base || base > ram_base.saturating_add(ram_size);
        let before_next = !in_use(n + 1) || end < shared.base[n + 1];
        beside_ram && before_next
    };
    each("base", &shared.base[..], why, |n, base| !in_use(n) || placed(n, base))?;

    let possible = |n: usize, peers: u8| match in_use(n) {
        true => (1..=MAX_PEERS).contains(&usize::from(peers)),
        false => peers == 0,
    };
    each("peers", &shared.peers[..], "1 to 8 share a region", possible)?;
    let why = "it is below the number of those that share it";
    each("index", &shared.index[..], why, |n, index| index == 0 || index < shared.peers[n])?;
    let why = "it has a bit for each of those that share it";
    let rung = |n: usize, status: u32| u64::from(status) < 1 << shared.peers[n];
    each("status", &shared.status[..], why, rung)
}
