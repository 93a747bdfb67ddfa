//! The machine's devices as a guest has them: the addresses of their registers in the guest's map,
//! and the guest's interrupts for theirs.
//!
//! The registers are where QEMU's `virt` has its platform bus, by whole pages, in the order of
//! their physical addresses. The interrupts are the SPIs from [`DEVICE_SPI`] on. Devices that share
//! an interrupt on the machine share one in the guest. `stasis-host` decides what can be given.

use alloc::string::String;
use alloc::vec::Vec;

use stasis_devices::machine::{DEVICE_BASE, DEVICE_SPI, DEVICE_WINDOW, MAX_DEVICE_INTERRUPTS};
use stasis_memory::PAGE_SIZE;
use stasis_memory::range::{Pool, Range};

/// A device of the machine that can be given to a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Path of the device's node in the machine's device tree.
    pub path: String,
    /// Values of the node's `compatible`.
    pub compatible: Vec<String>,
    /// Physical addresses of the device's registers.
    pub frames: Vec<Range>,
    /// Interrupts of the device, all of them SPIs.
    pub interrupts: Vec<Interrupt>,
    /// Clocks of the device, if it has any.
    pub clocks: Option<DeviceClocks>,
    /// Names and values of the node's other properties that the guest gets.
    pub properties: Vec<(String, Vec<u8>)>,
    /// Names of the node's properties that refer to other nodes, which the guest does not have.
    pub left_out: Vec<String>,
    /// Whether the device accesses memory by itself.
    pub bus_master: bool,
}

/// The clocks' names, and their frequency in Hz.
pub type DeviceClocks = (Vec<String>, u32);

/// An interrupt of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// INTID of the physical interrupt, an SPI.
    pub intid: u32,
    /// Third cell of the interrupt's description: how it is triggered.
    pub flags: u32,
}

impl Interrupt {
    /// Returns whether the interrupt is edge-triggered.
    pub fn is_edge(self) -> bool {
        self.flags & 0b11 != 0
    }
}

/// All devices that a guest was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The devices.
    pub devices: Vec<Device>,
    /// The pages of registers that the guest reaches: their address in the guest's map, and their
    /// physical addresses.
    pub pages: Vec<(u64, Range)>,
    /// Each physical interrupt of the devices, with the number of the guest's SPI for it: its INTID
    /// less 32.
    pub interrupts: Vec<(Interrupt, u32)>,
}

/// A device that a guest was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The device as the machine has it.
    pub grant: Grant,
    /// Addresses of the device's registers in the guest's map.
    pub frames: Vec<Range>,
    /// Number of the guest's SPI for each interrupt of the device.
    pub spis: Vec<u32>,
}

/// The error of [`lay_out`]: the guest's map has no room for the devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the devices need more than {} MiB of addresses, or {MAX_DEVICE_INTERRUPTS} interrupts",
    DEVICE_WINDOW >> 20
)]
pub struct TooMuch;

/// Something that one guest has already, so that another guest can't have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Clash {
    /// A page of registers.
    #[error("one of its devices")]
    Page,
    /// An interrupt of another device, by its physical INTID.
    #[error("a device with the same interrupt, {0},")]
    Interrupt(u32),
}

/// The error of [`Given::check_storable`]: a device of the guest has state that Stasis can't read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("guest \"{guest}\" has the machine's device \"{device}\", whose state can't be stored")]
pub struct Unstorable {
    /// Name of the guest.
    pub guest: String,
    /// Path of the device's node.
    pub device: String,
}

/// Returns the devices of `grants`, with addresses and SPIs in the guest.
///
/// # Errors
///
/// [`TooMuch`] if the devices need more than [`DEVICE_WINDOW`] bytes of addresses, or more than
/// [`MAX_DEVICE_INTERRUPTS`] interrupts.
pub fn lay_out(grants: Vec<Grant>) -> Result<Given, TooMuch> {
    let mut pool = Pool::new();
    grants.iter().flat_map(|grant| &grant.frames).for_each(|f| pool.add(f.outward(PAGE_SIZE)));
    let mut next = DEVICE_BASE;
    let mut pages = Vec::new();
    for range in pool.free() {
        pages.push((next, *range));
        next = next.saturating_add(range.len());
    }
    let place = |frame: &Range| {
        let (base, pages) = pages.iter().find(|(_, pages)| pages.contains(frame.start))?;
        Some(Range::new(base + (frame.start - pages.start), frame.len()))
    };
    let mut devices = Vec::new();
    let mut interrupts = Vec::new();
    for grant in grants {
        let frames = grant.frames.iter().map(place).collect::<Option<_>>().ok_or(TooMuch)?;
        let spis = grant.interrupts.iter().map(|one| spi_for(*one, &mut interrupts)).collect();
        devices.push(Device { grant, frames, spis });
    }
    let fits =
        next <= DEVICE_BASE + DEVICE_WINDOW && interrupts.len() <= MAX_DEVICE_INTERRUPTS as usize;
    if fits { Ok(Given { devices, pages, interrupts }) } else { Err(TooMuch) }
}

