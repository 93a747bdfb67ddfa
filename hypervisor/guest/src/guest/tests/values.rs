//! Every register of a file with values that nobody meant: refused, or a guest that runs and can be
//! stored again.

use stasis_state::register::VALUE_OFFSET;
use stasis_state::vcpu::PSTATE_IS_AARCH32;
use stasis_state::{HostFacts, Record, VcpuState, invariants};

use super::*;
use crate::sysreg::identity;
use stasis_devices::machine::{RAM_BASE, RAM_END, RAM_UNIT};

/// Values of an element, as far as its width goes: the ends, alternating bits, single bits, and
/// some at random.
const PATTERNS: [u64; 10] = [
    u64::MAX,
    0xaaaa_aaaa_aaaa_aaaa,
    0x5555_5555_5555_5555,
    0,
    1,
    1 << 63 | 1 << 31 | 1 << 15 | 1 << 7,
    0x0010_1000,
    0x9e37_79b9_7f4a_7c15,
    0xd1b5_4a32_d192_ed03,
    0x2545_f491_4f6c_dd1d,
];

/// Returns a machine's Cortex-A72.
fn host_identity() -> Identity {
    let mut raw = Identity::default();
    *raw.midr_el1 = 0x410f_d083;
    *raw.ctr_el0 = 0x8444_c004;
    *raw.dczid_el0 = 4;
    *raw.id_aa64pfr0_el1 = 0x2222;
    *raw.id_aa64dfr0_el1 = 0x1030_5106;
    *raw.id_aa64isar0_el1 = 0x1_1120;
    *raw.id_aa64mmfr0_el1 = 0x1124;
    raw
}

/// Returns a guest of two vCPUs with a watchdog.
fn stored() -> GuestState {
    let identities: Vec<Identity> =
        (0..2).map(|index| identity::present(&host_identity(), index)).collect();
    let ram = Range::new(RAM_BASE, 2 * RAM_UNIT);
    let (mut guest, mut vcpus) = Guest::new("g", ram, &identities, START, PACE, WALL_TIME).unwrap();
    guest.equip(&with_watchdog(1_000_000));
    owned(&guest.records(vcpus.iter_mut(), 0, WALL_TIME))
}

/// Returns whether a machine takes the guest, as a resume decides it.
fn is_taken(state: &GuestState) -> bool {
    let facts = HostFacts {
        vcpus: 8,
        memory: 1 << 30,
        prio_bits: 5,
        ram: RAM_BASE..RAM_END,
        ram_unit: RAM_UNIT,
        dist_base: GICD_BASE,
        cpu_base: GICC_BASE,
    };
    let host = host_identity();
    let keeps =
        |(index, vcpu): (usize, &VcpuState)| identity::check(&vcpu.identity, &host, index).is_ok();
    invariants::check(&state.records()).is_ok()
        && facts.check(state).is_ok()
        && state.vcpus.iter().enumerate().all(keeps)
        && Pace::resumed(*state.clock.cntfrq, FREQUENCY, false).is_ok()
}

/// Runs the guest on a core for a moment, makes it look at its devices, and stores it again.
fn runs_and_is_stored(state: GuestState) {
    let pace = Pace::resumed(*state.clock.cntfrq, FREQUENCY, false).unwrap();
    let (mut guest, mut vcpus) = Guest::restored(state, pace).unwrap();
    let mut core = Core::default();
    for (index, vcpu) in vcpus.iter_mut().enumerate() {
        if guest.power_on(index, vcpu).is_none() {
            continue;
        }
        let _ = guest.clock.offset_or_start(core.counter);
        guest.vgic.load(index, &mut core);
        for _ in 0..3 {
            let _ = guest.tick(index, vcpu, core.counter, &mut core);
            let _ = guest.vgic.enter(index, &mut core);
            core.counter += 1_000_000;
        }
        let _ = guest.receive(b'x');
        let held = VcpuMask(u8::MAX);
        let devices = [0x0900_0000, 0x0901_0000, 0x0903_0400, 0x0910_0000, 0x0910_1000];
        let loads = devices.iter().flat_map(|base| (0..0x24).step_by(4).map(move |at| base + at));
        for ipa in loads.chain((0..0x1000).step_by(0x104).map(|at| GICD_BASE + at)) {
            let load = abort(ipa, Width::Word, false);
            let _ = answer(&mut guest, index, vcpu, &load, held, &mut core);
        }
        let _ = guest.vgic.save(index, &mut core);
    }
    guest.clock.stop(core.counter);
    let records = guest.records(vcpus.iter_mut(), core.counter, WALL_TIME);
    invariants::check(&records).expect("what runs can be stored");
}

