//! What a guest loads and stores, and which answers need no lock.

use super::*;
use crate::exit::{Syndrome, SystemAccess, behind_aarch64};
use crate::register::{is_big_endian, is_plain, set_general};
use crate::sysreg::read_often;

/// Returns the access to a word at `offset` in the distributor, from or to X1.
fn word(write: bool, offset: u64) -> PlainAccess {
    let ipa = GICD_BASE.wrapping_add(offset);
    PlainAccess { write, width: Width::Word, ipa, register: 1 }
}

#[test]
fn an_access_to_nothing_is_an_abort_in_the_guest() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    let pc = *vcpus[0].core.pc;
    *core.el1.vbar_el1 = 0x4000_0800;
    let next =
        exit(&mut guest, 0, &mut vcpus[0], abort(0x0b00_0000, Width::Word, false), &mut core);
    assert_eq!(next, Next::Enter);
    assert_eq!((*core.el1.elr_el1, *core.el1.far_el1), (pc, 0x0b00_0000));
    assert_eq!(*core.el1.esr_el1, 0x9600_0010, "a synchronous external abort, from EL1");
    assert_eq!(*vcpus[0].core.pc, 0x4000_0800 + 0x200);
}

#[test]
fn an_access_to_ram_that_is_not_found_says_where_and_is_made_again() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    let before = vcpus[0].core.clone();
    let last = guest.ram_base() + guest.ram_size() - 4;
    let fault = Fault::nothing_at(last, 0x1234_5000, true);
    let on_walk = Fault { on_walk: true, cause: Cause::Load, ..fault };
    for exit_by in [
        abort(last, Width::Word, true),
        Exit::DataAbortUnemulatable(fault),
        Exit::DataAbortUnemulatable(on_walk),
        Exit::InstructionAbort(Fault { cause: Cause::Fetch, ..fault }),
        Exit::CacheMaintenance(Fault { cause: Cause::Maintenance, ..fault }),
    ] {
        let next = exit(&mut guest, 0, &mut vcpus[0], exit_by, &mut core);
        assert_eq!(next, Next::NoRam { address: last });
        assert_eq!(vcpus[0].core, before, "{exit_by:?}");
    }
}

#[test]
fn an_access_to_shared_memory_that_is_not_found_is_made_again_and_one_beside_it_aborts() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    let ring =
        SharedRegion { name: "ring".into(), size: 0x1000, guests: vec!["a".into(), "g".into()] };
    let shared = &shared::connections(std::slice::from_ref(&ring), "g")[..];
    guest.equip(&Equipment { shared, ..Equipment::default() });
    let last = shared::address(0) + 0xffc;
    let mut answer =
        |ipa| exit(&mut guest, 0, &mut vcpus[0], abort(ipa, Width::Word, true), &mut core);
    assert_eq!(answer(last), Next::NoRam { address: last });
    assert_eq!(answer(last + 4), Next::Enter);
}

#[test]
fn a_handler_that_cannot_be_fetched_is_a_crash_and_not_an_endless_loop() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    *core.el1.vbar_el1 = 0x0b00_0000;
    let fault = Fault::nothing_at(0x0b00_0000, 0x0b00_0000, false);
    let fetch = Exit::InstructionAbort(Fault { cause: Cause::Fetch, ..fault });
    // The way into the handler, and then the handler's own first instruction.
    let next = exit(&mut guest, 0, &mut vcpus[0], fetch, &mut core);
    assert_eq!(next, Next::Enter);
    let pc = *vcpus[0].core.pc;
    let next = exit(&mut guest, 0, &mut vcpus[0], fetch, &mut core);
    assert_eq!(next, Next::Crashed(Crash::ExceptionLoop { pc }));
}

#[test]
fn behind_the_distributors_registers_is_nothing() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    exit(&mut guest, 0, &mut vcpus[0], abort(0x0800_1000, Width::Word, false), &mut core);
    assert_eq!(*core.el1.far_el1, 0x0800_1000);
}

