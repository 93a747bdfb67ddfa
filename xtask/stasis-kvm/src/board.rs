//! [`Board`]: the guest's devices, which are the models that Stasis has, and what they are connected to: a console, interrupts, clocks.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;

use stasis_devices::access::Width;
use stasis_devices::device::{self, Clocks, Context, Deadline, Effects, Memory as DeviceMemory};
use stasis_devices::list::{Devices, Line, Target, lookup};
use stasis_devices::machine::{GICD_BASE, GICD_SIZE};
use stasis_devices::pl011::{self, Character};
use stasis_state::GuestState;
use stasis_state::devices::Devices as Records;

use crate::disk::{self, Disk};
use crate::memory::Memory;
use crate::outside::Outside;

/// What was typed and is not yet in the UART, in characters, from which on nobody should be asked
/// for more.
const ENOUGH: usize = 4096;

/// The time of an access, and the guest's RAM.
#[derive(Debug)]
pub struct Moment {
    /// The guest's CNTVCT_EL0.
    pub guest_time: u64,
    /// Seconds since 1970.
    pub wall_time: u64,
    /// The guest's RAM.
    pub memory: Memory,
    /// Guest-physical address of the RAM.
    pub ram_base: u64,
}

impl Clocks for Moment {
    fn guest_time(&self) -> u64 {
        self.guest_time
    }

    fn wall_time(&self) -> u64 {
        self.wall_time
    }
}

impl Context for Moment {
    fn memory(&mut self) -> DeviceMemory<'_> {
        DeviceMemory { base: self.ram_base, ram: &mut self.memory }
    }
}

/// What an access came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A device has answered.
    Done,
    /// A device has answered, and may change by itself at another time than before.
    DueChanged,
    /// There is nothing at this address: the guest gets a synchronous external abort.
    Nothing,
}

/// The guest's devices.
pub struct Board {
    devices: Devices,
    /// The level of each interrupt that a device was seen to have.
    levels: BTreeMap<u16, bool>,
    typed: VecDeque<Character>,
    console: Box<dyn Write + Send>,
    wire: Box<dyn FnMut(Line) + Send>,
    disks: Vec<Disk>,
    outside: Outside,
}

impl Board {
    /// Returns the devices of a guest that was stored, and these disks. What its UART sends goes to
    /// `console`, which need not take it; each interrupt whose level changes goes to `wire`, and
    /// all of them once now.
    pub fn new(
        state: &GuestState,
        disks: Vec<Disk>,
        console: Box<dyn Write + Send>,
        wire: Box<dyn FnMut(Line) + Send>,
    ) -> Self {
        let devices = Devices::restored(state.devices.clone(), *state.clock.wall_time);
        let (levels, typed) = (BTreeMap::new(), VecDeque::new());
        let outside = Outside::default();
        let mut board = Self { devices, levels, typed, console, wire, disks, outside };
        let mut lines = Vec::new();
        board.devices.lines(|line| lines.push(line));
        lines.into_iter().for_each(|line| board.set(line));
        board
    }

    /// Returns the devices' records.
    pub fn records(&self) -> Records {
        self.devices.records().to_owned()
    }

    /// Returns the INTIDs whose lines are high.
    pub fn high(&self) -> impl Iterator<Item = u16> {
        self.levels.iter().filter(|(_, level)| **level).map(|(intid, _)| *intid)
    }

    /// Reads `data.len()` bytes at a guest-physical address.
    pub fn read(&mut self, address: u64, data: &mut [u8], now: &mut Moment) -> Answer {
        data.fill(0);
        let Some(target) = self.target(address, data.len()) else { return rest(address) };
        let (value, line) = self.devices.read(target, now);
        let bytes = value.to_le_bytes();
        let len = data.len().min(bytes.len());
        data[..len].copy_from_slice(&bytes[..len]);
        self.after(line);
        Answer::Done
    }

    /// Writes bytes to a guest-physical address.
    pub fn write(&mut self, address: u64, data: &[u8], now: &mut Moment) -> Answer {
        let Some(target) = self.target(address, data.len()) else { return rest(address) };
        let mut bytes = [0; size_of::<u64>()];
        bytes[..data.len()].copy_from_slice(data);
        let (effects, line) = self.devices.write(target, u64::from_le_bytes(bytes), now);
        let Effects { outside, due_changed } = effects;
        if let Some(device::Outside::Transmit(byte)) = outside {
            // A console that nobody looks at any more is no reason to stop.
            let _ = self.console.write_all(&[byte]).and_then(|()| self.console.flush());
        }
        self.after(line);
        self.serve(now);
        if due_changed { Answer::DueChanged } else { Answer::Done }
    }

    /// Does all that the virtio devices have to do. Requests are done at once, so none is under way
    /// when the guest stands still.
    fn serve(&mut self, now: &mut Moment) {
        while let Some(slot) = self.devices.virtio.serve(&mut now.memory(), &mut self.outside) {
            self.tell_slot(slot);
        }
        while let Some((slot, request)) = self.devices.virtio.disk_request(&now.memory()) {
            if let Some(request) = request {
                let disk = self.disks.iter_mut().find(|disk| disk.slot == slot);
                disk::perform(&mut self.devices.virtio, now.memory(), &request, disk);
            }
            self.tell_slot(slot);
        }
    }

    /// Tells the level of the interrupt of a virtio device.
    fn tell_slot(&mut self, slot: u8) {
        if let Some(line) = Line::of(&self.devices.virtio, slot) {
            self.set(line);
        }
    }

