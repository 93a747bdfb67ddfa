//! Values that no guest can bring about.

use crate::{
    common::{edit::scalar, load, shared, state},
    edited,
};
use stasis_state::{
    RecordType,
    device::SharedMemory,
    guest::{GuestPower, Lineage},
    invariants,
    machine::Machine,
};
use zerocopy::IntoBytes;

#[test]
fn the_invariants_hold_of_a_loaded_state() {
    use RecordType::{Clock, DevicePl011, Guest, VcpuCore, VcpuPower, VgicCpu, VgicDistributor};
    let line = |kind, id, width: u8, value: u64| {
        let value = &value.to_le_bytes()[..usize::from(width)];
        let file = edited(|file| {
            let body = &mut file.record(kind, 0).body;
            let header = scalar(id, width);
            let at = (0..body.len())
                .step_by(8)
                .find(|&at| body[at..].starts_with(&header.as_bytes()[..3]))
                .expect("the register is there");
            body[at + 8..at + 8 + value.len()].copy_from_slice(value);
        });
        load(&file).unwrap_err().to_string()
    };
    let cannot = "which it cannot be:";
    assert_eq!(
        line(VcpuCore, 3, 8, 0x3c9),
        format!("VCPU_CORE, vCPU 0: pstate is 0x3c9, {cannot} the guest runs at EL1 or EL0")
    );
    assert_eq!(
        line(VgicCpu, 8, 1, 2),
        format!("VGIC_CPU, vCPU 0: sgi_src[0] is 0x2, {cannot} vCPUs from nr_cpus on do not exist")
    );
    assert_eq!(line(Guest, 4, 1, 2), "there is no record VGIC_CPU, vCPU 1");
    for vcpus in [0, 9, 255] {
        let expected = format!("GUEST: nr_vcpus is {vcpus:#x}, {cannot} there are 1 to 8");
        assert_eq!(line(Guest, 4, 1, vcpus), expected);
    }
    for (kind, id, width, value) in [
        (Guest, 1, 1, 0xff),
        (Guest, 2, 8, 0x4000_0001),
        (Guest, 2, 8, u64::MAX - 0xfff),
        (Guest, 3, 8, 0),
        (Guest, 3, 8, 0x1001),
        (Guest, 3, 8, !0xfff),
        (Clock, 2, 8, 0),
        (Clock, 2, 8, 1 << 32),
        (VgicDistributor, 1, 2, 0),
        (VgicDistributor, 1, 2, 65),
        (VgicDistributor, 1, 2, 64),
        (VgicDistributor, 1, 2, 1024),
        (VgicDistributor, 2, 1, 2),
        (VgicDistributor, 2, 1, 0),
        (VgicDistributor, 3, 1, 3),
        (VgicDistributor, 3, 1, 4),
        (VgicDistributor, 3, 1, 255),
        (VgicDistributor, 0x10, 4, 4),
        (VgicDistributor, 0x15, 4, 4),
        (VgicDistributor, 0x15, 4, 0),
        (VgicDistributor, 0x16, 1, 0),
        (VgicDistributor, 0x18, 1, 1),
        (VgicDistributor, 0x19, 1, 2),
        (VgicCpu, 2, 4, 0xfffe),
        (VgicCpu, 4, 4, 1),
        (VgicCpu, 5, 4, 0x8000),
        (VgicCpu, 6, 4, 0xfff),
        (VgicCpu, 7, 1, 0x84),
        (VgicCpu, 9, 1, 1),
        (VgicCpu, 0x10, 4, 0x400),
        (VgicCpu, 0x11, 1, 0xf4),
        (VgicCpu, 0x12, 1, 1),
        (VgicCpu, 0x12, 1, 8),
        (VgicCpu, 0x13, 1, 2),
        (VgicCpu, 0x14, 4, 2),
        (VcpuPower, 1, 1, 4),
        (VcpuPower, 4, 1, 2),
        (DevicePl011, 1, 2, 0x1000),
        (DevicePl011, 2, 1, 17),
    ] {
        let line = line(kind, id, width, value);
        assert!(line.starts_with(kind.name()), "{line}");
        assert!(line.contains(cannot), "{line}");
    }
}

#[test]
fn a_vcpu_returns_to_a_state_that_its_cpu_has() {
    let line = |pstate, pfr0| {
        let mut state = state(1, 4096);
        *state.vcpus[0].core.pstate = pstate;
        *state.vcpus[0].identity.id_aa64pfr0_el1 = pfr0;
        let checked = invariants::check(&state.records());
        checked.err().map(|error| error.to_string().split_once(": ").unwrap().1.to_owned())
    };
    let refused =
        |pstate: u64, why| Some(format!("pstate is {pstate:#x}, which it cannot be: {why}"));
    const WITH_AARCH32: u64 = 0x12;
    for pfr0 in [0x11, WITH_AARCH32] {
        for pstate in [0, 4, 5, 0x3c5, 0xf3f0_3fc5] {
            assert_eq!(line(pstate, pfr0), None, "{pstate:#x}");
        }
        for pstate in (0..32).filter(|mode| ![0, 4, 5, 0x10].contains(mode)) {
            assert_eq!(line(pstate, pfr0), refused(pstate, "the guest runs at EL1 or EL0"));
        }
        for bit in [5, 14, 15, 16, 17, 18, 19, 26, 27, 32, 33, 34, 35, 48, 63] {
            let pstate = 0x3c5 | 1 << bit;
            assert_eq!(line(pstate, pfr0), refused(pstate, "reserved bits are 0"));
        }
    }
    for pfr0 in [0, 0x11, 0xf] {
        assert_eq!(line(0x10, pfr0), refused(0x10, "ID_AA64PFR0_EL1 has no AArch32 at EL0"));
    }
    assert_eq!(line(0xffff_fff0, WITH_AARCH32), None);
    assert_eq!(line(1 << 32 | 0x10, WITH_AARCH32), refused(1 << 32 | 0x10, "reserved bits are 0"));
}