#[test]
fn an_access_waits_for_the_vcpu_whose_list_registers_have_the_answer() {
    const ISPENDR1: u64 = 0x0800_0204;
    let (mut guest, mut vcpus, mut core) = guest(2);
    let mut other = Core::default();
    for (register, value) in [(0x0800_0000, 1), (0x0800_0104, 2), (0x0800_0820, 0x0200)] {
        vcpus[0].core.x[1] = value;
        exit(&mut guest, 0, &mut vcpus[0], abort(register, Width::Word, true), &mut core);
    }
    // The UART's interrupt goes into a list register of vCPU 1.
    guest.vgic.load(1, &mut other);
    let _ = guest.vgic.enter(1, &mut other);
    let _ = guest.vgic.set_spi_level(UART_INTID, true);
    let _ = guest.vgic.enter(1, &mut other);
    let (pc, read) = (*vcpus[0].core.pc, abort(ISPENDR1, Width::Word, false));
    let needed = answer(&mut guest, 0, &mut vcpus[0], &read, VcpuMask::NONE, &mut core);
    assert_eq!((needed, *vcpus[0].core.pc), (Err(VcpuMask::only(1)), pc), "nothing was done");
    let _ = guest.vgic.sync(1, &mut other);
    let next = answer(&mut guest, 0, &mut vcpus[0], &read, VcpuMask::only(1), &mut core);
    assert_eq!((next, vcpus[0].core.x[1], *vcpus[0].core.pc), (Ok(Next::Enter), 2, pc + 4));
}

#[test]
fn an_access_to_nothing_is_reported_once_for_its_page() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    let mut access = |address| {
        *vcpus[0].core.pc = 0x4008_0000;
        exit(&mut guest, 0, &mut vcpus[0], abort(address, Width::Word, true), &mut core);
        match core.outbox.take().errand {
            Some(Errand::Report(report)) => Some(report),
            _ => None,
        }
    };
    let report = access(0x0b00_0010).unwrap();
    let (cause, address, pc) = (Cause::Store, 0x0b00_0010, 0x4008_0000);
    assert_eq!(report, Report::NothingThere { cause, address, pc });
    assert_eq!(
        report.to_string(),
        "Store at 0xb000010, which nothing there can answer, from PC 0x40080000"
    );
    assert_eq!(access(0x0b00_0020), None);
    assert!(access(0x0b00_1000).is_some());
}

#[test]
fn a_load_that_is_answered_at_once_gives_what_any_exit_gives() {
    let (mut guest, mut vcpus, mut core) = guest(2);
    let vcpu = &mut vcpus[0];
    for offset in [0x000, 0x004, 0x008, 0x100, 0x104, 0x404, 0x820, 0xc04, 0xfe0] {
        let word = word(false, offset);
        let found = guest.load_at_once(0, word);
        let often = guest.load_often(0, word);
        assert!(often.is_none() || often == found, "{offset:#x}");
        exit(&mut guest, 0, vcpu, abort(word.ipa, Width::Word, false), &mut core);
        assert_eq!(Some(vcpu.core.x[1]), found, "{offset:#x}");
    }
}

#[test]
fn a_load_of_pending_states_needs_no_fold_of_the_vcpus_own_list_registers() {
    let (mut guest, mut vcpus, mut core) = guest(2);
    let load = |guest: &mut Guest, offset, core: &mut Core| {
        assert_eq!(guest.load_at_once(0, word(false, offset)), None, "{offset:#x}");
        let (value, kick) = guest.load_pending(0, word(false, offset), core)?;
        assert_eq!(kick, VcpuMask::NONE);
        Some(value)
    };
    for offset in [0x100, 0x300, 0x380, 0xf10] {
        assert_eq!(guest.load_pending(0, word(false, offset), &mut core), None, "{offset:#x}");
    }
    assert!(guest.store_at_once(0, word(true, 0), 1).is_some());
    let _ = guest.vgic.enter(0, &mut core);
    assert!(guest.store_at_once(0, word(true, 0xf00), 2 << 24 | 3).is_some());
    let _ = guest.vgic.enter(0, &mut core);
    for offset in [0x200, 0x204, 0x280] {
        let found = load(&mut guest, offset, &mut core);
        let word = word(false, offset);
        exit(&mut guest, 0, &mut vcpus[0], abort(word.ipa, Width::Word, false), &mut core);
        assert_eq!(found, Some(vcpus[0].core.x[1]), "{offset:#x}");
        assert_eq!(found, Some(if offset == 0x204 { 0 } else { 8 }), "{offset:#x}");
        let _ = guest.vgic.enter(0, &mut core);
    }
}