    /// Returns the disks.
    pub fn disks(&self) -> &[Disk] {
        &self.disks
    }

    fn target(&self, address: u64, len: usize) -> Option<Target> {
        let width = match len {
            1 => Width::Byte,
            2 => Width::Halfword,
            4 => Width::Word,
            8 => Width::Doubleword,
            _ => return None,
        };
        lookup(address, width).filter(|target| self.devices.has(*target))
    }

    /// Tells the levels after an access that has left an interrupt at the level of `line`. The
    /// UART's is told once it has taken what it has room for.
    fn after(&mut self, line: Option<Line>) {
        let uart = Line::of(&self.devices.pl011, 0).map(|uart| uart.intid);
        if let Some(line) = line.filter(|line| Some(line.intid) != uart) {
            self.set(line);
        }
        self.feed();
    }

    fn set(&mut self, line: Line) {
        if self.levels.insert(line.intid, line.level) != Some(line.level) {
            (self.wire)(line);
        }
    }

    /// Types characters at the UART, which takes them as it has room.
    pub fn type_in(&mut self, typed: impl IntoIterator<Item = Character>) {
        self.typed.extend(typed);
        self.feed();
    }

    /// Returns whether more may be typed.
    pub fn has_room(&self) -> bool {
        self.typed.len() < ENOUGH
    }

    fn feed(&mut self) {
        while pl011::can_receive(&self.devices.pl011)
            && let Some(character) = self.typed.pop_front()
        {
            // The UART has room, as was just asked.
            let _ = pl011::receive(&mut self.devices.pl011, character);
        }
        if let Some(line) = Line::of(&self.devices.pl011, 0) {
            self.set(line);
        }
    }

    /// Brings the devices up to the time of `now`. Returns why the guest can't go on, if a device
    /// says so.
    pub fn tick(&mut self, now: &mut Moment) -> Option<String> {
        // A request that was published before the checkpoint may not be notified any more.
        self.serve(now);
        let mut lines = Vec::new();
        self.devices.tick(&*now, |line| lines.push(line));
        lines.into_iter().for_each(|line| self.set(line));
        self.devices.verdict().map(|verdict| format!("the guest {verdict}"))
    }

    /// Returns the CNTVCT_EL0 at which [`tick`](Self::tick) must be called next, of a guest whose
    /// counter runs at `hz`.
    pub fn due(&self, now: &Moment, hz: u64) -> u64 {
        let to_ticks = |deadline| match deadline {
            Deadline::Never => u64::MAX,
            Deadline::GuestTime(time) => time,
            Deadline::WallTime(time) => {
                let seconds = time.saturating_sub(now.wall_time);
                now.guest_time.saturating_add(seconds.saturating_mul(hz))
            }
        };
        self.devices.due(to_ticks).0
    }
}

/// Returns what is at an address that no device has: the rest of the distributor's window reads as
/// 0, and ignores writes.
fn rest(address: u64) -> Answer {
    if (GICD_BASE..GICD_BASE + GICD_SIZE).contains(&address) {
        Answer::Done
    } else {
        Answer::Nothing
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    const UART: u64 = 0x0900_0000;
    const UART_IMSC: u64 = UART + 0x38;

    fn now() -> Moment {
        let memory = Memory::new(4096).unwrap();
        Moment { guest_time: 1000, wall_time: 1, memory, ram_base: 1 << 30 }
    }

    #[test]
    fn a_uart_sends_and_receives_and_raises_its_line() {
        let (console, wired) = (Shared::default(), Arc::new(Mutex::new(Vec::new())));
        let seen = wired.clone();
        let wire = Box::new(move |line: Line| {
            if line.intid == 33 {
                seen.lock().unwrap().push(line.level);
            }
        });
        let mut board =
            Board::new(&GuestState::reset(1), Vec::new(), Box::new(console.clone()), wire);
        assert_eq!(board.write(UART, b"h", &mut now()), Answer::Done);
        board.write(UART_IMSC, &[0x10, 0, 0, 0], &mut now());
        board.type_in(b"0123456789abcdefgh".iter().map(|byte| Character::from(*byte)));
        assert_eq!(board.high().collect::<Vec<_>>(), [33]);
        let mut read = || {
            let mut data = [0; 4];
            board.read(UART, &mut data, &mut now());
            data[0]
        };
        let received: Vec<u8> = (0..18).map(|_| read()).collect();
        assert_eq!(received, b"0123456789abcdefgh");
        assert_eq!(*console.0.lock().unwrap(), b"h");
        assert_eq!(*wired.lock().unwrap(), [false, true, false]);
    }

    #[test]
    fn where_nothing_is_there_is_nothing_but_behind_the_distributor() {
        let mut board = Board::new(
            &GuestState::reset(1),
            Vec::new(),
            Box::new(std::io::sink()),
            Box::new(|_| ()),
        );
        let mut data = [7; 4];
        assert_eq!(board.read(0x0b00_0000, &mut data, &mut now()), Answer::Nothing);
        assert_eq!(board.read(0x0800_2000, &mut data, &mut now()), Answer::Done);
        assert_eq!(data, [0; 4]);
        assert_eq!(board.write(0x0b00_0000, &[0; 16], &mut now()), Answer::Nothing);
        // This guest has no watchdog.
        assert_eq!(board.write(0x0910_0000, &[0; 4], &mut now()), Answer::Nothing);
    }
}
