//! Parts of a bus that the CPU reaches, or whose devices reach memory: [`Window`], of `ranges` and
//! `dma-ranges` (Devicetree Specification, 2.3.8 and 2.3.9).

use arrayvec::ArrayVec;
use dtoolkit::standard::Range as Entry;

/// Windows of one bus. More than any board has are left out, and what lies behind them is not
/// found.
pub(super) const MAX_WINDOWS: usize = 16;

/// One entry of `ranges` or `dma-ranges`, translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The window's start on the bus.
    pub start: u64,
    /// The window's start for the CPU.
    pub cpu: u64,
    /// The window's length in bytes.
    pub len: u64,
}

impl Window {
    /// The window of a bus whose addresses are the CPU's.
    pub const EVERYTHING: Self = Self { start: 0, cpu: 0, len: u64::MAX };

    /// Returns the CPU's address for one on the bus, if it lies in the window.
    pub fn translate(&self, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.start)?;
        if offset < self.len { self.cpu.checked_add(offset) } else { None }
    }
}

/// Returns the windows that the entries of `ranges` or `dma-ranges` make; `None` if there are no
/// entries. `translate` returns the CPU's address for one on the bus above.
pub fn windows(
    entries: &mut dyn Iterator<Item = Entry<'_>>,
    translate: &dyn Fn(u64) -> Option<u64>,
) -> Option<ArrayVec<Window, MAX_WINDOWS>> {
    let mut windows = None;
    for entry in entries {
        let windows = windows.get_or_insert(ArrayVec::new());
        let window = || {
            let cpu = translate(entry.parent_bus_address().ok()?)?;
            let start = entry.child_bus_address().ok()?;
            Some(Window { start, cpu, len: entry.length().ok()? })
        };
        let _ = window().map(|window| windows.try_push(window));
    }
    windows
}
