//! A real gdb on guests that run: `stasis gdb GUEST --to unix:PATH`.
//! [`debug_lldb`](crate::debug_lldb) does the same with lldb.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stasis_guests::workload::Model;
use stasis_host::config::{CoreConfig, GuestConfig, WindowConfig};
use stasis_qemu_tests::guests::{SILENCE, ticks};
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::process::Process;
use stasis_qemu_tests::stasis::{Stasis, guest};
use xtask::initramfs;
use xtask::qemu::ChannelSocket;

use crate::linux::{BOOT_TIME, machine, shell};

/// Starts `stasis gdb` on a guest, and gdb with a file of symbols, if there is one, and with these
/// commands. Returns what both say.
fn gdb(
    socket: &ChannelSocket,
    guest: &str,
    symbols: Option<&Path>,
    commands: &[&str],
) -> Result<String> {
    let mut tool = tool(socket, guest)?;
    tool.args(["--", "-q", "-nx", "-batch"]);
    tool.args(symbols);
    for one in ["set language c"].iter().chain(commands) {
        tool.args(["-ex", one]);
    }
    said(&mut tool)
}

/// Returns the command `stasis gdb` for a guest, which ends after some minutes.
pub fn tool(socket: &ChannelSocket, guest: &str) -> Result<Command> {
    let mut tool = Command::new("timeout");
    tool.arg("240").arg(std::env::current_exe()?);
    tool.env(crate::AS_TOOL, "1").args(["gdb", guest, "--to"]).arg(socket.target());
    Ok(tool)
}

/// Returns what a command prints.
pub fn said(command: &mut Command) -> Result<String> {
    let output = command.output().context("cannot start the tool")?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

/// Checks that `said` has all of these words, in this order.
pub fn has(said: &str, words: &[&str]) -> Result<()> {
    let mut rest = said;
    for word in words {
        let Some(at) = rest.find(word) else { anyhow::bail!("no \"{word}\" in:\n{said}") };
        rest = &rest[at + word.len()..];
    }
    Ok(())
}

/// Returns the state of a guest, as the console's list has it.
pub fn is(stasis: &mut Stasis, guest: &str, state: &str) -> Result<()> {
    let lines = stasis.command("guests")?;
    let line = lines.iter().find(|line| line.contains(guest));
    ensure!(line.is_some_and(|line| line.contains(state)), "not {state}: {lines:#?}");
    Ok(())
}

/// Boots a machine whose console is attached to `counter`, which has shown that it counts. The
/// channel is at `socket`.
pub fn counting(lab: &Lab, socket: &ChannelSocket) -> Result<(Stasis, Model)> {
    let mut stasis = lab.machine().guest("counter")?.channel(socket).boot()?;
    let mut model = Model::new();
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut model, 2)?;
    Ok((stasis, model))
}

pub fn gdb_stops_steps_and_leaves_a_guest_which_notices_nothing(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let elf = Built::get()?.guests.join("counter");
    let (mut stasis, mut model) = counting(lab, &socket)?;
    let said = gdb(
        &socket,
        "counter",
        Some(&elf),
        &[
            "info threads",
            "break *counter_wait",
            "continue",
            "stepi",
            "stepi",
            "p/x $pc",
            "delete",
            "watch *(unsigned long*)&counter::DEADLINE",
            "continue",
            "info breakpoints",
            "delete",
            "p/x $vbar_el1 & 0x7ff",
            "detach",
        ],
    )?;
    has(
        &said,
        &[
            "Thread 1.1 (vCPU)",
            "Breakpoint 1, 0x0000000040080800 in counter_wait ()",
            "0x40080808",
            "Hardware watchpoint 2",
            "Old value = ",
            "New value = ",
            "breakpoint already hit 1 time",
            "= 0x0",
            "detached",
        ],
    )?;
    // The guest prints faults of its registers and of its time by itself.
    ticks(&mut stasis.qemu.console, &mut model, 3)?;
    stasis.detach()?;
    is(&mut stasis, "counter", "running")?;
    stasis.quit()
}