#[test]
fn a_register_that_needs_no_lock_reads_as_by_any_exit() {
    let (mut guest, mut vcpus, mut core) = guest(2);
    let vcpu = &mut vcpus[1];
    core.counter = 1234;
    let mut found = Vec::new();
    for encoding in 0..=u16::MAX {
        let fields = encoding as u64;
        // Op0, Op2, Op1, CRn, Rt, CRm, and the direction of MRS.
        let iss = fields >> 14 << 20 | (fields & 7) << 17 | (fields >> 11 & 7) << 14;
        let iss = iss | (fields >> 7 & 0xf) << 10 | 1 << 5 | (fields >> 3 & 0xf) << 1;
        let esr = 0x18 << 26 | ESR | iss | 1;
        let access = SystemAccess::decode(esr);
        assert_eq!((access.encoding, access.rt, access.is_read), (encoding, 1, true));
        if let Some(value) = read_often(encoding, &vcpu.identity, || 1234) {
            let mut alone = vcpu.core.clone();
            set_general(&mut alone, access.rt, value);
            (*alone.pc, *alone.pstate) = behind_aarch64(*alone.pc, *alone.pstate);
            exit(&mut guest, 1, vcpu, Exit::SystemRegister(access), &mut core);
            assert!(vcpu.core == alone, "{encoding:#x}");
            found.push(encoding);
        }
    }
    assert!(found.contains(&sysreg(3, 3, 14, 0, 1)) && found.contains(&sysreg(3, 0, 0, 0, 5)));
    assert!(!found.contains(&sysreg(3, 3, 14, 2, 1)) && !found.contains(&sysreg(2, 0, 1, 1, 4)));
}

#[test]
fn an_sgi_is_sent_at_once_and_its_vcpus_are_to_be_kicked() {
    let (mut guest, ..) = guest(3);
    let store = |guest: &mut Guest, offset: u64, value: u32| {
        guest.store_at_once(0, word(true, offset), value)
    };
    const CTLR: u64 = 0;
    const SGIR: u64 = 0xf00;
    // From the start SGIs are enabled; the distributor is not yet.
    assert_eq!(store(&mut guest, SGIR, 0b010 << 16 | 3), Some(VcpuMask::NONE));
    assert_eq!(store(&mut guest, CTLR, 1), Some(VcpuMask(0b111)));
    assert_eq!(store(&mut guest, SGIR, 0b101 << 16 | 3), Some(VcpuMask(0b101)));
    assert_eq!(store(&mut guest, SGIR, 2 << 24 | 3), Some(VcpuMask::NONE));
    assert_eq!(store(&mut guest, SGIR, 1 << 24 | 4), Some(VcpuMask(0b110)));
    let sources = [0, 1, 2].map(|vcpu| {
        let interface = &guest.vgic.cpus()[vcpu].state;
        (interface.sgi_src[3], interface.sgi_src[4])
    });
    assert_eq!(sources, [(1, 0), (1, 1), (1, 1)]);
}

#[test]
fn a_store_to_gicd_sgir_says_who_gets_the_sgi() {
    const SGIR: u64 = 0xf00;
    assert!(is_sgir(word(true, SGIR)) && !is_sgir(word(true, SGIR + 4)));
    for (value, sgi, to) in [
        (0b101 << 16 | 3, 3, 0b101),
        (1 << 24 | 15, 15, 0b101),
        // To CPUs that there are not.
        (0b1000 << 16 | 3, 3, 0),
        (0b010 << 16, 0, 0b010),
        (0b111 << 16, 0, 0b111),
        (2 << 24, 0, 0b010),
        (3 << 24, 0, 0b111),
    ] {
        assert_eq!(stasis_vgic::sgi_of(1, 3, value), (sgi, VcpuMask(to)), "{value:#x}");
    }
}

#[test]
fn other_accesses_are_not_answered_at_once() {
    let (mut guest, ..) = guest(2);
    // What list registers know, what is beside the distributor, and what is not aligned.
    for offset in [0x200, 0x1000, u64::MAX - 3, 2] {
        assert_eq!(guest.load_at_once(0, word(false, offset)), None, "{offset:#x}");
    }
    for offset in [0x280, 0x300, 0x1000, 2] {
        let before = guest.vgic.distributor().clone();
        assert_eq!(guest.store_at_once(0, word(true, offset), 1), None, "{offset:#x}");
        assert!(*guest.vgic.distributor() == before, "{offset:#x}");
    }
}

