//! The console: every input gets an answer.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stasis_guests::workload::Model;
use stasis_host::config::{Configuration, GuestConfig};
use stasis_qemu_tests::guests::{SILENCE, ticks};
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::process::Process;
use stasis_qemu_tests::stasis::{Stasis, guest};
use xtask::console::{Console, PROMPT};
use xtask::qemu::Machine;
use xtask::workspace::write;

pub fn mistyped_input_gets_an_answer(lab: &Lab) -> Result<()> {
    let mut stasis = lab.machine().guest("counter")?.disk(&lab.disk()?).boot()?;
    for (typed, word) in [
        ("chekpoint counter", "checkpoint"),
        ("checkpoint", "guest"),
        ("checkpoint nobody", "nobody"),
        ("checkpoint counter a b", "b"),
        ("checkpoint counter 17", "17"),
        ("pause", "guest"),
        ("pause nobody", "nobody"),
        ("attach 77", "77"),
        ("gic nobody", "nobody"),
        ("log nobody", "nobody"),
        ("log counter all", "all"),
        ("stop nobody", "nobody"),
        ("start nobody", "nobody"),
        ("start counter", "running"),
        ("restart nobody", "nobody"),
        ("top x", "number"),
        ("top 1 0", "number"),
        ("guests --jsno", "--jsno"),
        ("checkpoint counter,nobody", "nobody"),
        ("checkpoint counter,0", "twice"),
        ("resume counter as", "name"),
        ("resume nothing/", "no set"),
        ("delete nothing/", "no set"),
        ("resume", "number"),
        ("resume 99", "99"),
        ("resume nobody", "nobody"),
        ("resume 99999999999999999999999999", "9"),
        ("delete nobody", "nobody"),
        ("delete -1", "-1"),
        ("help me", "me"),
        ("store now", "now"),
        ("\u{1b}[A\u{1b}[Bxyzzy", "xyzzy"),
        ("unpause counter", "counter"),
    ] {
        stasis.refused_for(typed, &[word])?;
    }
    let console = &mut stasis.qemu.console;
    // What is too long or no ASCII is refused as a whole, nothing of it is carried out.
    for typed in ["quit ".repeat(2000).into_bytes(), b"guests \xff\xfe\x80".to_vec()] {
        console.send(&typed)?;
        console.send(b"\r")?;
        console.find_line("an error", SILENCE, |line| line.contains("error: ").then_some(()))?;
        console.wait_for(PROMPT, SILENCE)?;
    }
    for typed in
        [&b"\r"[..], b"   \r", b"x\x15\n", b"\x03", b"half a line\x15\r", b"\x00\x01\x02\x04\x1d\r"]
    {
        console.send(typed)?;
        console.wait_for(PROMPT, SILENCE)?;
    }
    // Typed with a mistake, and corrected.
    console.send(b"gusets\x08\x08\x08\x08\x7fuests\r")?;
    console.find_line("the counter", SILENCE, |line| line.contains("counter").then_some(()))?;
    console.find_line("ok", SILENCE, |line| (line == "ok").then_some(()))?;
    stasis.is_alive()?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut Model::new(), 3)?;
    stasis.detach()?;
    stasis.quit()
}

pub fn help_knows_every_command(lab: &Lab) -> Result<()> {
    let mut stasis = lab.machine().guest("idle")?.boot()?;
    let all = stasis.command("help")?.join("\n");
    for command in [
        "help",
        "guests",
        "pause",
        "unpause",
        "checkpoint",
        "resume",
        "delete",
        "attach",
        "store",
        "gic",
        "log",
        "dmesg",
        "start",
        "stop",
        "restart",
        "remove",
        "top",
        "cancel",
        "quit",
    ] {
        ensure!(all.contains(command), "help does not mention {command}:\n{all}");
        ensure!(!stasis.command(&format!("help {command}"))?.is_empty(), "no help for {command}");
    }
    stasis.quit()
}

