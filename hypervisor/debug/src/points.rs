//! Breakpoints and watchpoints: as gdb names them, and as the debug registers that carry them out
//! (DDI 0487, D2.8 to D2.11, D24.3).
//!
//! All are the hardware's. A breakpoint in memory would be in a checkpoint that is made meanwhile,
//! and guests share pages.

use stasis_state::vcpu::DEBUG_PAIRS;

/// Numbers of breakpoints and watchpoints that a CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Number of breakpoints.
    pub breakpoints: usize,
    /// Number of watchpoints.
    pub watchpoints: usize,
}

impl Limits {
    /// Returns the numbers that ID_AA64DFR0_EL1 states: BRPs and WRPs, which are one less.
    pub fn of(id_aa64dfr0_el1: u64) -> Self {
        let number = |shift: u32| (id_aa64dfr0_el1 >> shift & 0xf) as usize + 1;
        Self { breakpoints: number(12), watchpoints: number(20) }
    }

    /// Returns the numbers that both CPUs have: a guest's vCPUs may be on either, and all of them
    /// get the same breakpoints.
    pub fn of_both(self, other: Self) -> Self {
        Self {
            breakpoints: self.breakpoints.min(other.breakpoints),
            watchpoints: self.watchpoints.min(other.watchpoints),
        }
    }
}

/// Accesses that a watchpoint stops. The discriminant is DBGWCR.LSC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Loads.
    Load = 0b01,
    /// Stores.
    Store = 0b10,
    /// Loads and stores.
    Both = 0b11,
}

/// A watchpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchpoint {
    /// First address that is watched.
    pub address: u64,
    /// Number of bytes that are watched.
    pub len: u64,
    /// The accesses that are watched.
    pub kind: Kind,
}

/// Reason why there can't be one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lacking {
    /// The CPU has no more breakpoints.
    #[error("the CPU has {0} hardware breakpoints, and all are set: delete one")]
    Breakpoint(usize),
    /// The CPU has no more watchpoints.
    #[error("the CPU has {0} watchpoints, and all are set: delete one")]
    Watchpoint(usize),
    /// An instruction's address is a multiple of 4.
    #[error("no instruction is at {0:#x}: an instruction's address is a multiple of 4")]
    Misaligned(u64),
    /// One watchpoint can't watch these bytes.
    #[error(
        "a watchpoint has up to 8 bytes within 8 that are aligned, or a power of two of bytes that is aligned: not {len} at {address:#x}"
    )]
    Shape {
        /// First address.
        address: u64,
        /// Number of bytes.
        len: u64,
    },
}

/// A pair of registers: a value, and what controls it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// DBGBVR or DBGWVR.
    pub value: u64,
    /// DBGBCR or DBGWCR.
    pub control: u64,
}

/// DBGBCR and DBGWCR: E, enabled, and PMC or PAC, at EL1 and EL0.
const ENABLED: u64 = 1 | 0b11 << 1;
/// DBGBCR.BAS of an A64 instruction.
const WHOLE_INSTRUCTION: u64 = 0b1111 << 5;
/// Shifts of DBGWCR.LSC, BAS and MASK.
const LSC: u32 = 3;
const BAS: u32 = 5;
const MASK: u32 = 24;
/// Greatest DBGWCR.MASK: 2 GiB.
const MAX_MASK: u32 = 31;
/// Bits of an address that a debug register has; those above are a copy of the highest.
const ADDRESS_BITS: u32 = 49;

/// The breakpoints and watchpoints of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Points {
    breakpoints: [Option<u64>; DEBUG_PAIRS],
    watchpoints: [Option<Watchpoint>; DEBUG_PAIRS],
}

