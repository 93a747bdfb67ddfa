//! gdb's packets to a guest of two vCPUs whose page tables are in its RAM, which the packets may
//! write.

use stasis_debug::machine::Refused;
use stasis_debug::plan::{Plan, Stop};
use stasis_debug::points::{Kind, Limits};
use stasis_debug::session::{BUFFER_BYTES, Session};
use stasis_debug::{Machine, Records};
use stasis_state::GuestState;

/// The first address of the guest's RAM.
const RAM: u64 = 0x4000_0000;
/// Bytes of the guest's RAM.
const LEN: usize = 0x8000;

/// The guest.
struct Guest {
    state: GuestState,
    ram: Vec<u8>,
}

/// Feeds a session. Each line of `data` is a packet whose frame is added, but for lines that begin
/// with `!`, which are sent as they are, and with `@`, which let the guest stop.
pub fn run(data: &[u8]) {
    let mut guest = Guest { state: GuestState::reset(2), ram: vec![0; LEN] };
    for vcpu in &mut guest.state.vcpus {
        *vcpu.system.sctlr_el1 |= 1;
        *vcpu.system.tcr_el1 = 25 | 25 << 16 | 2 << 30;
        *vcpu.system.ttbr0_el1 = RAM;
        *vcpu.system.ttbr1_el1 = RAM;
    }
    // A GiB in one block, so that the tables can be written.
    guest.ram[8..16].copy_from_slice(&0x4000_0401u64.to_le_bytes());
    let mut buffer = [0; BUFFER_BYTES];
    let mut session = Session::new(guest, &mut buffer);
    for line in data.split(|byte| *byte == b'\n') {
        match line {
            [b'!', raw @ ..] => send(&mut session, raw),
            [b'@', how, ..] => session.stopped(stop(*how)),
            packet => {
                let sum = packet.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
                let frame = [b"$", packet, format!("#{sum:02x}").as_bytes()].concat();
                send(&mut session, &frame);
            }
        }
    }
    let guest = session.into_machine();
    for vcpu in &guest.state.vcpus {
        let mode = *vcpu.core.pstate & 0b1_1111;
        assert!(matches!(mode, 0b0000 | 0b0100 | 0b0101), "no guest's mode: {mode:#b}");
    }
}

fn send(session: &mut Session<'_, Guest>, bytes: &[u8]) {
    for byte in bytes {
        session.receive(*byte);
        let count = session.answers().len();
        session.sent(count);
    }
}

fn stop(how: u8) -> Stop {
    let vcpu = usize::from(how & 1);
    match how >> 1 & 7 {
        0 => Stop::Interrupted,
        1 => Stop::Stepped { vcpu },
        2 => Stop::Breakpoint { vcpu },
        3 => Stop::Watchpoint { vcpu, address: RAM, kind: Kind::Both },
        4 => Stop::Ended,
        _ => Stop::Died,
    }
}

impl Guest {
    fn at(&mut self, address: u64, len: usize) -> Result<&mut [u8], Refused> {
        let start = address.checked_sub(RAM).ok_or(Refused::NotRam)? as usize;
        let end = start.checked_add(len).ok_or(Refused::NotRam)?;
        self.ram.get_mut(start..end).ok_or(Refused::NotRam)
    }
}

impl Machine for Guest {
    fn vcpus(&self) -> usize {
        self.state.vcpus.len()
    }

    fn with<R>(&mut self, vcpu: usize, with: impl FnOnce(Records<'_>) -> R) -> Option<R> {
        let vcpu = self.state.vcpus.get_mut(vcpu)?;
        Some(with(Records { core: &mut vcpu.core, fp: &mut vcpu.fp, system: &mut vcpu.system }))
    }

    fn is_on(&self, vcpu: usize) -> bool {
        vcpu == 0
    }

    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), Refused> {
        assert!(address % 4096 + into.len() as u64 <= 4096, "one page");
        into.copy_from_slice(self.at(address, into.len())?);
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Refused> {
        assert!(address % 4096 + bytes.len() as u64 <= 4096, "one page");
        self.at(address, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    fn limits(&self) -> Option<Limits> {
        Some(Limits { breakpoints: 6, watchpoints: 4 })
    }

    fn resume(&mut self, plan: &Plan) {
        for vcpu in 0..2 {
            assert!(plan.registers(vcpu).dbgbcr[6..].iter().all(|control| *control == 0));
        }
    }

    fn interrupt(&mut self) {}
}
