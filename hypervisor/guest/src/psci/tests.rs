use proptest::prelude::*;

use super::*;

const NOT_SUPPORTED: u64 = -1_i64 as u64;
const INVALID_PARAMETERS: u64 = -2_i64 as u64;
const ALREADY_ON: u64 = -4_i64 as u64;
const ON_PENDING: u64 = -5_i64 as u64;

/// Returns the power states of vCPUs of which number 0 is on and the others are off.
fn powers(count: usize) -> Vec<Power> {
    let mut powers = vec![Power::default(); count];
    for power in &mut powers[1..] {
        *power.state = PowerState::Off as u8;
    }
    powers
}

fn ask(powers: &mut [Power], id: u32, arguments: [u64; 3]) -> (u64, Action) {
    let mut core = Core::default();
    core.x[0] = id.into();
    core.x[1..4].copy_from_slice(&arguments);
    let before = core.clone();
    let action = call(&mut core, 0, 0, powers);
    assert_eq!(core.x[1..], before.x[1..], "SMCCC preserves what is no result");
    assert_eq!(core.pc, before.pc);
    (core.x[0], action)
}

fn answer(id: u32, arguments: [u64; 3]) -> u64 {
    let (answer, action) = ask(&mut powers(2), id, arguments);
    assert_eq!(action, Action::Resume);
    answer
}

#[test]
fn versions_are_psci_1_1_and_smccc_1_1() {
    assert_eq!(answer(0x8400_0000, [0; 3]), 0x1_0001);
    assert_eq!(answer(0x8000_0000, [0; 3]), 0x1_0001);
}

#[test]
fn what_neither_acts_nor_asks_about_a_cpu_is_answered_as_by_a_call() {
    let unknown = [0, 0x4b00_0000, 0x8000_0002, 0x8400_0020, 0xc400_0020, 0x8600_ff01, u32::MAX];
    let near = (0x8400_0000..0x8400_0020).chain(0xc400_0000..0xc400_0020);
    // CPU_SUSPEND, CPU_OFF, CPU_ON, AFFINITY_INFO, SYSTEM_OFF, SYSTEM_RESET and SYSTEM_RESET2.
    let with_cpus = [1, 2, 3, 4, 8, 9, 0x12];
    for id in near.chain(0x8000_0000..0x8000_0002).chain(unknown) {
        for argument in [0, 0x8400_0001, 0x8000_0001, 0xff_8400_000a] {
            let mut core = Core::default();
            (core.x[0], core.x[1]) = (id.into(), argument);
            let alone = super::ask(&mut core, 0).then_some(core.x[0]);
            let is_of_psci = id & 0xbfff_ffe0 == 0x8400_0000;
            let is_expected = !is_of_psci || !with_cpus.contains(&(id & 0x1f));
            let expected = is_expected.then(|| answer(id, [argument, 0, 0]));
            assert_eq!(alone, expected, "{id:#x} {argument:#x}");
        }
    }
}

#[test]
fn a_call_with_another_immediate_is_answered_at_once_and_does_nothing() {
    for id in [0x8400_0000_u64, 0x8400_0002, 0x8400_0008, 0x4b00_0000] {
        let mut core = Core::default();
        core.x[0] = id;
        assert!(super::ask(&mut core, 1));
        assert_eq!(core.x[0], NOT_SUPPORTED, "{id:#x}");
    }
}

#[test]
fn an_unknown_function_is_not_supported() {
    for id in [0, 0x8400_00ff, 0x8400_0005, 0xc400_0002, 0x8600_ff01, 0x8000_8000, u32::MAX] {
        assert_eq!(answer(id, [0; 3]), NOT_SUPPORTED, "{id:#x}");
    }
}

#[test]
fn another_immediate_is_not_supported() {
    let mut core = Core::default();
    core.x[0] = 0x8400_0008;
    assert_eq!(call(&mut core, 1, 0, powers(1).as_mut_slice()), Action::Resume);
    assert_eq!(core.x[0], NOT_SUPPORTED);
}

