//! A real lldb on guests that run: `stasis gdb GUEST --to unix:PATH --debugger lldb-19`.

use std::path::Path;

use anyhow::{Result, ensure};
use stasis_qemu_tests::guests::ticks;
use stasis_qemu_tests::lab::{Built, Lab};
use xtask::qemu::ChannelSocket;

use crate::debug::{counting, has, is, linux, linux_goes_on, said, tool};

/// Debian 12 and 13 both have it. Before 17, lldb takes it that a watchpoint of AArch64 stops
/// behind the access.
const LLDB: &str = "lldb-19";

/// Makes lldb go on after `continue`, until it is interrupted.
const LETS_GO: [&str; 6] = [
    "script lldb.debugger.SetAsync(True)",
    "continue",
    "script import time; time.sleep(1)",
    "process interrupt",
    "script while lldb.process.GetState() != lldb.eStateStopped: time.sleep(0.1)",
    "script lldb.debugger.SetAsync(False)",
];

/// Starts `stasis gdb` on a guest, and lldb with a file of symbols, if there is one, and with these
/// commands. Returns what both say.
fn lldb(
    socket: &ChannelSocket,
    guest: &str,
    symbols: Option<&Path>,
    commands: &[&str],
) -> Result<String> {
    let mut tool = tool(socket, guest)?;
    tool.args(["--debugger", LLDB, "--", "--batch", "--no-lldbinit"]).args(symbols);
    for one in commands {
        tool.args(["-o", one]);
    }
    said(&mut tool)
}

pub fn lldb_stops_steps_and_leaves_a_guest_which_notices_nothing(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let elf = Built::get()?.guests.join("counter");
    let (mut stasis, mut model) = counting(lab, &socket)?;
    let mut commands = vec![
        "thread list",
        "breakpoint set -n counter_wait",
        "continue",
        "thread step-inst",
        "thread step-inst",
        "register read pc vbar_el1",
        "breakpoint delete -f",
        "watchpoint set expression -w write -- &counter::DEADLINE",
        "continue",
        "continue",
        "watchpoint delete -f",
        // In RAM that the guest does not use.
        "memory write -s 8 0x41800000 0x1122334455667788",
        "memory read -s 8 -f x -c 1 0x41800000",
        "register write v9 '{1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16}'",
        "register read v9",
        "register write v9 '{0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0}'",
    ];
    commands.extend(LETS_GO);
    commands.extend(["thread list", "detach"]);
    let said = lldb(&socket, "counter", Some(&elf), &commands)?;
    has(
        &said,
        &[
            "* thread #1: tid = 0x0001",
            "stop reason = breakpoint 1.1",
            "stop reason = instruction step into",
            "stop reason = instruction step into",
            "pc = 0x0000000040080808",
            "vbar_el1 = 0x0000000040081800",
            "Watchpoint 1 hit:",
            "stop reason = watchpoint 1",
            "Watchpoint 1 hit:",
            "stop reason = watchpoint 1",
            "0x41800000: 0x1122334455667788",
            "v9 = {0x01 0x02 0x03",
            "stop reason = signal SIGINT",
            "Process 1 detached",
        ],
    )?;
    // Each store has another value than the one before: lldb has stepped over the store.
    let mut values = said.lines().filter_map(|line| line.strip_prefix("new value: "));
    let (first, second, third) = (values.next(), values.next(), values.next());
    ensure!(third.is_some() && first != second && second != third, "{said}");
    ticks(&mut stasis.qemu.console, &mut model, 3)?;
    stasis.detach()?;
    is(&mut stasis, "counter", "running")?;
    let log = stasis.command("dmesg")?.join("\n");
    ensure!(log.contains("has no debugger any more") && !log.contains("Unknown command"), "{log}");
    stasis.quit()
}

pub fn lldb_sees_both_vcpus_of_a_linux(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let stasis = linux(lab, &socket)?;
    let said = lldb(
        &socket,
        "linux",
        None,
        &[
            "thread list",
            "thread select 2",
            "register read ttbr1_el1 tcr_el1",
            "disassemble -s `$pc` -c 2",
            // The guest's interrupts at EL1.
            "breakpoint set -H -a `$vbar_el1 + 0x280`",
            "continue",
            "thread step-inst",
            "breakpoint delete -f",
            "detach",
        ],
    )?;
    has(
        &said,
        &[
            "thread #1: tid = 0x0001, 0xffff",
            "thread #2: tid = 0x0002, 0xffff",
            "ttbr1_el1 = 0x",
            "->  0xffff",
            "Breakpoint 1: address = 0xffff",
            "stop reason = breakpoint 1.1",
            "stop reason = instruction step into",
            "Process 1 detached",
        ],
    )?;
    // lldb says which thread is selected when it likes, at times behind its registers.
    ensure!(said.contains("* thread #2"), "{said}");
    linux_goes_on(stasis)
}