/// Returns whether a guest has what the hardware and EL2 rely on, whatever the file has said.
fn is_harmless(state: &GuestState) -> bool {
    let sound = |vcpu: &VcpuState| {
        let pstate = *vcpu.core.pstate;
        let mode = pstate & 0xf;
        match pstate & PSTATE_IS_AARCH32 {
            0 => [0, 4, 5].contains(&mode),
            _ => mode == 0 && *vcpu.identity.id_aa64pfr0_el1 & 0xf == 2,
        }
    };
    let ram_end = state.guest.ram_base.checked_add(*state.guest.ram_size);
    state.guest.ram_size.is_multiple_of(RAM_UNIT)
        && state.guest.ram_base.is_multiple_of(RAM_UNIT)
        && *state.guest.ram_base >= RAM_BASE
        && ram_end.is_some_and(|end| end <= RAM_END)
        && usize::from(*state.guest.nr_vcpus) == state.vcpus.len()
        && *state.distributor.nr_cpus == *state.guest.nr_vcpus
        && state.vcpus.iter().all(sound)
}

/// Tries all patterns in the first, a middle and the last element of each register. Returns how
/// many a machine takes.
fn sweep<R: Record>(record: fn(&mut GuestState) -> &mut R) -> usize {
    let good = stored();
    let mut taken = 0;
    for register in R::REGISTERS {
        let (width, count) = (usize::from(register.shape.width), usize::from(register.shape.count));
        let mut places = vec![0, count / 2, count - 1];
        places.dedup();
        for (place, pattern) in places.iter().flat_map(|place| PATTERNS.map(|value| (place, value)))
        {
            let mut state = good.clone();
            let bytes = pattern.to_le_bytes().repeat(2);
            let start = register.offset + VALUE_OFFSET + place * width;
            record(&mut state).as_mut_bytes()[start..][..width].copy_from_slice(&bytes[..width]);
            if is_taken(&state) {
                let name = register.name;
                assert!(is_harmless(&state), "{name}[{place}] is {pattern:#x}, and was taken");
                runs_and_is_stored(state);
                taken += 1;
            }
        }
    }
    taken
}

#[test]
fn a_guest_with_any_value_in_a_register_is_refused_or_runs() {
    assert!(is_taken(&stored()));
    assert!(sweep(|state| &mut state.guest) > 0);
    assert!(sweep(|state| &mut state.clock) > 0);
    assert!(sweep(|state| &mut *state.distributor) > 0);
    assert!(sweep(|state| &mut state.devices.pl011) > 0);
    assert!(sweep(|state| &mut state.devices.pl031) > 0);
    assert!(sweep(|state| &mut state.devices.pl061) > 0);
    assert!(sweep(|state| &mut state.devices.virtio) > 0);
    assert!(sweep(|state| state.devices.watchdog.as_mut().unwrap()) > 0);
    assert!(sweep(|state| &mut state.vcpus[1].cpu_interface) > 0);
    assert!(sweep(|state| &mut state.vcpus[0].core) > 0);
    assert!(sweep(|state| &mut state.vcpus[0].system) > 0);
    assert!(sweep(|state| &mut state.vcpus[0].fp) > 0);
    assert!(sweep(|state| &mut state.vcpus[0].debug) > 0);
    assert!(sweep(|state| &mut state.vcpus[1].power) > 0);
    assert!(sweep(|state| &mut state.vcpus[0].identity) > 0);
}
