//! Bytes as a migration stream of QEMU's: its devices, and its memory.

use stasis_convert::qemu::ram::{Ram, ReadError};
use stasis_convert::qemu::read::{Origin, read};
use stasis_convert::qemu::whole::write;
use stasis_convert::qemu::{Cpu, Part, Sections};
use stasis_state::{GuestState, PAGE_SIZE, invariants};

/// What QEMU 10.0 has written of a machine that never ran, without its memory: by itself, and with
/// a KVM.
const BASE: &[u8] =
    include_bytes!("../../../hypervisor/convert/src/tests/virt-10.0-a57.base");
const KVM_BASE: &[u8] =
    include_bytes!("../../../hypervisor/convert/src/tests/virt-10.0-kvm-6.12.base");
/// Bytes of a stream's magic, which are always right.
const MAGIC: usize = 8;

/// Reads the bytes as memory; and changes the base as they say, and reads and writes a machine in
/// it.
pub fn run(data: &[u8]) {
    memory(&[&BASE[..MAGIC], data].concat());
    for base in [BASE, KVM_BASE] {
        let mut stream = base.to_vec();
        for change in data.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % stream.len();
            stream[at] = change[2];
        }
        devices(&mut stream, base);
        devices(&mut [&base[..MAGIC], data].concat(), base);
    }
}

fn memory(stream: &[u8]) {
    let ram = match Ram::find(&mut &stream[..], MAGIC as u64) {
        Ok(ram) => ram,
        Err(ReadError::Stream(error)) => return assert_eq!(error.to_string().lines().count(), 1),
        Err(ReadError::Source(never)) => match never {},
    };
    assert!(ram.end <= stream.len() as u64);
    for block in &ram.blocks {
        assert!(block.pages().all(|(address, at)| {
            address < block.len && at + PAGE_SIZE as u64 <= stream.len() as u64
        }));
    }
}

fn devices(stream: &mut Vec<u8>, base: &[u8]) {
    let Ok(sections) = Sections::find(stream) else { return };
    let mut base = base.to_vec();
    let fresh = Sections::find(&base).expect("a base is good");
    let cpu = Cpu::named("cortex-a57").expect("it is known");
    for origin in [Origin::Tcg(&cpu), Origin::Kvm { cntfrq: 62_500_000 }] {
        let mut part = Part { bytes: stream, sections: &sections };
        let mut fresh = Part { bytes: &mut base, sections: &fresh };
        match read(&mut part, &mut fresh, origin, &|_| Some(0)) {
            Ok(read) => {
                let mut state = read.state;
                state.guest.set_name("guest");
                *state.guest.ram_size = 64 << 20;
                // What is read is a guest, or is refused when its checkpoint is written.
                let _ = invariants::check(&state.records());
            }
            Err(error) => assert_eq!(error.to_string().lines().count(), 1),
        }
        let _ = write(&GuestState::reset(1), &[], stream, &sections, origin.backend());
    }
}
