//! What a person types, in the orders in which a person types it, and output that nobody reads to
//! the end.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn golden(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/1.0");
    folder.join(name).with_extension("stasis").to_str().unwrap().to_owned()
}

fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stasis"));
    command.args(words).current_dir(folder);
    command
}

fn run(folder: &Path, words: &[&str]) -> Output {
    command(folder, words).output().unwrap()
}

fn complaints(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that succeeds, and returns what it prints.
fn printed(folder: &Path, words: &[&str]) -> String {
    let output = run(folder, words);
    assert!(output.status.success(), "{words:?}: {}", complaints(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns a pipe whose reader is gone, as in `| true`.
fn cut_off() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn output_that_nobody_reads_to_the_end_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (golden("one-vcpu"), golden("four-vcpus"));
    printed(folder.path(), &["disk", "disk", "--size", "64M"]);
    printed(folder.path(), &["checkpoint", "put", "disk", &file, "it"]);
    for words in [
        &["checkpoint", "list", "disk"][..],
        &["checkpoint", "list", "disk", "--json"],
        &["checkpoint", "verify", "disk"],
        &["checkpoint", "verify", &file],
        &["checkpoint", "show", &file],
        &["checkpoint", "diff", &file, &other],
        &["convert", "kvm", &file],
        &["completions", "bash"],
        &["help"],
        &[],
    ] {
        let output = command(folder.path(), words).stdout(cut_off()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", complaints(&output));
    }
    // What is said of the steps is no less at risk.
    let get = ["checkpoint", "get", "disk", "it", "copy"];
    let status = command(folder.path(), &get).stderr(cut_off()).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn options_may_stand_between_the_words_of_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (one, four) = (golden("one-vcpu"), golden("four-vcpus"));
    printed(folder.path(), &["disk", "disk", "--size", "64M"]);
    for (file, name) in [(&one, "one"), (&four, "four")] {
        printed(folder.path(), &["checkpoint", "put", "disk", file, name]);
    }
    for (words, orders) in [
        (&["core", &one, "out"][..], ["--vcpu", "0"].as_slice()),
        (&["core", "disk", "1", "out"], &["--vcpu", "0"]),
        (&["diff", &one, &four], &["--json"]),
        (&["diff", "disk", "1", "four"], &["--json"]),
        (&["diff", "disk", "1", "disk", "2"], &["--json"]),
        (&["show", "disk", "one"], &["--json"]),
    ] {
        // Before, between and behind them.
        for place in 1..=words.len() {
            let (before, behind) = words.split_at(place);
            printed(folder.path(), &[&["checkpoint"], before, orders, behind].concat());
        }
    }
    for (words, why) in [
        (&["core", &one][..], "the core file is lacking"),
        (&["core", &one, "1", "out"], "\"1\" is one too many"),
        (&["diff", &one], "two checkpoints are compared"),
        (&["diff", "disk", "1", "disk", "2", "3"], "two checkpoints are compared"),
    ] {
        let output = run(folder.path(), &[&["checkpoint"], words].concat());
        assert!(complaints(&output).contains(why), "{words:?}: {}", complaints(&output));
        assert!(!output.status.success(), "{words:?}");
    }
}

#[test]
fn a_card_without_a_configuration_is_answered_with_what_to_give() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["card", "card.img"]);
    let said = complaints(&output);
    assert!(said.contains("give it by --guest FILE.toml"), "{said}");
    assert!(!output.status.success());
}

#[test]
fn the_name_alone_prints_the_help_and_a_wrong_word_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(printed(folder.path(), &[]).contains("checkpoint"));
    assert_eq!(run(folder.path(), &["chekpoint"]).status.code(), Some(2));
}

#[test]
fn what_bash_parts_at_colons_and_at_the_sign_of_an_option_is_one_word_again() {
    let script = r#"source "$0"
        _clap_complete_stasis() { printf '%s ' "$COMP_CWORD" "${COMP_WORDS[@]}"; }
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _stasis_joined"#;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/completion.bash");
    for (parted, joined) in [
        ("stasis attach --to = unix : /x co", "3 stasis attach --to=unix:/x co "),
        ("stasis attach --to unix : /x co", "4 stasis attach --to unix:/x co "),
        (
            "stasis ctl --to = tcp : localhost : 4444 pause",
            "3 stasis ctl --to=tcp:localhost:4444 pause ",
        ),
    ] {
        let mut bash = Command::new("bash");
        bash.args(["-c", script]).arg(&source).args(parted.split(' '));
        let said = bash.output().unwrap().stdout;
        assert_eq!(String::from_utf8_lossy(&said), joined);
    }
}