pub fn a_paused_guest_stands_still(lab: &Lab) -> Result<()> {
    let mut stasis = lab.machine().guest("counter")?.boot()?;
    let mut model = Model::new();
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut model, 5)?;
    stasis.detach()?;
    stasis.command("pause counter")?;
    stasis.refused_for("pause counter", &["paused"])?;
    // What it sent before.
    stasis.attach("counter")?;
    let settled = stasis.qemu.console.wait_for("nothing", Duration::from_secs(1));
    ensure!(settled.is_err(), "counter said nothing");
    stasis.qemu.console.skip();
    let more = stasis.qemu.console.next_line(Duration::from_secs(3));
    ensure!(more.is_err(), "a paused guest says {more:?}");
    stasis.detach()?;
    stasis.command("unpause counter")?;
    stasis.attach("counter")?;
    // The guest's time stood still: it would complain had it jumped by more than five seconds, and
    // catch up had it by less.
    ticks(&mut stasis.qemu.console, &mut model, 5)?;
    stasis.detach()?;
    stasis.quit()
}

pub fn a_guests_gic_can_be_shown(lab: &Lab) -> Result<()> {
    let mut stasis = lab.machine().guest("handler")?.boot()?;
    stasis.attach("handler")?;
    stasis.qemu.console.wait_for("in handler with worse ones pending", SILENCE)?;
    stasis.detach()?;
    let running = stasis.command("gic handler")?;
    ensure!(running[1].ends_with("running: the table may be behind"), "{running:#?}");
    stasis.command("pause handler")?;
    let first = stasis.command("gic handler")?;
    let second = stasis.command("gic handler")?;
    ensure!(first == second, "a dump has side effects: {first:#?} and then {second:#?}");
    ensure!(!first[1].contains("behind"), "a paused guest's table is complete: {first:#?}");
    let text = first.join("\n").to_lowercase();
    for word in ["active", "pending", "27", "80", "virtual timer"] {
        ensure!(text.contains(word), "the dump does not mention {word}:\n{text}");
    }
    stasis.quit()
}

pub fn tab_completes_commands_guests_and_checkpoints(lab: &Lab) -> Result<()> {
    let mut stasis = lab.machine().guest("counter")?.guest("idle")?.disk(&lab.disk()?).boot()?;
    stasis.checkpoint("idle", "morning")?;
    let console = &mut stasis.qemu.console;
    for (typed, completed) in [
        ("gu\t\r", "guests "),
        ("gic co\t\r", "gic counter "),
        ("help unp\t\r", "help unpause "),
        ("resume mor\ta\tidle2\r", "resume morning as idle2"),
        ("log idl\t", "log idle"),
    ] {
        console.skip();
        console.send(typed.as_bytes())?;
        console.wait_for(completed, SILENCE)?;
        if typed.ends_with('\r') {
            console.wait_for("ok\r\n", SILENCE)?;
            console.wait_for(PROMPT, SILENCE)?;
        }
    }
    // By now there are idle and idle2.
    console.send(b"\t")?;
    console.wait_for("idle  idle2\r\nstasis> log idle", SILENCE)?;
    console.send(b"\x03")?;
    console.wait_for(PROMPT, SILENCE)?;
    stasis.quit()
}

pub fn a_guests_log_can_be_seen_attached_or_not(lab: &Lab) -> Result<()> {
    let mut stasis = lab.machine().guest("counter")?.boot()?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut Model::new(), 5)?;
    stasis.detach()?;
    let log = stasis.command("log counter 3")?;
    ensure!(log.len() == 3, "three lines were asked for: {log:#?}");
    let lines = log.iter().all(|line| line.strip_prefix("| ").is_some_and(|line| !line.is_empty()));
    ensure!(lines, "these are no lines of a log: {log:#?}");
    stasis.quit()
}

/// Returns the lines of a table for programs.
fn table(stasis: &mut Stasis, command: &str) -> Result<Vec<Value>> {
    let lines = stasis.command(command)?;
    let parse = |line: &String| {
        serde_json::from_str(line).with_context(|| format!("{command}: no JSON: {line}"))
    };
    lines.iter().map(parse).collect()
}

fn number(row: &Value, key: &str) -> Result<f64> {
    row[key].as_f64().with_context(|| format!("no number \"{key}\" in {row}"))
}