#[test]
fn the_upper_half_of_the_function_id_does_not_count() {
    let mut core = Core::default();
    core.x[0] = 0xffff_ffff_8400_0000;
    call(&mut core, 0, 0, powers(1).as_mut_slice());
    assert_eq!(core.x[0], 0x1_0001);
}

#[test]
fn features_tells_exactly_what_is_answered() {
    for id in (0x8400_0000..0x8400_0020).chain(0xc400_0000..0xc400_0020) {
        let known = answer(0x8400_000a, [id.into(), 0, 0]) == 0;
        let (called, _) = ask(&mut powers(2), id, [9; 3]);
        assert_eq!(known, called != NOT_SUPPORTED || id == 0x8400_000a, "{id:#x}");
    }
    assert_eq!(answer(0x8400_000a, [0x8000_0000, 0, 0]), 0);
}

#[test]
fn workarounds_are_neither_promised_nor_called_needless() {
    for id in [0x8000_8000, 0x8000_7fff, 0x8000_3fff, 0x8000_0002] {
        assert_eq!(answer(0x8000_0001, [id, 0, 0]), NOT_SUPPORTED);
    }
    assert_eq!(answer(0x8000_0001, [0x8000_0000, 0, 0]), 0);
    assert_eq!(answer(0x8000_0001, [0x8000_0001, 0, 0]), 0);
}

#[test]
fn cpu_on_starts_a_cpu_with_or_without_bit_31_of_its_mpidr() {
    for target in [1, 0x8000_0001] {
        for id in [0x8400_0003, 0xc400_0003] {
            let mut powers = powers(2);
            let (answer, action) = ask(&mut powers, id, [target, 0x4008_0000, 0x77]);
            assert_eq!((answer, action), (0, Action::StartCpu { index: 1 }));
            assert_eq!(*powers[1].state, PowerState::OnPending as u8);
            assert_eq!((*powers[1].entry, *powers[1].context_id), (0x4008_0000, 0x77));
        }
    }
}

#[test]
fn cpu_on_is_refused_while_the_cpu_is_on_or_on_its_way() {
    let mut powers = powers(2);
    assert_eq!(ask(&mut powers, 0xc400_0003, [0, 0, 0]).0, ALREADY_ON);
    assert_eq!(ask(&mut powers, 0xc400_0003, [1, 0, 0]).0, 0);
    assert_eq!(ask(&mut powers, 0xc400_0003, [1, 0, 0]), (ON_PENDING, Action::Resume));
}

#[test]
fn cpu_on_of_no_cpu_or_to_no_instruction_is_refused() {
    for target in [2, 0x100, 1 << 32 | 1, u64::MAX, 1 << 30 | 1] {
        assert_eq!(answer(0xc400_0003, [target, 0, 0]), INVALID_PARAMETERS, "{target:#x}");
    }
    assert_eq!(answer(0xc400_0003, [1, 0x4000_0002, 0]), INVALID_PARAMETERS);
}

#[test]
fn arguments_of_a_32_bit_call_are_cut_to_32_bits() {
    let mut powers = powers(2);
    let high = 0xabcd << 32;
    let (answer, _) = ask(&mut powers, 0x8400_0003, [high | 1, high | 0x4000_0000, high | 5]);
    assert_eq!(answer, 0);
    assert_eq!((*powers[1].entry, *powers[1].context_id), (0x4000_0000, 5));
}

#[test]
fn a_cpu_that_went_off_can_be_started_again() {
    let mut powers = powers(1);
    assert_eq!(ask(&mut powers, 0x8400_0002, [0; 3]).1, Action::Off);
    assert_eq!(*powers[0].state, PowerState::Off as u8);
    assert_eq!(ask(&mut powers, 0xc400_0003, [0; 3]).1, Action::StartCpu { index: 0 });
}