pub fn a_guest_that_is_debugged_is_stored_without_its_breakpoints(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let elf = Built::get()?.guests.join("counter");
    let disk = lab.disk()?;
    let mut stasis = lab.machine().guest("counter")?.disk(&disk).channel(&socket).boot()?;
    let mut model = Model::new();
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut model, 2)?;
    stasis.detach()?;
    // gdb waits at a prompt of its own while the checkpoint is made.
    let fifo = lab.path("go");
    let made = Command::new("mkfifo").arg(&fifo).status().context("cannot make a pipe")?;
    ensure!(made.success(), "mkfifo has failed");
    let wait = format!("shell cat {} > /dev/null", fifo.display());
    let said = std::thread::scope(|scope| {
        let commands = ["hbreak counter_wait", "continue", wait.as_str(), "continue", "detach"];
        let (socket, elf) = (&socket, &elf);
        let debugger = scope.spawn(move || gdb(socket, "counter", Some(elf), &commands));
        let stored = stored_while_debugged(&mut stasis);
        std::fs::write(&fifo, b"go").context("gdb does not wait")?;
        stored.and(debugger.join().expect("it returns"))
    })?;
    has(&said, &["counter_wait ()", "counter_wait ()", "detached"])?;
    // What it has said since is of a later time than what it says next.
    stasis.command("pause counter")?;
    stasis.attach("counter")?;
    stasis.detach()?;
    stasis.resume("held")?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut model, 3)?;
    stasis.detach()?;
    stasis.quit()
}

pub fn a_checkpoint_of_a_guest_that_runs_to_a_breakpoint_has_none_of_it(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let disk = lab.disk()?;
    let mut stasis = lab.machine().guest("counter")?.disk(&disk).channel(&socket).boot()?;
    // The guest gets to neither address, so it runs with both in the debug registers.
    let mut debugger = tool(&socket, "counter")?;
    debugger.args(["--", "-q", "-nx", "-batch"]);
    for one in ["hbreak *0x41800000", "watch *(unsigned long*)0x41800008", "continue"] {
        debugger.args(["-ex", one]);
    }
    let debugger =
        Process(debugger.stdout(Stdio::null()).spawn().context("cannot start the tool")?);
    let goes_on = |stasis: &mut Stasis| -> Result<bool> {
        let log = stasis.command("dmesg")?.join("\n");
        Ok(log.contains("has a debugger") && is(stasis, "counter", "running").is_ok())
    };
    let limit = Instant::now() + SILENCE;
    while !goes_on(&mut stasis)? {
        ensure!(Instant::now() < limit, "gdb does not let the guest go on");
        std::thread::sleep(Duration::from_millis(100));
    }
    stasis.checkpoint("counter", "held")?;
    drop(debugger);
    stasis.quit()?;
    let mut show = Command::new(std::env::current_exe()?);
    show.env(crate::AS_TOOL, "1").args(["checkpoint", "show"]).arg(&disk).args(["held", "--json"]);
    let shown: Value = serde_json::from_str(&said(&mut show)?)?;
    let records = shown["records"].as_array().context("there are no records")?;
    let is_debug = |record: &&Value| record["type"] == "VCPU_DEBUG";
    let debug = records.iter().find(is_debug).context("there are no debug registers")?;
    for name in ["DBGBCR", "DBGBVR", "DBGWCR", "DBGWVR", "MDSCR_EL1"] {
        let text = debug["registers"][name].to_string();
        ensure!(
            text.contains("0x00") && !text.contains(|c| ('1'..='9').contains(&c)),
            "{name}: {text}"
        );
    }
    Ok(())
}

pub fn each_step_is_one_instruction_also_where_el2_answers_it(lab: &Lab) -> Result<()> {
    // HVC, MRS and MSR of ACTLR_EL1, SMC, and NOP.
    const CODE: [u32; 5] = [0xd400_0002, 0xd538_1020, 0xd518_1020, 0xd400_0003, 0xd503_201f];
    const PSCI_VERSION: u32 = 0x8400_0000;
    let socket = ChannelSocket::new()?;
    let elf = Built::get()?.guests.join("counter");
    let (mut stasis, mut model) = counting(lab, &socket)?;
    let mut commands: Vec<String> =
        ["break *counter_wait", "continue", "delete", "set $old = $pc"].map(str::to_owned).into();
    // In RAM that the guest does not use.
    let place = |index: usize| 0x4180_0000 + 4 * index;
    for (index, instruction) in CODE.iter().enumerate() {
        commands.push(format!("set var *(unsigned int *) {:#x} = {instruction:#x}", place(index)));
    }
    commands.extend((0..4).map(|n| format!("set $kept{n} = $x{n}")));
    commands.push(format!("set $pc = {:#x}", place(0)));
    for instruction in CODE {
        let is_call = [CODE[0], CODE[3]].contains(&instruction);
        commands.extend(is_call.then(|| format!("set $x0 = {PSCI_VERSION:#x}")));
        commands.extend(["stepi", "p/x $pc"].map(str::to_owned));
        commands.extend(is_call.then(|| "p/x $x0".to_owned()));
    }
    commands.extend((0..4).map(|n| format!("set $x{n} = $kept{n}")));
    commands.extend(["set $pc = $old", "detach"].map(str::to_owned));
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let said = gdb(&socket, "counter", Some(&elf), &commands)?;
    let at = |index| format!("= {:#x}", place(index));
    let (a, b, c, d, e) = (at(1), at(2), at(3), at(4), at(5));
    has(&said, &[&a, "= 0x1000", &b, &c, &d, "= 0x", &e, "detached"])?;
    ticks(&mut stasis.qemu.console, &mut model, 3)?;
    stasis.detach()?;
    stasis.quit()
}

