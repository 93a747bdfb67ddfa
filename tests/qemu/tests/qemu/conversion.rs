//! The GIC of a checkpoint in QEMU's migration stream, and QEMU's opinion of it.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use stasis_convert::Vgic;
use stasis_convert::qemu::{Backend, Machine, decode, locate, replace};
use stasis_convert::sample::{Shape, state};
use stasis_convert::vgic::{Bits, Interrupt};
use stasis_qemu_tests::lab::Lab;
use xtask::monitor::Monitor;
use xtask::workspace::{read, write};

/// The longest time for an answer of a QEMU whose machine stands still.
const PATIENCE: Duration = Duration::from_secs(60);
/// An SPI that nothing is wired to.
const FREE_SPI: usize = 287;
/// States that no person has thought of.
const SEEDS: u64 = 8;

/// A machine that is not started, with a monitor. It ends when it is dropped, or when patience
/// does.
struct Stopped {
    child: Arc<Mutex<Child>>,
    monitor: Monitor,
    /// Speaks QEMU's protocol for tests, by which lines can be raised.
    wires: BufReader<TcpStream>,
    /// The watchdog ends with it.
    _alive: Sender<()>,
}

impl Stopped {
    fn start(board: &str, incoming: Option<&Path>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let mut command = Command::new(xtask::qemu::PROGRAM);
        command
            .args(["-M", board, "-cpu", "cortex-a72", "-smp", "4", "-m", "64M", "-S"])
            .args(["-nodefaults", "-display", "none", "-qmp", "stdio", "-qtest-log", "none"])
            .args(["-qtest", &format!("tcp:127.0.0.1:{}", listener.local_addr()?.port())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(path) = incoming {
            command.arg("-incoming").arg(format!("file:{}", path.display()));
        }
        let mut child = command.spawn().context("cannot start QEMU")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let child = Arc::new(Mutex::new(child));
        let (alive, ended) = mpsc::channel();
        let watched = Arc::clone(&child);
        std::thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                kill(&watched);
            }
        });
        let (Some(input), Some(output), Ok(wires)) = (input, output, accept(&listener)) else {
            kill(&child);
            bail!("QEMU does not come to speak with the test");
        };
        let monitor = Monitor::new(input, output).inspect_err(|_| kill(&child))?;
        Ok(Self { child, monitor, wires: BufReader::new(wires), _alive: alive })
    }

    /// Asks until the answer has one of these words in it.
    fn wait_for(&mut self, command: &str, words: &[&str]) -> Result<String> {
        loop {
            let answer = self.monitor.ask(command)?;
            if words.iter().any(|word| answer.contains(word)) {
                return Ok(answer);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the stream has been loaded.
    fn loaded(&mut self) -> Result<()> {
        let status = r#"{"execute": "query-status"}"#;
        self.wait_for(status, &["\"prelaunch\"", "\"paused\""]).map(drop)
    }

    /// Makes the GIC look at everything anew: a line goes up and down.
    fn stir(&mut self) -> Result<()> {
        let list = r#"{"execute": "qom-list", "arguments": {"path": "/machine/unattached"}}"#;
        let devices = self.monitor.ask(list)?;
        let gic = devices.split('{').find(|device| device.contains("child<arm_gic>"));
        let name = gic.and_then(|gic| gic.split('"').find(|word| word.starts_with("device[")));
        let name = name.with_context(|| format!("there is no GIC among {devices}"))?;
        for level in [1, 0] {
            let wire = FREE_SPI - 32;
            let path = format!("/machine/unattached/{name}");
            let command = format!("set_irq_in {path} unnamed-gpio-in {wire} {level}\n");
            self.wires.get_mut().write_all(command.as_bytes())?;
            let mut answer = String::new();
            self.wires.read_line(&mut answer)?;
            ensure!(answer.trim() == "OK", "QEMU answers {command} with {answer}");
        }
        Ok(())
    }

    /// Saves the machine.
    fn save(mut self, path: &Path) -> Result<Vec<u8>> {
        self.loaded()?;
        let uri = format!("file:{}", path.display());
        self.monitor
            .ask(&format!(r#"{{"execute": "migrate", "arguments": {{"uri": "{uri}"}}}}"#))?;
        let done = ["\"completed\"", "\"failed\""];
        let answer = self.wait_for(r#"{"execute": "query-migrate"}"#, &done)?;
        ensure!(answer.contains("\"completed\""), "QEMU has not saved its machine: {answer}");
        read(path)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(&self.child);
    }
}

fn accept(listener: &TcpListener) -> std::io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let end = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error),
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
        }
    }
}

fn kill(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    // Where it has ended already there is nothing to kill.
    let _ = child.kill();
    let _ = child.wait();
}

const BOARD: &str = "virt,gic-version=2";

/// Returns what QEMU saves after it has loaded the stream, and looked at it.
fn through_qemu(lab: &Lab, stream: &[u8]) -> Result<Vec<u8>> {
    let incoming = lab.path("incoming");
    write(&incoming, stream)?;
    let mut machine = Stopped::start(BOARD, Some(&incoming))?;
    machine.loaded()?;
    machine.stir()?;
    machine.save(&lab.path("outgoing"))
}

/// Returns the GIC of a guest of Stasis with 4 vCPUs, made of these bytes.
fn sample(bytes: &[u8]) -> Vgic {
    let mut vgic = state(Shape { nr_irqs: 288, nr_cpus: 4, prio_bits: 5 }, bytes);
    // The interrupt's line goes up and down without a trace.
    let free = Interrupt::Shared { intid: FREE_SPI };
    vgic.set_bit(Bits::Level, free, false);
    vgic.set_bit(Bits::Edge, free, false);
    vgic
}

/// Interrupts in every state that a guest has trouble with when it is wrong.
fn vectors() -> Vgic {
    let mut vgic = sample(&[]);
    *vgic.distributor.ctlr = 3;
    for (vcpu, cpu) in vgic.cpus.iter_mut().enumerate() {
        *cpu.cc_ctlr = 0x201;
        *cpu.cc_pmr = 0xf0 - (vcpu as u8) * 0x10;
    }
    // Active: a priority of 0xa0 on vCPU 1, and on vCPU 3 an SPI that is for vCPU 0.
    vgic.set_holder(70, Some(1));
    vgic.set_priority(Interrupt::Shared { intid: 70 }, 0xa0);
    vgic.cpus[1].cc_apr[2] = 1 << 16;
    vgic.set_holder(71, Some(3));
    vgic.distributor.spi_targets[71 - 32] = 0b0001;
    vgic.set_priority(Interrupt::Shared { intid: 71 }, 0x80);
    vgic.cpus[3].cc_apr[2] = 1;
    // An SGI that is active, and pending again from two vCPUs.
    *vgic.cpus[2].priv_active = 1 << 5;
    vgic.cpus[2].sgi_active_src[5] = 3;
    vgic.cpus[2].sgi_src[5] = 0b1001;
    // A latch, and a line.
    vgic.set_bit(Bits::Latch, Interrupt::Shared { intid: 72 }, true);
    vgic.set_bit(Bits::Level, Interrupt::Shared { intid: 73 }, true);
    vgic
}

/// Returns bytes that look random (splitmix64).
fn bytes(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some((mixed ^ mixed >> 31).to_le_bytes())
    };
    std::iter::from_fn(next).take(300).flatten().collect()
}