impl Points {
    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.breakpoints.iter().all(Option::is_none) && self.watchpoints.iter().all(Option::is_none)
    }

    /// Adds a breakpoint, or does nothing if it is there.
    pub fn add_breakpoint(&mut self, address: u64, limits: Limits) -> Result<(), Lacking> {
        if !address.is_multiple_of(4) {
            return Err(Lacking::Misaligned(address));
        }
        add(&mut self.breakpoints, address, limits.breakpoints).map_err(Lacking::Breakpoint)
    }

    /// Adds a watchpoint, or does nothing if it is there.
    pub fn add_watchpoint(&mut self, point: Watchpoint, limits: Limits) -> Result<(), Lacking> {
        let Watchpoint { address, len, .. } = point;
        point.pair().ok_or(Lacking::Shape { address, len })?;
        add(&mut self.watchpoints, point, limits.watchpoints).map_err(Lacking::Watchpoint)
    }

    /// Removes a breakpoint. Returns whether it was there.
    pub fn remove_breakpoint(&mut self, address: u64) -> bool {
        remove(&mut self.breakpoints, address)
    }

    /// Removes a watchpoint. Returns whether it was there.
    pub fn remove_watchpoint(&mut self, point: Watchpoint) -> bool {
        remove(&mut self.watchpoints, point)
    }

    /// Returns whether there is a breakpoint at this address.
    #[cfg(test)]
    pub fn has_breakpoint(&self, address: u64) -> bool {
        self.breakpoints.contains(&Some(address))
    }

    /// Returns the watchpoint that an access at `address` has hit. The architecture lets a CPU
    /// report an address beside it, as of a store of several registers (DDI 0487, D2.10.5): then it
    /// is the nearest one.
    pub fn watchpoint_at(&self, address: u64) -> Option<Watchpoint> {
        // A guest may have something of its own in an address's top byte, which FAR_EL2 keeps (DDI
        // 0487, D8.8).
        let address = extended(address);
        self.watchpoints.iter().flatten().copied().min_by_key(|point| {
            let first = extended(point.address);
            let last = first.saturating_add(point.len - 1);
            match (first..=last).contains(&address) {
                true => 0,
                false => first.abs_diff(address).min(last.abs_diff(address)),
            }
        })
    }

    /// Returns the register pair of breakpoint `n`, which is disabled if there is no such
    /// breakpoint.
    pub fn breakpoint(&self, n: usize) -> Pair {
        self.breakpoints[n].map_or_else(Pair::default, |address| Pair {
            value: extended(address),
            control: ENABLED | WHOLE_INSTRUCTION,
        })
    }

    /// Returns the register pair of watchpoint `n`, which is disabled if there is no such
    /// watchpoint.
    pub fn watchpoint(&self, n: usize) -> Pair {
        self.watchpoints[n].and_then(|point| point.pair()).unwrap_or_default()
    }
}

impl Watchpoint {
    /// Returns the register pair of the watchpoint; `None` if one watchpoint can't watch these
    /// bytes.
    fn pair(&self) -> Option<Pair> {
        let Self { address, len, kind } = *self;
        let control = ENABLED | (kind as u64) << LSC;
        let (start, offset) = (address & !7, address & 7);
        let last = address.checked_add(len.checked_sub(1)?)?;
        if last & !7 == start {
            let bytes = ((1 << len) - 1) << offset;
            return Some(Pair { value: extended(start), control: control | bytes << BAS });
        }
        let bits = len.trailing_zeros();
        let is_aligned = len.is_power_of_two() && address.is_multiple_of(len);
        (is_aligned && bits <= MAX_MASK).then_some(Pair {
            value: extended(address),
            control: control | 0xff << BAS | u64::from(bits) << MASK,
        })
    }
}

/// Returns an address as a debug register has it: its upper bits are copies of the highest one.
fn extended(address: u64) -> u64 {
    const SHIFT: u32 = 64 - ADDRESS_BITS;
    ((address << SHIFT) as i64 >> SHIFT) as u64
}

/// Adds `one`, unless it is there. The error is the number of places, which are all taken.
fn add<T: PartialEq + Copy>(
    all: &mut [Option<T>; DEBUG_PAIRS],
    one: T,
    limit: usize,
) -> Result<(), usize> {
    let places = &mut all[..limit.min(DEBUG_PAIRS)];
    if !places.contains(&Some(one)) {
        *places.iter_mut().find(|place| place.is_none()).ok_or(limit)? = Some(one);
    }
    Ok(())
}

fn remove<T: PartialEq + Copy>(all: &mut [Option<T>; DEBUG_PAIRS], one: T) -> bool {
    let place = all.iter_mut().find(|place| **place == Some(one));
    place.map(|place| *place = None).is_some()
}
