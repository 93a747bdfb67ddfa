//! How long a guest's way to QEMU and back takes, beside `cp` of the same file.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes of the machine's RAM that are random; the other half is zeros.
const FULL: usize = 256 << 20;
/// Times that each command is run. The fastest counts.
const ROUNDS: usize = 5;

/// The machine whose stream is converted: it never runs, and its RAM is half full.
const MACHINE: [&str; 12] = [
    "-M",
    "virt,gic-version=2",
    "-cpu",
    "cortex-a72,pmu=off",
    "-m",
    "512M",
    "-nic",
    "none",
    "-display",
    "none",
    "-S",
    "-qmp",
];

/// Returns bytes that no one can make fewer of (xorshift64).
fn random(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(len / 8).flatten().collect()
}

/// Makes QEMU write a machine to `stream`, with what is in `file` at the start of its RAM, if that
/// is given.
fn qemu_writes(stream: &Path, file: Option<&Path>) {
    let loader =
        file.map(|file| format!("loader,addr=0x48000000,force-raw=on,file={}", file.display()));
    let mut command = Command::new("qemu-system-aarch64");
    command.args(MACHINE).arg("stdio");
    if let Some(loader) = loader {
        command.args(["-device", &loader]);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let uri = format!("file:{}", stream.display());
    writeln!(input, r#"{{"execute": "qmp_capabilities"}}"#).unwrap();
    writeln!(input, r#"{{"execute": "migrate", "arguments": {{"uri": "{uri}"}}}}"#).unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        assert!(!line.contains("\"error\"") && !line.contains("\"failed\""), "{line}");
        if line.contains("\"completed\"") {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        writeln!(input, r#"{{"execute": "query-migrate"}}"#).unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Returns the shortest time of a command.
fn fastest(mut run: impl FnMut()) -> Duration {
    let mut once = || {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..ROUNDS).map(|_| once()).min().unwrap()
}

/// Returns the shortest time of `cp`, with what it has written on the medium, for which `stasis`
/// waits, too.
fn copies(from: &Path, to: &Path) -> Duration {
    fastest(|| {
        let _ = std::fs::remove_file(to);
        assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
        File::open(to).unwrap().sync_all().unwrap();
    })
}

#[test]
#[ignore = "prints times, and takes QEMU and 2 GiB of the temporary folder"]
fn conversions_beside_cp() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let stasis = |line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stasis"));
        let output = command.args(line.split(' ')).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(path("random"), random(FULL)).unwrap();
    qemu_writes(&path("base"), None);
    qemu_writes(&path("machine"), Some(&path("random")));
    for (input, line, output) in [
        ("machine", "convert from-qemu machine --base base --out guest", "guest"),
        ("machine", "convert from-qemu machine --out guest", "guest"),
        ("guest", "convert qemu guest --base base --out stream", "stream"),
        ("guest", "convert qemu guest --out stream", "stream"),
    ] {
        let cp = copies(&path(input), &path("copy"));
        let time = fastest(|| {
            let _ = std::fs::remove_file(path(output));
            stasis(line);
        });
        let ratio = time.as_secs_f64() / cp.as_secs_f64();
        let (time, cp) = (time.as_millis(), cp.as_millis());
        println!("| `{line}` | {time} | {cp} | {ratio:.2} |");
    }
}