#[test]
fn only_a_little_endian_vcpu_in_aarch64_is_plain() {
    const EE: u64 = 1 << 25;
    const E0E: u64 = 1 << 24;
    for (pstate, sctlr, expected) in [
        (5, 0, true),
        (5, E0E, true),
        (5, EE, false),
        (4, EE, false),
        (0, EE, true),
        (0, E0E, false),
        (0x10, 0, false),
        (0x210, 0, false),
    ] {
        assert_eq!(is_plain(pstate, sctlr), expected, "{pstate:#x} {sctlr:#x}");
        let (_, mut vcpus, _) = guest(1);
        *vcpus[0].core.pstate = pstate;
        let is_aarch32 = pstate & 0x10 != 0;
        let is_big = if is_aarch32 { pstate & 0x200 != 0 } else { !expected };
        assert_eq!(is_big_endian(&vcpus[0].core, sctlr), is_big, "{pstate:#x} {sctlr:#x}");
    }
}

/// Offsets in the UART's window: UARTDR, UARTECR, UARTFR, UARTIBRD, UARTLCR_H, UARTCR, UARTIMSC,
/// UARTRIS, UARTMIS, UARTICR, and beside them.
const UART: [u64; 12] = [0x00, 0x04, 0x18, 0x24, 0x2c, 0x30, 0x38, 0x3c, 0x40, 0x44, 0x01, 0xfe0];

#[test]
fn what_the_uart_answers_at_once_is_what_any_exit_answers() {
    let widths = [Width::Byte, Width::Halfword, Width::Word, Width::Doubleword];
    let (mut lines, mut sent) = (0, 0);
    // The transmit interrupt: masked; unmasked and low; unmasked and high. Then a byte that was
    // received, and loopback.
    for (imsc, ris, cr) in
        [(0, 0, 0), (0x20, 0, 0), (0x20, 0x20, 0), (0x10, 0x10, 0), (0x30, 0, 0x80)]
    {
        for ((sas, width), offset, write) in (0u64..).zip(widths).flat_map(|width| {
            UART.iter().flat_map(move |offset| [false, true].map(|write| (width, *offset, write)))
        }) {
            let made = || {
                let (mut guest, mut vcpus, core) = guest(1);
                let uart = &mut guest.devices.pl011;
                (*uart.imsc, *uart.ris, *uart.cr) = (imsc, ris, cr);
                if imsc == 0x10 {
                    stasis_devices::pl011::receive(uart, b'x').unwrap();
                }
                let _ = guest.update_lines();
                vcpus[0].core.x[1] = 0x1234_5678_9abc_de75;
                (guest, vcpus, core)
            };
            let what = format!("{offset:#x} {width:?} {write} {imsc:#x} {ris:#x} {cr:#x}");
            let access = PlainAccess { write, width, ipa: 0x0900_0000 + offset, register: 1 };
            let (mut guest, mut vcpus, _) = made();
            // A data abort whose syndrome describes the access, by X1, and a translation fault.
            let esr = 0x24 << 26 | ESR | 1 << 24 | sas << 22 | 1 << 16 | u64::from(write) << 6 | 4;
            let syndrome = Syndrome { esr, far: access.ipa, hpfar: access.ipa >> 12 << 4 };
            let reached = uart_access(syndrome);
            let answer = reached.map(|reached| {
                assert_eq!(reached, access, "{what}");
                let core = &mut vcpus[0].core;
                let answer = guest.uart_at_once(core, reached);
                (*core.pc, *core.pstate) = behind_aarch64(*core.pc, *core.pstate);
                answer
            });
            let is_simple = width <= Width::Word && width.is_aligned(offset);
            assert_eq!(answer.is_some(), is_simple, "{what}");
            let Some(answer) = answer else { continue };

            let (mut expected, mut by_exit, mut core) = made();
            exit(&mut expected, 0, &mut by_exit[0], abort(access.ipa, width, write), &mut core);
            assert!(vcpus[0].core == by_exit[0].core, "{what}");
            assert!(guest.devices.pl011 == expected.devices.pl011, "{what}");
            assert!(guest.vgic.distributor() == expected.vgic.distributor(), "{what}");
            assert_eq!(core.outbox.take().errand, answer.sent.map(Errand::Send), "{what}");
            let (unchanged, ..) = made();
            lines += usize::from(guest.vgic.distributor() != unchanged.vgic.distributor());
            sent += usize::from(answer.sent.is_some());
        }
    }
    // UARTDR is sent to in three widths, and by the byte beside it.
    assert!(lines > 5 && sent == 4 * 5, "{lines} lines have changed, {sent} bytes were sent");
}