pub fn qemu_loads_a_state_and_saves_the_same(lab: &Lab) -> Result<()> {
    let empty = Stopped::start(BOARD, None)?.save(&lab.path("empty"))?;
    let random = (0..SEEDS).map(|seed| (format!("state {seed}"), sample(&bytes(seed))));
    for (name, vgic) in [("the vectors".to_owned(), vectors())].into_iter().chain(random) {
        let mut stream = empty.clone();
        let losses = replace(&mut stream, &vgic, Backend::Tcg)?;
        let mut expected = vgic.clone();
        losses.iter().for_each(|loss| loss.apply(&mut expected));

        let saved = through_qemu(lab, &stream).context(name.clone())?;
        let section = locate(&saved)?.section(&saved)?;
        let machine = Machine::of(&vgic.distributor);
        let decoded = decode(&section, machine, Backend::Tcg)?;
        ensure!(decoded.vgic == expected, "{name} is another one after QEMU had it");
        // In it is what QEMU has derived anew: the running priorities, and what is pending for each
        // CPU.
        ensure!(
            section == locate(&stream)?.section(&stream)?,
            "{name}: QEMU has changed its section"
        );
    }
    Ok(())
}

pub fn the_gich_of_a_machine_of_qemus_is_read(lab: &Lab) -> Result<()> {
    let board = "virt,gic-version=2,virtualization=on";
    let stream = Stopped::start(board, None)?.save(&lab.path("stream"))?;
    let located = locate(&stream)?;
    ensure!(located.cpus == 4, "4 CPUs are {}", located.cpus);
    let virt = located.virt_state(&stream).context("there is no GICH")?;
    // Four CPUs' least binary points behind GICV, and nothing for the others.
    let (bpr, abpr) = (virt.bpr, virt.abpr);
    ensure!(bpr == [2, 2, 2, 2, 0, 0, 0, 0], "GICV_BPR is {bpr:?}");
    ensure!(abpr == [3, 3, 3, 3, 0, 0, 0, 0], "GICV_ABPR is {abpr:?}");
    let decoded = decode(&located.section(&stream)?, Machine::virt(4), Backend::Tcg)?;
    ensure!(decoded.vgic.cpus.len() == 4, "4 CPUs are {}", decoded.vgic.cpus.len());
    Ok(())
}
