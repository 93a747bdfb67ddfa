//! Bytes as what a driver does to virtio devices: what it has put into RAM, and accesses to the
//! registers. Whatever comes, each step ends, nothing outside of RAM is touched, and the record
//! keeps the rules of the format.

use stasis_devices::access::Width;
use stasis_devices::device::{Access, Clocks, Context, Device, Memory};
use stasis_devices::equipment::Equipment;
use stasis_devices::virtio::block::Outcome;
use stasis_devices::virtio::console::MOST_TEXT;
use stasis_devices::virtio::fitting::Fitting;
use stasis_devices::virtio::net::MAX_FRAME;
use stasis_devices::virtio::{Outward, Slots};
use stasis_memory::{FakeRam, WriteRam};
use stasis_state::devices::DeviceRecord;

const BASE: u64 = 0x4000_0000;
const RAM: usize = 16 << 10;
/// Bytes of an access in the input.
const ACCESS: usize = 8;

const FITTINGS: [Fitting<'static>; 4] = [
    Fitting::Disk { volume: "root", sectors: 64 },
    Fitting::Card { network: "lan", address: [2, 0, 0, 0, 0, 1] },
    Fitting::Entropy,
    Fitting::Terminal,
];

struct Guest(FakeRam);

impl Clocks for Guest {
    fn guest_time(&self) -> u64 {
        0
    }

    fn wall_time(&self) -> u64 {
        0
    }
}

impl Context for Guest {
    fn memory(&mut self) -> Memory<'_> {
        Memory { base: BASE, ram: &mut *self.0 }
    }
}

struct Outside {
    place: [u8; MOST_TEXT],
    /// Bytes that were typed and are still to be taken.
    typed: usize,
}

impl Outward for Outside {
    fn random(&mut self, into: &mut [u8]) -> bool {
        into.fill(0x5a);
        true
    }

    fn frame(&mut self, len: usize) -> &mut [u8] {
        &mut self.place[..len]
    }

    fn send(&mut self, _: u8, len: usize) {
        assert!(len <= MAX_FRAME);
    }

    fn text(&mut self, len: usize) -> &mut [u8] {
        &mut self.place[..len]
    }

    fn print(&mut self, len: usize) {
        assert!(len <= MOST_TEXT);
    }

    fn typed(&mut self, into: &mut [u8]) -> usize {
        let count = self.typed.min(into.len());
        into[..count].fill(b'k');
        count
    }

    fn take_typed(&mut self, count: usize) {
        self.typed -= count;
    }
}

/// The first half of `data` is put into RAM, over and over; the rest are accesses.
pub fn run(data: &[u8]) {
    let equipment = Equipment { virtio: &FITTINGS, ..Equipment::default() };
    let Some(record) = Slots::fitted(&equipment) else { return };
    let mut slots = Slots::restored(record, 0);
    let mut guest = Guest(FakeRam::new(RAM));
    let (content, accesses) = data.split_at(data.len() / 2);
    for at in (0..RAM).step_by(content.len().max(1)) {
        let count = content.len().min(RAM - at);
        guest.0.write(at, &content[..count]).expect("it is in RAM");
    }
    for access in accesses.chunks_exact(ACCESS) {
        let [kind, n, low, high, value @ ..] = access else { continue };
        let value = u64::from(u32::from_le_bytes(value.try_into().expect("there are four")));
        // Addresses are mostly in RAM.
        let value = if kind & 0x10 != 0 { BASE + value % RAM as u64 } else { value };
        let width = [Width::Byte, Width::Halfword, Width::Word, Width::Doubleword][usize::from(kind & 3)];
        let offset = u64::from(u16::from_le_bytes([*low, *high]) & 0x1ff) & !(width.bytes() - 1);
        let access = Access { n: n & 31, offset, width };
        match kind & 4 {
            0 => drop(slots.write(access, value, &mut guest)),
            _ => drop(slots.read(access, &mut guest)),
        }
        serve(&mut slots, &mut guest, kind & 8 != 0);
        let rules = slots.record().check(&stasis_state::guest::Guest::default());
        assert_eq!(rules, Ok(()));
    }
}

/// Makes the devices do what they have to do, and, if something `comes`, the card take a frame and
/// the terminal what was typed.
fn serve(slots: &mut Slots, guest: &mut Guest, comes: bool) {
    let mut outside = Outside { place: [0; MOST_TEXT], typed: if comes { 700 } else { 0 } };
    if comes {
        slots.note_typed();
    }
    let mut memory = guest.memory();
    // A driver can publish no more than it has entries, and each is completed or the queue left
    // alone.
    let mut left = 8 * 256;
    while slots.serve(&mut memory, &mut outside).is_some() {
        left -= 1;
        assert!(left > 0, "a device serves for ever");
    }
    if comes {
        slots.receive(1, &mut memory, &[7; 60]);
    }
    while let Some((_, request)) = slots.disk_request(&memory) {
        let Some(request) = request else { continue };
        let mut bytes = [0; 512];
        let mut data = request.data();
        let _ = slots.disk_from_guest(&memory, &request, &mut data, &mut bytes);
        let mut data = request.data();
        let _ = slots.disk_to_guest(&mut memory, &request, &mut data, &bytes);
        slots.disk_done(&mut memory, &request, Outcome::Done);
        if !request.ahead().is_empty()
            && let Some(mut buffer) = slots.begin_ahead(&request)
        {
            buffer.add(&bytes);
            slots.end_ahead(&request, buffer);
        }
        left -= 1;
        assert!(left > 0, "a disk serves for ever");
        while slots.serve_ahead(&mut memory).is_some() {
            left -= 1;
            assert!(left > 0, "a disk serves for ever with what was read ahead");
        }
    }
}