pub fn the_shares_that_top_shows_add_up(lab: &Lab) -> Result<()> {
    let mut stasis =
        lab.machine().guest("counter")?.guest("handler")?.guest("idle")?.cpus(4).boot()?;
    stasis.command("pause idle")?;
    let rows = table(&mut stasis, "top 2 --json")?;
    let millis = number(&rows[0], "milliseconds")?;
    ensure!(millis >= 2000.0, "two seconds were asked for: {millis} ms");
    let (cores, vcpus): (Vec<&Value>, Vec<&Value>) =
        rows[1..].iter().partition(|row| row["guest"].is_null());
    ensure!(cores.len() == 4 && vcpus.len() == 3, "four cores and three vCPUs: {rows:#?}");
    for core in cores {
        let here = vcpus.iter().filter(|vcpu| vcpu["core"] == core["core"]);
        let shares: Vec<f64> = here.map(|vcpu| number(vcpu, "share")).collect::<Result<_>>()?;
        let (sum, share) = (shares.iter().sum::<f64>(), number(core, "share")?);
        let rounding = 0.001 * shares.len() as f64;
        ensure!((sum - share).abs() <= rounding, "{shares:?} do not add up to {share}");
        ensure!(share <= 1.0, "more than all: {rows:#?}");
    }
    let of = |name: &str| {
        vcpus
            .iter()
            .find(|row| row["guest"] == name)
            .with_context(|| format!("no {name}: {rows:#?}"))
    };
    ensure!(number(of("idle")?, "share")? == 0.0, "a paused guest has time: {rows:#?}");
    let counter = of("counter")?;
    ensure!(number(counter, "share")? > 0.0, "counter has none: {rows:#?}");
    for key in ["interrupts", "irq", "mmio"] {
        ensure!(number(counter, key)? > 0.0, "no {key} in two seconds: {counter}");
    }
    // Since the machine was switched on, it is at least that.
    let all = table(&mut stasis, "top --json")?;
    let total = all.iter().find(|row| row["guest"] == "counter").context("no counter")?;
    for key in ["switches", "interrupts", "irq", "mmio"] {
        ensure!(number(total, key)? >= number(counter, key)?, "{key}: {total} after {counter}");
    }
    // A key ends it.
    let console = &mut stasis.qemu.console;
    console.send_line("top 1 1000")?;
    console.find_line("a table", SILENCE, |line| line.starts_with("over ").then_some(()))?;
    console.send(b"q")?;
    console.find_line("ok", SILENCE, |line| (line == "ok").then_some(()))?;
    stasis.quit()
}

/// A guest with a core for itself, which never waits: it leaves its core, or is interrupted, if
/// somebody wants it to.
pub fn a_look_at_a_guest_does_not_disturb_it(lab: &Lab) -> Result<()> {
    let spinner = GuestConfig { cores: vec![1], ..guest("spinner", 4) };
    let image = Some(lab.guest("spinner")?);
    let mut stasis = lab.machine().configured(spinner, image).cpus(2).boot()?;
    let mut left = |looks: &[&str]| -> Result<[f64; 2]> {
        for look in looks {
            stasis.command(look)?;
        }
        let rows = table(&mut stasis, "top --json")?;
        let row = rows.iter().find(|row| row["guest"] == "spinner").context("no spinner")?;
        Ok([number(row, "switches")?, number(row, "irq")?])
    };
    let before = left(&[])?;
    let after = left(&["guests", "guests --json", "top", "log spinner", "gic spinner"].repeat(5))?;
    ensure!(before == after, "[switches, irq] were {before:?}, and {after:?} after 25 looks");
    stasis.quit()
}

pub fn a_guest_is_stopped_and_started_again(lab: &Lab) -> Result<()> {
    let mut stasis = lab.machine().guest("counter")?.boot()?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut Model::new(), 5)?;
    stasis.detach()?;
    stasis.command("stop counter")?;
    stasis.refused_for("stop counter", &["off"])?;
    stasis.refused_for("unpause counter", &["off"])?;
    for again in ["start counter", "restart counter"] {
        stasis.attach("counter")?;
        stasis.detach()?;
        stasis.command(again)?;
        stasis.attach("counter")?;
        // From its first tick.
        let first = ticks(&mut stasis.qemu.console, &mut Model::new(), 1)?[0].0;
        ensure!(first < 5, "{again}: it goes on with tick {first}");
        stasis.detach()?;
    }
    stasis.quit()
}