pub fn a_neighbour_keeps_its_windows_while_a_guest_is_debugged(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let elf = Built::get()?.guests.join("counter");
    let on_core_0 = |name: &str| GuestConfig { cores: vec![0], ..guest(name, 32) };
    let windows = vec![WindowConfig { guest: "ticker".to_owned(), at_us: 3000, length_us: 2000 }];
    let mut stasis = lab
        .machine()
        .cpus(1)
        .cpu("cortex-a57,cntfrq=1000000000")
        .counting_instructions(0)
        .configured(on_core_0("counter"), Some(lab.guest("counter")?))
        .configured(on_core_0("ticker"), Some(lab.guest("ticker")?))
        .core(CoreConfig { number: 0, frame_us: 10_000, windows })
        .channel(&socket)
        .boot()?;
    let missed = |stasis: &mut Stasis| -> Result<u64> {
        let rows = stasis.command("windows --json")?;
        let row: Value = serde_json::from_str(&rows.join(""))?;
        row["missed"].as_u64().context("no number")
    };
    let before = missed(&mut stasis)?;
    // The debugged guest is stopped often, stepped through its code, and its memory is read and
    // written.
    let mut commands = vec!["hbreak counter_wait", "watch *(unsigned long*)&counter::DEADLINE"];
    for _ in 0..2 {
        commands.extend(["continue", "stepi 3", "x/2gx $sp", "set $x9 = $x9"]);
    }
    commands.push("detach");
    let said = gdb(&socket, "counter", Some(&elf), &commands)?;
    has(&said, &["Breakpoint 1, ", "counter_wait ()", "detached"])?;
    let after = missed(&mut stasis)?;
    println!("missed before {before}, after {after}");
    ensure!(after == before, "the neighbour has missed {} windows", after - before);
    is(&mut stasis, "counter", "running")?;
    stasis.quit()
}

/// Stores the guest once it stands at gdb's breakpoint, and returns nothing.
fn stored_while_debugged(stasis: &mut Stasis) -> Result<String> {
    for _ in 0..200 {
        if is(stasis, "counter", "debugged").is_ok() {
            stasis.checkpoint("counter", "held")?;
            return Ok(String::new());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    anyhow::bail!("the guest is not debugged")
}

/// Returns a machine with a Linux of two vCPUs, whose terminal is attached and shows its shell's
/// prompt.
pub fn linux(lab: &Lab, socket: &ChannelSocket) -> Result<Stasis> {
    let mut stasis = machine(lab, 2)?.channel(socket).boot()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
    Ok(stasis)
}

/// Checks that the shell of [`linux`] answers, and ends the machine.
pub fn linux_goes_on(mut stasis: Stasis) -> Result<()> {
    let lines = shell(&mut stasis, "echo still $((6*7))")?;
    ensure!(lines.iter().any(|line| line.contains("still 42")), "{lines:#?}");
    stasis.detach()?;
    stasis.quit()
}

pub fn gdb_sees_both_vcpus_of_a_linux_and_interrupts_it(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let stasis = linux(lab, &socket)?;
    let said = gdb(
        &socket,
        "linux",
        None,
        &[
            "info threads",
            "thread 2",
            "p/x $ttbr1_el1 != 0",
            "x/2i $pc",
            "set $wanted = $vbar_el1 + 0x280",
            "hbreak *$wanted",
            "continue",
            "p $pc == $wanted",
            "delete",
            "stepi",
            "p $pc == $wanted",
            "detach",
        ],
    )?;
    has(&said, &["Thread 1.2 (vCPU)", "$1 = 0x1", "=> 0xffff", "$2 = 1", "$3 = 0", "detached"])?;
    linux_goes_on(stasis)
}