/// Returns the number of the guest's SPI for `interrupt`: the one in `interrupts`, or else the next
/// free one, which is added.
fn spi_for(interrupt: Interrupt, interrupts: &mut Vec<(Interrupt, u32)>) -> u32 {
    if let Some((_, spi)) = interrupts.iter().find(|(other, _)| other.intid == interrupt.intid) {
        return *spi;
    }
    let spi = DEVICE_SPI + interrupts.len() as u32;
    interrupts.push((interrupt, spi));
    spi
}

impl Given {
    /// Checks that the guest with the name `guest`, which has these devices, can be stored.
    ///
    /// # Errors
    ///
    /// [`Unstorable`] if it has any device: its state can't be read.
    pub fn check_storable(&self, guest: &str) -> Result<(), Unstorable> {
        match self.devices.first() {
            None => Ok(()),
            Some(device) => {
                let device = device.grant.path.clone();
                Err(Unstorable { guest: guest.into(), device })
            }
        }
    }

    /// Returns something of this that another guest, which has `theirs`, has too. None if the two
    /// have nothing in common.
    pub fn clash(&self, theirs: &Self) -> Option<Clash> {
        let mut pages = self.pages.iter();
        if pages.any(|(_, ours)| theirs.pages.iter().any(|(_, page)| page.overlaps(*ours))) {
            return Some(Clash::Page);
        }
        let mut intids = self.interrupts.iter().map(|(interrupt, _)| interrupt.intid);
        intids.find(|intid| theirs.spi(*intid).is_some()).map(Clash::Interrupt)
    }

    /// Returns the number of the guest's SPI for the physical interrupt `intid`. None if it is no
    /// interrupt of the guest's devices.
    pub fn spi(&self, intid: u32) -> Option<u32> {
        let found = self.interrupts.iter().find(|(interrupt, _)| interrupt.intid == intid);
        found.map(|(_, spi)| *spi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(path: &str, start: u64, len: u64, intids: &[u32]) -> Grant {
        let interrupts = intids.iter().map(|&intid| Interrupt { intid, flags: 4 }).collect();
        let frames = vec![Range::new(start, len)];
        Grant { path: path.into(), frames, interrupts, ..Grant::default() }
    }

    #[test]
    fn a_guest_with_a_device_of_the_machine_can_not_be_stored() {
        assert_eq!(Given::default().check_storable("rt"), Ok(()));
        let given = lay_out(vec![device("/rtc@4000", 0x4000, 0x1000, &[34])]).unwrap();
        assert_eq!(
            given.check_storable("rt").unwrap_err().to_string(),
            "guest \"rt\" has the machine's device \"/rtc@4000\", whose state can't be stored"
        );
    }

    #[test]
    fn devices_of_one_page_share_it_in_the_guest() {
        let grants = vec![
            device("/b", 0x0904_0200, 0x200, &[40, 41]),
            device("/a", 0x0901_0000, 0x1000, &[34]),
            device("/c", 0x0904_0400, 0x200, &[]),
        ];
        let given = lay_out(grants).unwrap();
        assert_eq!(given.pages.len(), 2);
        assert_eq!(given.devices[0].frames, [Range::new(0x0c00_1200, 0x200)]);
        assert_eq!(given.devices[1].frames, [Range::new(0x0c00_0000, 0x1000)]);
        assert_eq!(given.devices[2].frames, [Range::new(0x0c00_1400, 0x200)]);
        let spis: Vec<_> = given.interrupts.iter().map(|(of, spi)| (of.intid, *spi)).collect();
        assert_eq!(spis, [(40, 112), (41, 113), (34, 114)]);
        assert_eq!((given.spi(34), given.spi(144)), (Some(114), None));
    }

    #[test]
    fn devices_with_one_interrupt_have_one_in_the_guest() {
        let grants =
            vec![device("/a", 0x1000, 0x1000, &[121]), device("/b", 0x2000, 0x1000, &[40, 121])];
        let given = lay_out(grants).unwrap();
        assert_eq!(given.devices[0].spis, [112]);
        assert_eq!(given.devices[1].spis, [113, 112]);
        assert_eq!((given.interrupts.len(), given.spi(121)), (2, Some(112)));
    }

    #[test]
    fn a_page_or_an_interrupt_is_one_guests() {
        let give = |start, intids: &[u32]| lay_out(vec![device("/a", start, 0x200, intids)]);
        let ours = give(0x1000, &[40, 121]).unwrap();
        assert_eq!(ours.clash(&give(0x2000, &[41]).unwrap()), None);
        assert_eq!(ours.clash(&give(0x1200, &[41]).unwrap()), Some(Clash::Page));
        let clash = ours.clash(&give(0x2000, &[41, 121]).unwrap());
        assert_eq!(clash, Some(Clash::Interrupt(121)));
    }

    #[test]
    fn what_has_no_room_is_refused() {
        assert_eq!(lay_out(vec![device("/a", 0, DEVICE_WINDOW + 1, &[])]), Err(TooMuch));
        let many: Vec<u32> = (32..64).collect();
        assert_eq!(lay_out(vec![device("/a", 0, 4096, &many)]), Err(TooMuch));
        assert!(lay_out(vec![device("/a", 0, DEVICE_WINDOW, &many[..31])]).is_ok());
    }
}