pub fn several_guests_are_commanded_at_a_time(lab: &Lab) -> Result<()> {
    let idle = lab.guest("idle")?;
    let mut machine = lab.machine().guest("idle")?;
    for name in ["second", "third"] {
        machine = machine.configured(guest(name, 4), Some(idle.clone()));
    }
    let mut stasis = machine.boot()?;
    let states = |stasis: &mut Stasis| -> Result<Vec<String>> {
        let rows = stasis.command("guests --json")?;
        let rows = rows.iter().map(|row| Ok(serde_json::from_str::<Value>(row)?));
        let states = rows
            .map(|row: Result<Value>| Ok(row?["state"].as_str().unwrap_or_default().to_owned()));
        states.collect()
    };
    stasis.command("pause idle,2")?;
    ensure!(states(&mut stasis)? == ["paused", "running", "paused"]);
    // What one is not kept from by another is done.
    stasis.refused_for("pause idle,second", &["1 of 2", "idle", "paused"])?;
    ensure!(states(&mut stasis)? == ["paused", "paused", "paused"]);
    stasis.refused_for("pause all", &["fits no guest"])?;
    stasis.command("unpause third")?;
    stasis.command("unpause all")?;
    stasis.refused_for("stop idle,0", &["twice"])?;
    stasis.command("stop idle,third")?;
    ensure!(states(&mut stasis)? == ["off", "running", "off"]);
    stasis.command("remove all")?;
    ensure!(states(&mut stasis)? == ["running"]);
    stasis.refused_for("start second,third", &["1 of 2", "second", "running"])?;
    stasis.command("start all")?;
    ensure!(states(&mut stasis)?.len() == 3, "one that was removed is started by its name");
    stasis.command("restart all")?;
    stasis.command("stop all")?;
    ensure!(states(&mut stasis)? == ["off", "off", "off"]);
    let log = stasis.command("dmesg")?.join("\n");
    ensure!(log.contains("] Stasis ") && log.contains("guest \"second\": on core"), "{log}");
    ensure!(stasis.command("dmesg 1")?.len() == 1);
    stasis.quit()
}

pub fn the_tables_are_there_for_programs(lab: &Lab) -> Result<()> {
    let idle = guest("idle", 4);
    let mut stasis =
        lab.machine().configured(idle, Some(lab.guest("idle")?)).disk(&lab.disk()?).boot()?;
    let guests = table(&mut stasis, "guests --json")?;
    ensure!(guests.len() == 1 && guests[0]["name"] == "idle", "{guests:#?}");
    ensure!(guests[0]["memory"] == 4 << 20 && guests[0]["state"] == "running", "{guests:#?}");
    let number = stasis.checkpoint("idle", "before")?;
    let line = stasis.command("checkpoint idle after")?.pop().context("no line")?;
    let store = table(&mut stasis, "store --json")?;
    ensure!(store[0]["number"] == number && store[0]["name"] == "before", "{store:#?}");
    let pages = store[1]["pages"].as_u64().context("its pages are not known")?;
    ensure!(line.contains(&format!(" {pages} pages stored")), "{pages} pages, but: {line}");
    ensure!(store[2]["free"].is_number(), "{store:#?}");
    stasis.quit()
}

/// A guest that has Stasis say sixteen lines within some seconds, and the table for programs that
/// is made meanwhile.
pub fn an_answer_is_one_piece_whatever_the_log_says_meanwhile(lab: &Lab) -> Result<()> {
    let mut stasis = lab.machine().guest("fragile")?.boot()?;
    stasis.attach("fragile")?;
    stasis.qemu.console.wait_for("step 3", SILENCE)?;
    stasis.qemu.console.send(b"s")?;
    stasis.detach()?;
    table(&mut stasis, "top 4 --json")?;
    // What has waited for `ok`: some of the lines, however slow the machine is.
    let waited = stasis.qemu.console.wait_for(PROMPT, SILENCE)?;
    let lines = waited.lines().filter(|line| line.contains("which nothing there can answer"));
    ensure!(lines.count() > 0, "nothing came while the table was made: {waited}");
    // Nothing is lost.
    stasis.attach("fragile")?;
    stasis.qemu.console.wait_for("\n0 strays are left", SILENCE)?;
    stasis.detach()?;
    let all = stasis.qemu.console.transcript();
    let lines = all.lines().filter(|line| line.contains("which nothing there can answer"));
    ensure!(lines.count() == 16, "a line for each of sixteen pages: {all}");
    stasis.quit()
}