#[test]
fn affinity_info_tells_each_state() {
    let mut powers = powers(4);
    *powers[2].state = PowerState::OnPending as u8;
    *powers[3].state = PowerState::Suspended as u8;
    for (target, state) in [(0, 0), (1, 1), (2, 2), (3, 0), (0x8000_0001, 1)] {
        assert_eq!(ask(&mut powers, 0xc400_0004, [target, 0, 0]).0, state);
    }
    assert_eq!(ask(&mut powers, 0xc400_0004, [9, 0, 0]).0, INVALID_PARAMETERS);
    assert_eq!(ask(&mut powers, 0xc400_0004, [0, 1, 0]).0, 0);
    assert_eq!(ask(&mut powers, 0xc400_0004, [0, 4, 0]).0, INVALID_PARAMETERS);
}

#[test]
fn cpu_suspend_waits_and_succeeds() {
    let mut powers = powers(1);
    for state in [0, 0x1_0000, 0x1_0002] {
        let (answer, action) = ask(&mut powers, 0xc400_0001, [state, 0x4000_0000, 0]);
        assert_eq!((answer, action), (0, Action::Suspend));
    }
    assert_eq!(answer(0xc400_0001, [0x0100_0000, 0, 0]), INVALID_PARAMETERS);
    assert_eq!(*powers[0].state, PowerState::On as u8);
}

#[test]
fn the_machine_is_turned_off_and_reset() {
    let mut powers = powers(1);
    assert_eq!(ask(&mut powers, 0x8400_0008, [0; 3]).1, Action::SystemOff);
    assert_eq!(ask(&mut powers, 0x8400_0009, [0; 3]).1, Action::SystemReset);
    assert_eq!(ask(&mut powers, 0xc400_0012, [0; 3]).1, Action::SystemReset);
    assert_eq!(answer(0xc400_0012, [0x8000_0000, 0, 0]), INVALID_PARAMETERS);
}

#[test]
fn there_is_no_trusted_os_to_migrate() {
    assert_eq!(answer(0x8400_0006, [0; 3]), 2);
}

#[test]
fn a_started_cpu_is_entered_as_after_reset() {
    let mut powers = powers(2);
    ask(&mut powers, 0xc400_0003, [1, 0x4008_0000, 0x77]);
    let mut core = Core::default();
    let mut system = SystemRegisters::default();
    *core.x = [1; 31];
    *system.sctlr_el1 = u64::MAX;
    assert!(enter(&mut powers[1], &mut core, &mut system));
    assert_eq!((*core.pc, *core.pstate, core.x[0]), (0x4008_0000, 0x3c5, 0x77));
    assert_eq!(core.x[1..], [0; 30]);
    assert_eq!(*system.sctlr_el1, 0x30d0_0800);
    assert_eq!(*powers[1].state, PowerState::On as u8);
    assert!(!enter(&mut powers[1], &mut core, &mut system));
}

proptest! {
    #[test]
    fn no_call_panics_or_leaves_an_unknown_state(
        calls in prop::collection::vec(
            (prop_oneof![0x8400_0000_u32..0x8400_0020, 0xc400_0000_u32..0xc400_0020, any::<u32>()],
             prop_oneof![0_u64..8, any::<u64>()], any::<u64>(), any::<u64>(), any::<u16>()),
            0..50,
        ),
        count in 1_usize..9,
    ) {
        let mut powers = powers(count);
        for (id, first, second, third, imm) in calls {
            let mut core = Core::default();
            core.x[..4].copy_from_slice(&[id.into(), first, second, third]);
            let action = call(&mut core, imm & 1, count - 1, powers.as_mut_slice());
            if let Action::StartCpu { index } = action {
                prop_assert!(index < count);
            }
            prop_assert!(powers.iter().all(|power| *power.state <= 3));
        }
    }
}
