//! The QEMU that a stream is for or from: its command line, and the [`base`](Machine::base) that it
//! writes.

use std::fmt::{self, Display, Formatter};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use stasis_convert::qemu::Backend;
use tempfile::TempDir;

use super::plugged::{Behind, Plugged};
use super::stream::Stream;

/// The longest time that QEMU may take for a machine that does not run.
const PATIENCE: Duration = Duration::from_secs(120);
/// The name of the base in its folder.
const BASE: &str = "base";
/// The property of `-cpu` by which a CPU has no performance counters.
pub const NO_PMU: &str = ",pmu=off";

/// The property of a CPU with KVM by which no guest is told in its memory how long it was not run.
/// Stasis has no such memory.
pub const NO_STOLEN_TIME: &str = ",kvm-steal-time=off";

/// A machine of QEMU's.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The program.
    pub program: String,
    /// What runs its CPUs.
    pub backend: Backend,
    /// The value of `-cpu`.
    pub cpu: String,
    /// The number of its CPUs.
    pub cpus: usize,
    /// The bytes of its RAM, a multiple of 1 MiB.
    pub ram: u64,
    /// The virtio devices.
    pub devices: Vec<Plugged>,
}

impl Machine {
    /// Returns the arguments that make the machine.
    fn arguments(&self, behind: Behind) -> Vec<String> {
        let mut arguments = vec!["-M".to_owned(), "virt,gic-version=2".to_owned()];
        if self.backend == Backend::Kvm {
            arguments.extend(["-accel", "kvm"].map(String::from));
        }
        let (cpus, ram) = (self.cpus.to_string(), format!("{}M", self.ram >> 20));
        let more = ["-cpu", &self.cpu, "-smp", &cpus, "-m", &ram, "-nic", "none"];
        arguments.extend(more.map(String::from));
        arguments.extend(Plugged::options(&self.devices, behind));
        arguments
    }

    /// Makes the machine, writes it to a stream before it runs, and returns that, and how this QEMU
    /// reaches a file.
    ///
    /// # Errors
    ///
    /// QEMU can't make it. For a machine with KVM, which this one need not be able to run, the
    /// error says how it is made elsewhere.
    pub fn base(&self) -> Result<(Stream, Files)> {
        let made = self.made();
        match self.backend {
            Backend::Tcg => made,
            Backend::Kvm => made.with_context(|| {
                format!("no base could be made here; where the guest runs, {} makes one: say it by --base", self.base_command())
            }),
        }
    }

    /// Returns the command line that makes a base, for a person on another machine. QEMU's monitor
    /// takes the next command before the last bytes are written, so it must come late.
    fn base_command(&self) -> String {
        let words: Vec<_> =
            self.arguments(Behind::Nothing).iter().map(|word| quoted(word)).collect();
        let machine = format!("{} {}", self.program, words.join(" "));
        format!(
            "`(echo migrate file:{BASE}.qemu; sleep 30; echo quit) | {machine} -S -display none -serial null -monitor stdio`"
        )
    }

    fn made(&self) -> Result<(Stream, Files)> {
        let folder = tempfile::tempdir().context("there is no place for QEMU's base")?;
        let mut monitor = Monitor::start(self, &folder)?;
        monitor.ask(json!({"execute": "qmp_capabilities"}))?;
        let to = |uri: &str| json!({"execute": "migrate", "arguments": {"uri": uri}});
        let file = format!("file:{}", folder.path().join(BASE).display());
        // The folder of the command is the one of the base.
        let files = match monitor.ask(to(&file)) {
            Ok(_) => Files::Known,
            Err(_) => monitor.ask(to(&format!("exec:cat > {BASE}"))).map(|_| Files::ByCommand)?,
        };
        monitor.wait_until_written()?;
        // The file stays there for as long as it is open.
        let stream = Stream::open(&folder.path().join(BASE));
        Ok((stream.context("QEMU has written a base that is none")?, files))
    }
}

/// The command line, but for what is specific to a stream.
impl Display for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program)?;
        self.arguments(Behind::Real)
            .iter()
            .try_for_each(|argument| write!(f, " {}", quoted(argument)))
    }
}

/// How a QEMU reaches the file of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// By its name.
    Known,
    /// By a command that reads or writes it: a QEMU before version 8.2.
    ByCommand,
}

/// Returns the option by which a QEMU goes on from a stream. A file with an unusual name is quoted
/// for a shell.
pub fn incoming(stream: &Path, files: Files) -> String {
    let path = stream.display().to_string();
    let uri = match files {
        Files::Known => format!("file:{path}"),
        Files::ByCommand => format!("exec:cat {}", quoted(&path)),
    };
    format!("-incoming {}", quoted(&uri))
}

