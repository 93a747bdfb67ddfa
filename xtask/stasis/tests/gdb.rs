//! `stasis gdb` on golden files, with the real gdb-multiarch.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const RUNNING: &str = "tests/golden/running/1.0-handler.stasis";
const FOUR: &str = "tests/golden/1.5/four-vcpus.stasis";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Starts `stasis gdb` with these arguments, and gdb with these commands.
fn gdb(arguments: &[&str], commands: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stasis"));
    command.arg("gdb").args(arguments).args(["--", "-q", "-nx", "-batch"]);
    for one in commands {
        command.args(["-ex", one]);
    }
    command.current_dir(root()).output().unwrap()
}

fn said(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn gdb_shows_each_vcpu_as_a_thread_with_its_registers() {
    let output = gdb(&[FOUR], &["info threads", "thread 3", "p/x $pc", "p/x $x0", "p $_thread"]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("Thread 1.4 (vCPU)"), "{text}");
    assert!(text.contains("= 0x40001002"), "{text}");
}

#[test]
fn gdb_reads_memory_and_system_registers_and_changes_nothing() {
    let commands =
        ["p/x $vbar_el1", "p/x $sctlr_el1 & 1", "x/i $pc", "p $v0.q", "set $x0 = 5", "p/x $x0"];
    let text = said(&gdb(&[RUNNING], &commands));
    assert!(text.contains("$1 = 0x"), "{text}");
    assert!(text.contains("=> 0x"), "{text}");
    assert!(text.contains("Could not write register \"x0\"; remote failure reply 'E1e'"), "{text}");
    let text = said(&gdb(&[RUNNING], &["x/x 0x09000000"]));
    assert!(text.contains("Cannot access memory at address 0x9000000"), "{text}");
}

#[test]
fn a_debugger_that_is_not_there_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stasis"));
    command.args(["gdb", FOUR, "--debugger", "no-such-gdb"]).current_dir(root());
    let text = said(&command.output().unwrap());
    assert!(text.contains("error: cannot start no-such-gdb: install it"), "{text}");
}