/// Types two lines at once, of which the second gives up the first: the first one's error, and
/// whether the second one was answered `ok`.
fn cancelled(stasis: &mut Stasis, command: &str) -> Result<(String, bool)> {
    let console = &mut stasis.qemu.console;
    console.send(format!("{command}\rcancel\r").as_bytes())?;
    let last = |line: &str| (line == "ok" || line.starts_with("error: ")).then(|| line.to_owned());
    let first = console.find_line("an answer", SILENCE, last)?;
    let second = console.find_line("the answer to cancel", SILENCE, last)?;
    Ok((first, second == "ok"))
}

pub fn what_takes_long_can_be_given_up_and_changes_nothing(lab: &Lab) -> Result<()> {
    const GIVEN_UP: &str = "given up; nothing has changed";
    let mut stasis = lab.machine().guest("counter")?.disk(&lab.disk()?).boot()?;
    let mut model = Model::new();
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut model, 3)?;
    stasis.detach()?;
    let good = stasis.checkpoint("counter", "good")?;
    ensure!(good == 1, "the first checkpoint is {good}");
    let before = stasis.command("store --json")?;
    // Each fits into the UART's FIFO of 16 bytes: so what gives the command up has come when it
    // begins.
    for command in ["checkpoint 0 x", "checkpoint all"] {
        stasis.qemu.console.send(format!("{command}\r\x03").as_bytes())?;
        let last = |line: &str| {
            (line == "ok").then(String::new).or(line.strip_prefix("error: ").map(str::to_owned))
        };
        let why = stasis.qemu.console.find_line("an error", SILENCE, last)?;
        ensure!(why == GIVEN_UP, "\"{command}\" was given up: {why}");
    }
    for command in ["resume 1 --whole", "resume 1 as t --whole"] {
        let answers = cancelled(&mut stasis, command)?;
        ensure!(answers == (format!("error: {GIVEN_UP}"), true), "by a program: {answers:?}");
    }
    ensure!(cancelled(&mut stasis, "top 999")? == ("ok".to_owned(), true), "top ends early");
    ensure!(cancelled(&mut stasis, "guests")? == ("ok".to_owned(), false), "it was too late");
    stasis.refused_for("cancel", &["no command"])?;
    // The store and the machine are as they were, and the guest has lost nothing.
    ensure!(stasis.command("store --json")? == before, "the store has changed");
    ensure!(stasis.command("guests --json")?.len() == 1, "there is another guest");
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut model, 3)?;
    stasis.detach()?;
    stasis.resume(good)?;
    stasis.quit()
}

pub fn a_tool_at_a_socket_of_qemus_is_a_terminal_of_stasis(lab: &Lab) -> Result<()> {
    let counter = Configuration { guests: vec![guest("counter", 64)], ..Default::default() };
    let archive = lab.path("counter.cpio");
    write(&archive, &xtask::archive::pack(&counter, &[("counter", &lab.guest("counter")?)])?)?;
    // A socket's path must be shorter than 108 bytes, wherever the project lies.
    let socket = std::env::temp_dir().join(format!("stasis-serial-{}", std::process::id()));
    let mut qemu = Machine::stasis(&Built::get()?.image, Some(&archive)).command();
    qemu.args(["-display", "none", "-monitor", "none", "-serial"])
        .arg(format!("unix:{},server=on,wait=on", socket.display()))
        .stderr(Stdio::null());
    let mut qemu = Process(qemu.spawn().context("cannot start QEMU")?);
    let end = Instant::now() + SILENCE;
    while !socket.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut tool = Command::new(std::env::current_exe()?)
        .env(crate::AS_TOOL, "1")
        .arg("console")
        .arg(format!("unix:{}", socket.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start the tool")?;
    let (output, input) = (tool.stdout.take(), tool.stdin.take());
    let mut tool = Process(tool);
    let (output, input) = output.zip(input).context("the tool has no pipes")?;
    let mut console = Console::new(output, input, false);
    console.wait_for(PROMPT, SILENCE)?;
    let guests = console.command("guests")?;
    ensure!(guests.iter().any(|line| line.contains("counter")), "{guests:?}");
    console.send_line("attach counter")?;
    ticks(&mut console, &mut Model::new(), 3)?;
    console.detach()?;
    console.send_line("quit")?;
    ensure!(qemu.0.wait()?.success(), "QEMU has failed");
    // The machine has ended, and not the person.
    let status = tool.0.wait()?;
    ensure!(status.code() == Some(1), "the tool ends with {status}");
    Ok(())
}