/// Returns a word of a command, quoted for a shell if it is an unusual one.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,=".contains(c);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A QEMU whose machine does not run, and its monitor. It ends when this is dropped.
struct Monitor {
    child: Child,
    lines: Receiver<String>,
    until: Instant,
}

impl Monitor {
    fn start(machine: &Machine, folder: &TempDir) -> Result<Self> {
        let mut command = Command::new(&machine.program);
        command
            .args(machine.arguments(Behind::Nothing))
            .args(["-S", "-display", "none", "-serial", "null", "-monitor", "none"])
            .args(["-qmp", "stdio"])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| {
            format!("cannot start {}; install it, or say --qemu or --base", machine.program)
        })?;
        let (sender, lines) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || {
                let lines = BufReader::new(output).lines().map_while(Result::ok);
                lines.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
            });
        }
        Ok(Self { child, lines, until: Instant::now() + PATIENCE })
    }

    /// Returns the next answer; greetings and events are none.
    fn answer(&mut self) -> Result<Value> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else { return Err(self.complaint()) };
            let line: Value = serde_json::from_str(&line).context("QEMU's monitor says no JSON")?;
            if line.get("return").is_some() || line.get("error").is_some() {
                return Ok(line);
            }
        }
    }

    /// Gives a command, and returns what it returns.
    fn ask(&mut self, command: Value) -> Result<Value> {
        let sent = self.child.stdin.as_mut().map(|input| writeln!(input, "{command}"));
        if !matches!(sent, Some(Ok(()))) {
            return Err(self.complaint());
        }
        let answer = self.answer()?;
        if let Some(error) = answer.get("error") {
            bail!("QEMU: {}", error.get("desc").and_then(Value::as_str).unwrap_or("an error"));
        }
        Ok(answer["return"].clone())
    }

    fn wait_until_written(&mut self) -> Result<()> {
        loop {
            let answer = self.ask(json!({"execute": "query-migrate"}))?;
            match answer["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => bail!("QEMU could not write its base: {answer}"),
                _ => ensure!(Instant::now() < self.until, "QEMU does not end to write its base"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns why there is no answer: the first line that QEMU has complained in.
    fn complaint(&mut self) -> anyhow::Error {
        let _ = self.child.kill();
        let mut text = String::new();
        if let Some(errors) = self.child.stderr.take() {
            // A QEMU that says too much says enough in its first lines.
            let _ = errors.take(4096).read_to_string(&mut text);
        }
        let line = text.lines().next().unwrap_or("it does not answer");
        anyhow::anyhow!("QEMU can't make the machine: {line}")
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(program: &str) -> Machine {
        let (program, cpu) = (program.to_owned(), "cortex-a72".to_owned());
        Machine { program, backend: Backend::Tcg, cpu, cpus: 2, ram: 64 << 20, devices: vec![] }
    }

    #[test]
    fn the_command_line_is_what_a_person_types() {
        let line = machine("qemu").to_string();
        assert_eq!(line, "qemu -M virt,gic-version=2 -cpu cortex-a72 -smp 2 -m 64M -nic none");
        let incoming = |path: &str, files| incoming(Path::new(path), files);
        assert_eq!(incoming("a/b.qemu", Files::Known), "-incoming file:a/b.qemu");
        assert_eq!(incoming("it's", Files::Known), r"-incoming 'file:it'\''s'");
        assert_eq!(incoming("a.qemu", Files::ByCommand), "-incoming 'exec:cat a.qemu'");
    }

    #[test]
    fn where_there_is_no_kvm_a_person_is_told_how_to_make_a_base() {
        let kvm = Machine { backend: Backend::Kvm, cpu: "host".to_owned(), ..machine("false") };
        let error = format!("{:#}", kvm.base().unwrap_err());
        assert!(error.contains("-accel kvm -cpu host -smp 2 -m 64M -nic none -S"), "{error}");
        assert!(error.ends_with("QEMU can't make the machine: it does not answer"), "{error}");
        assert_eq!(error.lines().count(), 1);
    }

    #[test]
    fn a_qemu_that_is_not_there_or_is_none_is_named() {
        let error = format!("{:#}", machine("/no/qemu").base().unwrap_err());
        assert!(error.starts_with("cannot start /no/qemu; install it"), "{error}");
        let error = format!("{:#}", machine("false").base().unwrap_err());
        assert_eq!(error, "QEMU can't make the machine: it does not answer");
    }
}
