//! `stasis gdb` on golden files, with a real lldb.

use std::path::Path;
use std::process::Command;

const LLDB: &str = "lldb-19";
const RUNNING: &str = "tests/golden/running/1.0-handler.stasis";
const FOUR: &str = "tests/golden/1.5/four-vcpus.stasis";

/// Starts `stasis gdb` on a checkpoint, and lldb with these commands, of which it carries out those
/// up to the first that fails. Returns what both say.
fn lldb(checkpoint: &str, commands: &[&str]) -> String {
    // A debugger that steps for ever is a failure.
    let mut command = Command::new("timeout");
    command.arg("120").arg(env!("CARGO_BIN_EXE_stasis")).args(["gdb", checkpoint, "--debugger"]);
    command.args([LLDB, "--", "--batch", "--no-lldbinit"]);
    for one in commands {
        command.args(["-o", one]);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = command.current_dir(root).output().unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

/// Checks that `said` has all of these words, in this order.
fn has(said: &str, words: &[&str]) {
    let mut rest = said;
    for word in words {
        let at = rest.find(word).unwrap_or_else(|| panic!("no \"{word}\" in:\n{said}"));
        rest = &rest[at + word.len()..];
    }
}

#[test]
fn lldb_shows_each_vcpu_as_a_thread_with_its_registers() {
    let commands = ["thread list", "thread select 3", "register read pc x0 vbar_el1", "quit"];
    // lldb says that thread 3 is selected when it likes, at times behind its registers.
    let thread = "thread #4: tid = 0x0004, 0x0000000040001003";
    let registers = ["pc = 0x0000000040001002", "x0 = 0x00000002abcd0001", "vbar_el1 = 0x00000002"];
    let said = lldb(FOUR, &commands);
    has(&said, &[&[thread][..], &registers].concat());
    has(&said, &["* thread #3"]);
}

#[test]
fn lldb_reads_memory_and_changes_nothing() {
    let read = ["memory read -s 4 -f x -c 1 `$pc`", "register write x0 5"];
    has(&lldb(RUNNING, &read), &["0x400818e4: 0x3727ffc9", "Failed to write register 'x0'"]);
    has(&lldb(RUNNING, &["memory write 0x40001000 1"]), &["memory write failed for 0x40001000"]);
    has(&lldb(RUNNING, &["memory read 0x09000000"]), &["memory read failed for 0x9000000"]);
}

#[test]
fn a_guest_in_a_checkpoint_does_not_step_and_lldb_does_not_wait_for_it() {
    let commands = ["thread step-inst", "thread step-over", "continue", "register read pc"];
    let stopped = "stop reason = signal SIGSTOP";
    has(&lldb(RUNNING, &commands), &[stopped, stopped, stopped, "pc = 0x00000000400818e4"]);
}
