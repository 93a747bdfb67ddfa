//! What bash, zsh and fish offer behind Tab, each by its own script of `stasis completions`, beside
//! a machine that is busy with a checkpoint.

mod machine;
mod patience;

use std::path::Path;
use std::process::{Command, Stdio};

use machine::{at_a_socket, stasis};
use patience::{PATIENCE, wait_for};
use stasis_channel::Kind;

/// Returns what a shell offers for a line that ends where the cursor is.
type Offer = fn(folder: &Path, line: &str) -> Vec<String>;

/// Runs a script of a shell, with `stasis` in its path and the line as `$LINE`. Returns the lines
/// that it prints.
fn printed(folder: &Path, shell: &[&str], script: &str, line: &str) -> Vec<String> {
    let tool = Path::new(env!("CARGO_BIN_EXE_stasis")).parent().unwrap();
    let path = std::env::join_paths(
        [tool.to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut command = Command::new(shell[0]);
    command.env("PATH", path.unwrap()).env("XDG_RUNTIME_DIR", folder).env_remove("STASIS_TO");
    command.env("HOME", folder).env("XDG_CONFIG_HOME", folder).env("LINE", line);
    let output = command.args(&shell[1..]).arg(script).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| {
        panic!(
            "{error}: this test needs {0}: as root, `apt-get install {0}`, or `cargo xtask setup`",
            shell[0]
        )
    });
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// Bash parts words at colons, too, as its line editor does.
fn bash(folder: &Path, line: &str) -> Vec<String> {
    let script = r#"source <(stasis completions bash)
        COMP_WORDS=(${LINE//:/ : }); [[ $LINE == *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_TYPE=9 COMP_LINE=$LINE COMP_POINT=${#LINE}
        _stasis_joined stasis "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    printed(folder, &["bash", "-c"], script, line)
}

/// The script calls `_describe` with the name of an array of what it offers, each with its
/// description behind a colon.
fn zsh(folder: &Path, line: &str) -> Vec<String> {
    let script = r#"compdef() { }
        _describe() { print -l -- ${${(P)@[-1]}%%:*}; }
        source <(stasis completions zsh)
        words=(${(z)LINE}); [[ $LINE == *' ' ]] && words+=('')
        CURRENT=$#words; _clap_dynamic_completer_stasis"#;
    printed(folder, &["zsh", "-f", "-c"], script, line)
}

fn fish(folder: &Path, line: &str) -> Vec<String> {
    let script =
        "stasis completions fish | source; complete -C $LINE | string replace -r '\\t.*' ''";
    printed(folder, &["fish", "--no-config", "-c"], script, line)
}

#[test]
fn each_shell_offers_what_a_busy_machine_knows_and_is_not_held_up_by_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let (machine, kinds) = at_a_socket(folder.path());
    let mut connect =
        stasis(folder.path(), &["connect", &machine]).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the socket", || {
        stasis(folder.path(), &["ctl", "guests"]).output().unwrap().status.success().then_some(())
    });
    kinds.try_iter().for_each(drop);
    // A request that is under way, as a checkpoint is.
    let mut checkpoint = stasis(folder.path(), &["ctl", "checkpoint", "idle"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while kinds.recv_timeout(PATIENCE).unwrap() != Kind::Request {}
    let shells: [(&str, Offer); 3] = [("bash", bash), ("zsh", zsh), ("fish", fish)];
    for (name, offer) in shells {
        let offered = |line: &str| offer(folder.path(), line);
        assert_eq!(offered("stasis attach co"), ["counter"], "{name}");
        // The machine's own socket is one that `connect` has: nobody answers there.
        let taken = format!("stasis attach --to {machine} --patience 1 co");
        assert_eq!(offered(&taken), [""; 0], "{name}");
        let shared = folder.path().join("stasis.sock").display().to_string();
        let shared = format!("stasis attach --to unix:{shared} --patience 60 co");
        assert_eq!(offered(&shared), ["counter"], "{name}");
        assert_eq!(offered("stasis ctl pause idle,c"), ["idle,counter"], "{name}");
        assert_eq!(offered("stasis ctl wei"), ["weight"], "{name}");
        assert_eq!(offered("stasis ctl outp"), ["output"], "{name}");
        assert_eq!(offered("stasis repo"), ["report"], "{name}");
        // The store is the checkpoint's.
        assert_eq!(offered("stasis ctl delete mo"), [""; 0], "{name}");
    }
    for child in [&mut checkpoint, &mut connect] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