#[test]
fn a_guest_is_on_off_or_in_a_reset() {
    let mut state = state(1, 4096);
    let mut power = GuestPower::default();
    *power.state = 3;
    state.power = Some(power);
    let line = invariants::check(&state.records()).unwrap_err().to_string();
    assert_eq!(line, "GUEST_POWER: state is 0x3, which it cannot be: there are states 0 to 2");
}

#[test]
fn a_checkpoint_is_called_by_its_own_identity() {
    let refused = |identity, parent| {
        let mut state = state(1, 4096);
        state.lineage = Some(Lineage::new(identity, parent, 0));
        invariants::check(&state.records()).unwrap_err().to_string()
    };
    let line = "CHECKPOINT: identity is 0x0, which it cannot be: it is not 0";
    assert_eq!(refused(0, 7), line);
    let line = "CHECKPOINT: parent is 0x7, which it cannot be: no checkpoint is its own parent";
    assert_eq!(refused(7, 7), line);
}

#[test]
fn machines_that_there_can_t_be_are_refused() {
    type Edit = fn(&mut Machine);
    let edits: [(Edit, &str); 12] = [
        (|m| *m = Machine::default(), "kind is 0x0"),
        (|m| m.kind[63] = 1, "kind[63] is 0x1"),
        (|m| m.base[9] = 1, "base[9] is 0x1"),
        (|m| m.size[9] = 1, "size[9] is 0x1"),
        (|m| m.intid[9] = 1, "intid[9] is 0x1"),
        (|m| m.count[9] = 1, "count[9] is 0x1"),
        (|m| m.count[8] = 0, "count[8] is 0x0"),
        (|m| m.base[4] = !0xfff, "size[4] is 0x1000"),
        (|m| m.size[7] = 1 << 59, "size[7] is 0x800000000000000"),
        (|m| m.intid[7] = 1020 - 31, "intid[7] is 0x3dd"),
        (|m| m.kind[3] = m.kind[2], "kind[3] is 0x3"),
        (|m| m.kind[4] = 3, "kind[4] is 0x3"),
    ];
    for (edit, expected) in edits {
        let mut state = state(1, 4096);
        let mut machine = state.machine();
        edit(&mut machine);
        state.machine = Some(Box::new(machine));
        let line = invariants::check(&state.records()).unwrap_err().to_string();
        assert!(line.starts_with("MACHINE: "), "{line}");
        assert!(line.contains(expected), "{line}, not {expected}");
    }
}

#[test]
fn regions_that_no_guest_can_share_are_refused() {
    type Edit = fn(&mut SharedMemory);
    let refused = |edit: Edit| {
        let mut state = state(1, 4096);
        let mut regions = shared();
        edit(&mut regions);
        state.devices.shared = Some(regions);
        invariants::check(&state.records()).unwrap_err().to_string()
    };
    let edits: [(Edit, &str); 14] = [
        (|s| *s = SharedMemory::default(), "size[0] is 0x0"),
        (|s| s.size[3] = 4096, "size[2] is 0x0"),
        (|s| s.size[0] = 4097, "size[0] is 0x1001"),
        (|s| s.name[..4].fill(0), "name[0] is 0x0"),
        (|s| s.name[31] = b'x', "name[0] is 0x72"),
        (|s| s.name[0] = 0xff, "name[0] is 0xff"),
        (|s| s.name[64] = b'x', "name[64] is 0x78"),
        (|s| s.base[0] += 8, "base[0] is 0x10000008"),
        (|s| s.base[1] = s.base[0] + s.size[0], "base[0] is 0x10000000"),
        (|s| s.base[1] = 0x3fff_f000, "base[1] is 0x3ffff000"),
        (|s| s.base[1] = !0xfff, "base[1] is 0xfffffffffffff000"),
        (|s| s.peers[0] = 9, "peers[0] is 0x9"),
        (|s| s.index[1] = 3, "index[1] is 0x3"),
        (|s| s.status[1] = 8, "status[1] is 0x8"),
    ];
    for (edit, expected) in edits {
        let line = refused(edit);
        assert!(line.starts_with("DEVICE_SHARED_MEMORY: "), "{line}");
        assert!(line.contains(expected), "{line}, not {expected}");
    }
}
