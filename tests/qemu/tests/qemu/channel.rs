//! The channel for programs: requests, streams and events, beside a person at the console.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use stasis_channel::shared::WAKE;
use stasis_channel::{Frame, Kind, Reader};
use stasis_client::{Client, Error, Message, Options, Part, Status, Target};
use stasis_guests::workload::Model;
use stasis_host::config::GuestConfig;
use stasis_qemu_tests::guests::{SILENCE, numbers, ticks};
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::process::{Process, wait_until};
use stasis_qemu_tests::stasis::{Stasis, guest};
use xtask::qemu::{ChannelSocket, Machine};

/// Sends SIGINT to a tool, as Ctrl-C does, and checks that it ends as one that was given up.
fn interrupt(tool: &mut Process) -> Result<()> {
    kill(Pid::from_raw(tool.0.id() as i32), Signal::SIGINT)?;
    let status = tool.0.wait()?;
    ensure!(status.code() == Some(6), "a tool that was given up ends with {status}");
    Ok(())
}

/// Returns a session with a machine.
pub fn client(socket: &ChannelSocket, events: bool) -> Result<Client> {
    let target: Target = socket.target().parse().map_err(anyhow::Error::msg)?;
    let options = Options { events, patience: SILENCE, ..Options::default() };
    Ok(Client::connect(&target, options)?)
}

/// Returns the command `stasis`, with the machine's channel in its environment.
pub fn tool(socket: &ChannelSocket, words: &[&str]) -> Result<Command> {
    let mut tool = Command::new(std::env::current_exe()?);
    tool.env(crate::AS_TOOL, "1").env("STASIS_TO", socket.target()).args(words);
    Ok(tool)
}

/// Runs `stasis ctl`.
fn ctl(socket: &ChannelSocket, words: &[&str]) -> Result<Output> {
    tool(socket, &[&["ctl", "--patience", "60"], words].concat())?
        .output()
        .context("cannot start the tool")
}

/// Returns what `stasis ctl` prints, which must succeed.
fn said(socket: &ChannelSocket, words: &[&str]) -> Result<String> {
    let output = ctl(socket, words)?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{words:?} ends with {}: {err}", output.status);
    Ok(out)
}

/// Checks that `stasis ctl` ends with this code, and with one line that has this word.
fn fails(socket: &ChannelSocket, words: &[&str], code: i32, word: &str) -> Result<()> {
    let output = ctl(socket, words)?;
    let err = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{words:?} ends with {}: {err}", output.status);
    ensure!(err.lines().count() == 1 && err.contains(word), "{words:?} says {err:?}");
    Ok(())
}

pub fn requests_are_answered_beside_a_person_at_a_guest(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let machine = lab.machine().guest("counter")?.disk(&lab.disk()?).channel(&socket);
    let mut stasis = machine.boot()?;
    let mut model = Model::new();
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut model, 3)?;
    let row: Value = serde_json::from_str(said(&socket, &["--json", "guests"])?.trim())?;
    ensure!(row["name"] == "counter" && row["state"] == "running", "{row}");
    said(&socket, &["checkpoint", "counter", "one"])?;
    ensure!(said(&socket, &["store"])?.contains("one"), "the store has no checkpoint");
    fails(&socket, &["pause", "nobody"], 1, "no guest \"nobody\"")?;
    fails(&socket, &["gusets"], 2, "did you mean \"guests\"")?;
    fails(&socket, &["wait", "cow=off"], 2, "cow=off")?;
    fails(&socket, &["--timeout", "1", "top", "60"], 7, "given up")?;
    fails(&socket, &["--timeout", "1", "wait", "guest=counter", "state=off"], 7, "in vain")?;
    let example = Built::get()?.workspace.root().join("examples/guests.py");
    let listed = Command::new("python3").arg(example).arg(socket.path()).output()?;
    ensure!(listed.status.success(), "guests.py: {listed:?}");
    ensure!(String::from_utf8(listed.stdout)?.contains("\"name\":\"counter\""), "no counter");
    ticks(&mut stasis.qemu.console, &mut model, 3)?;
    stasis.detach()?;
    // The machine ends in the midst of a request.
    let mut client = client(&socket, false)?;
    ensure!(client.machine().starts_with("Stasis "), "{}", client.machine());
    client.request("top 60")?;
    stasis.kill()?;
    match client.next(Some(Instant::now() + SILENCE)) {
        Err(error @ (Error::Closed | Error::Lost(_))) => ensure!(error.exit_code() == 4),
        other => bail!("the machine has ended, and there is {other:?}"),
    }
    Ok(())
}

pub fn lists_and_a_wish_to_give_up_are_heard_during_a_checkpoint(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let machine = lab.machine().guest("pages")?.disk(&lab.disk()?).channel(&socket);
    let stasis = machine.boot()?;
    let mut client = client(&socket, true)?;
    let stored = client.request("checkpoint pages one")?;
    let list = client.request("guests --json")?;
    let mut order = Vec::new();
    let mut events: Vec<String> = Vec::new();
    // The guest may be new to who has come so early, which is an event, too.
    let is_of_checkpoint = |event: &&String| event.contains("\"event\":\"checkpoint\"");
    let end = Instant::now() + 4 * SILENCE;
    while order.len() < 2 {
        match client.next(Some(end))?.context("no end")? {
            Message::Done { id, status, .. } => order.push((id, status)),
            Message::Event(event) => events.push(event),
            _ => {}
        }
    }
    ensure!(order.contains(&(stored, Status::Done)) && order.contains(&(list, Status::Done)));
    while !events.iter().any(|event| is_of_checkpoint(&event)) {
        if let Message::Event(event) = client.next(Some(end))?.context("no event")? {
            events.push(event);
        }
    }
    let event = events.iter().find(is_of_checkpoint).context("no checkpoint")?;
    let event: Value = serde_json::from_str(event)?;
    ensure!(event["name"] == "one", "{event}");
    // Given up as soon as it says how far it is, or before.
    let mut parts = 0;
    let given_up = client.ask("checkpoint pages two", &mut |part| {
        parts += usize::from(matches!(part, Part::Progress { .. }));
        false
    });
    match given_up {
        Err(Error::Refused { status: Status::GivenUp, .. }) => {}
        // The host was slow.
        Ok(()) => {}
        Err(error) => return Err(error.into()),
    }
    drop(client);
    stasis.quit()
}

pub fn what_happens_to_a_guest_is_told_to_who_waits(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let mut stasis = lab.machine().guest("counter")?.channel(&socket).boot()?;
    let mut waits =
        Process(tool(&socket, &["ctl", "wait", "guest=counter", "state=paused"])?.spawn()?);
    // A second tool is told that there is a first one.
    std::thread::sleep(Duration::from_secs(2));
    let second = tool(&socket, &["ctl", "--patience", "1", "guests"])?.output()?;
    let why = String::from_utf8_lossy(&second.stderr);
    ensure!(second.status.code() == Some(3) && why.contains("another tool"), "{why}");
    stasis.command("pause counter")?;
    ensure!(waits.0.wait()?.success(), "the tool waits in vain");
    said(&socket, &["wait", "guest=counter", "state=paused"])?;
    let mut client = client(&socket, true)?;
    stasis.command("unpause counter")?;
    stasis.command("stop counter")?;
    let mut states = Vec::new();
    while states.last() != Some(&"off".to_owned()) {
        let message = client.next(Some(Instant::now() + SILENCE))?.context("no event")?;
        if let Message::Event(event) = message {
            let event: Value = serde_json::from_str(&event)?;
            states.extend(event["state"].as_str().map(str::to_owned));
        }
    }
    drop(client);
    stasis.quit()
}

pub fn what_guests_send_goes_to_files_and_a_shell_is_offered_their_names(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let machine = lab.machine().guest("counter")?.guest("idle")?.disk(&lab.disk()?);
    let mut stasis = machine.channel(&socket).boot()?;
    stasis.checkpoint("idle", "morning")?;
    let folder = lab.path("output");
    let path = folder.to_str().context("a folder with a strange name")?;
    fails(&socket, &["output", path, "nobody"], 1, "nobody")?;
    said(&socket, &["--timeout", "3", "output", path, "counter"])?;
    let log = std::fs::read_to_string(folder.join("counter.log"))?;
    ensure!(log.lines().count() > 3 && !folder.join("idle.log").exists(), "{log}");
    // A terminal that ends with its input has a log, too.
    let mut attach = tool(&socket, &["attach", "counter", "--log"])?;
    let logged = lab.path("attached.log");
    let attached = attach.arg(&logged).stdin(Stdio::null()).output()?;
    ensure!(attached.status.success() && std::fs::read(&logged)? == attached.stdout);
    // The host's disk is full: there is no half of a file, and the machine goes on.
    let script = "trap '' XFSZ; ulimit -f 4; exec \"$0\" ctl --patience 60 get morning \"$1\"";
    let mut full = Command::new("bash");
    full.env(crate::AS_TOOL, "1").env("STASIS_TO", socket.target()).args(["-c", script]);
    let got = full.arg(std::env::current_exe()?).arg(lab.path("got")).output()?;
    let why = String::from_utf8_lossy(&got.stderr);
    ensure!(got.status.code() == Some(1) && why.contains("File too large"), "{why}");
    ensure!(!lab.path("got").exists(), "there is a file");
    let whole = lab.path("whole");
    said(&socket, &["get", "morning", whole.to_str().context("a folder with a strange name")?])?;
    let mut full = tool(&socket, &["attach", "counter", "--log", "/dev/full"])?;
    let full = full.stdin(Stdio::null()).output()?;
    ensure!(String::from_utf8_lossy(&full.stderr).contains("No space left"), "it is not told");
    for (words, offered) in [
        (&["attach", "co"][..], "counter"),
        (&["ctl", "--patience", "60", "pause", "idle,c"], "idle,counter"),
        (&["ctl", "get", "mo"], "morning"),
        (&["ctl", "ou"], "output"),
        (&["ctl", "gue"], "guests"),
    ] {
        let mut shell = tool(&socket, &[&["--", "stasis"], words].concat())?;
        let index = words.len().to_string();
        shell.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", index);
        shell.env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_COMP_TYPE", "9");
        let said = String::from_utf8(shell.output()?.stdout)?;
        ensure!(said.trim() == offered, "{words:?}: {said:?}");
    }
    ensure!(offered_by_bash(lab, &socket)? == "counter", "bash offers something else");
    stasis.quit()
}

/// Returns what bash offers for `stasis attach --to unix:PATH co`, whose words it has parted at the
/// colon.
fn offered_by_bash(lab: &Lab, socket: &ChannelSocket) -> Result<String> {
    let folder = lab.path("bin");
    std::fs::create_dir_all(&folder)?;
    std::os::unix::fs::symlink(std::env::current_exe()?, folder.join("stasis"))?;
    let script = "PATH=$0:$PATH; source <(stasis completions bash); COMP_TYPE=9; COMP_CWORD=6
        COMP_WORDS=(stasis attach --to unix : \"$1\" co); _stasis_joined stasis co \"$1\"; echo \"${COMPREPLY[0]}\"";
    let mut bash = Command::new("bash");
    bash.env(crate::AS_TOOL, "1").args(["-c", script]).arg(&folder).arg(socket.path());
    let said = bash.output().context("cannot start bash")?;
    Ok(String::from_utf8(said.stdout)?.trim().to_owned())
}

pub fn a_window_that_is_missed_is_told(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let mut stasis = lab
        .machine()
        .guest("counter")?
        .guest("spinner")?
        .disk(&lab.disk()?)
        .channel(&socket)
        .cpus(1)
        .cpu("cortex-a57,cntfrq=1000000000")
        .counting_instructions(0)
        .boot()?;
    // A tenth of the window is 5 us. What the console does at a time takes longer, and it has the
    // core when the window begins.
    stasis.command("windows 0 1ms spinner:0us:50us")?;
    let mut client = client(&socket, true)?;
    let event = 'told: loop {
        stasis.command("checkpoint counter")?;
        let end = Instant::now() + Duration::from_secs(2);
        while let Some(message) = client.next(Some(end))? {
            if let Message::Event(event) = message
                && event.contains("\"window\"")
            {
                break 'told serde_json::from_str::<Value>(&event)?;
            }
        }
    };
    drop(client);
    ensure!(event["guest"] == "spinner" && event["core"] == 0, "{event}");
    ensure!(event["missed"].as_u64() > Some(0) && event["late_us"].as_u64() > Some(4), "{event}");
    let windows: Value = serde_json::from_str(&stasis.command("windows --json")?.join(""))?;
    ensure!(windows["missed"].as_u64() >= event["missed"].as_u64(), "{windows}");
    println!("{event} {windows}");
    stasis.quit()
}

pub fn two_at_a_guests_terminal_see_the_same_beside_the_console(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let mut stasis = lab.machine().guest("counter")?.channel(&socket).boot()?;
    stasis.attach("counter")?;
    let mut client = client(&socket, false)?;
    let streams = [client.open("attach counter")?, client.open("attach counter")?];
    let mut seen = [Vec::new(), Vec::new()];
    let end = Instant::now() + SILENCE;
    while seen.iter().any(|seen| seen.len() < 400) {
        match client.next(Some(end))?.context("the guest says nothing")? {
            Message::Data { id, bytes } if id == streams[0] => seen[0].extend(bytes),
            Message::Data { id, bytes } if id == streams[1] => seen[1].extend(bytes),
            _ => {}
        }
    }
    ensure!(seen[0][..400] == seen[1][..400], "{:?}", String::from_utf8_lossy(&seen[0]));
    ticks(&mut stasis.qemu.console, &mut Model::new(), 3)?;
    stasis.detach()?;
    client.cancel(streams[0])?;
    client.cancel(streams[1])?;
    ensure!(client.answer("guests")?.contains("counter"), "no answer");
    drop(client);
    stasis.quit()
}

pub fn who_is_attached_gets_the_last_words_of_a_guest_that_is_removed(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let mut stasis = lab.machine().guest("chatter")?.channel(&socket).boot()?;
    let mut client = client(&socket, false)?;
    let id = client.open("attach chatter")?;
    // QEMU stands still if nobody takes what it sends.
    let reader = std::thread::spawn(move || -> Result<Vec<u8>> {
        let mut seen = Vec::new();
        loop {
            match client.next(Some(Instant::now() + SILENCE))?.context("the stream has no end")? {
                Message::Data { id: of, bytes } if of == id => seen.extend(bytes),
                Message::Done { id: of, .. } if of == id => return Ok(seen),
                _ => {}
            }
        }
    });
    while last_number(&mut stasis)? < 100 {}
    stasis.command("stop chatter")?;
    let last = format!("line {}", last_number(&mut stasis)?);
    stasis.command("remove chatter")?;
    let seen = reader.join().map_err(|_| anyhow::anyhow!("the reader has panicked"))??;
    let end = String::from_utf8_lossy(&seen[seen.len().saturating_sub(40)..]).into_owned();
    ensure!(end.contains(&last), "{} bytes, {end:?} is before {last}", seen.len());
    stasis.quit()
}

/// Returns the number of the last whole line that `chatter` has sent.
fn last_number(stasis: &mut Stasis) -> Result<u64> {
    let lines = stasis.command("log chatter 2")?;
    Ok(lines.first().and_then(|line| numbers(line).first().copied()).unwrap_or(0))
}

pub fn many_tools_share_a_session(lab: &Lab) -> Result<()> {
    let (socket, shared) = (ChannelSocket::new()?, ChannelSocket::new()?);
    let stasis = lab.machine().guest("counter")?.channel(&socket).boot()?;
    let listen = shared.path().display().to_string();
    let _connect = Process(tool(&socket, &["connect", "--listen", &listen])?.spawn()?);
    let end = Instant::now() + SILENCE;
    while !shared.path().exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut waits =
        Process(tool(&shared, &["ctl", "wait", "guest=counter", "state=paused"])?.spawn()?);
    let mut attached = client(&shared, false)?;
    let id = attached.open("attach counter")?;
    let mut seen = 0;
    while seen < 200 {
        match attached.next(Some(Instant::now() + SILENCE))?.context("the guest says nothing")? {
            Message::Data { id: of, bytes } if of == id => seen += bytes.len(),
            _ => {}
        }
    }
    // Both have a request of this id.
    let mut other = client(&shared, false)?;
    ensure!(other.answer("guests")?.contains("running"), "no list");
    ensure!(attached.answer("help")?.contains("checkpoint"), "no help");
    let record = lab.path("record").display().to_string();
    let words = ["top", "--seconds", "4", "--record", &record];
    ensure!(tool(&shared, &words)?.output()?.status.success(), "top has failed");
    let recorded = std::fs::read_to_string(&record)?;
    for part in ["\"milliseconds\"", "\"guests\"", "\"changed\":"] {
        ensure!(recorded.contains(part), "no {part} in {recorded}");
    }
    on_a_full_disk(&shared, &lab.path("cut"))?;
    ensure!(other.answer("pause counter").is_ok(), "no pause");
    ensure!(waits.0.wait()?.success(), "the tool waits in vain");
    drop((attached, other));
    stasis.quit()
}

/// Records on a disk that is full after 2 KiB, and makes a page of what is there.
fn on_a_full_disk(socket: &ChannelSocket, record: &Path) -> Result<()> {
    let script = "trap '' XFSZ; ulimit -f 2; exec \"$0\" top --seconds 60 --record \"$1\"";
    let mut full = Command::new("bash");
    full.env(crate::AS_TOOL, "1").env("STASIS_TO", socket.target()).args(["-c", script]);
    let full = full.arg(std::env::current_exe()?).arg(record).output()?;
    let why = String::from_utf8_lossy(&full.stderr);
    ensure!(full.status.code() == Some(1) && why.lines().count() == 1, "{why}");
    ensure!(why.contains("File too large") && why.contains(&*record.to_string_lossy()), "{why}");
    ensure!(std::fs::metadata(record)?.len() == 2048, "the disk was not full");
    let page = record.with_extension("html");
    let made = tool(socket, &["report"])?.arg(record).arg("-o").arg(&page).output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let page = std::fs::read_to_string(page)?;
    ensure!(page.contains("core 0") && page.contains("1 lines are nothing of a record"), "{page}");
    Ok(())
}

pub fn a_checkpoint_is_fetched_and_sent_back_while_the_machine_runs(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let machine = lab.machine().guest("idle")?.disk(&lab.disk()?).channel(&socket);
    let mut stasis = machine.boot()?;
    stasis.checkpoint("idle", "one")?;
    let (file, none) = (lab.path("one.stasis"), lab.path("none.stasis"));
    let (path, none) = (file.display().to_string(), none.display().to_string());
    said(&socket, &["get", "one", &path])?;
    said(&socket, &["put", &path, "two"])?;
    fails(&socket, &["get", "nothing", &none], 1, "nothing")?;
    ensure!(!Path::new(&none).exists(), "a file of nothing");
    stasis.command("resume two as copy")?;
    fails(&socket, &["put", &path, "-"], 1, "name")?;
    // What is no checkpoint is refused by the machine, too, and what ends early.
    let mut client = client(&socket, false)?;
    for (length, sent) in [(100, 100), (100, 50)] {
        let id = client.open(&format!("put junk {length}"))?;
        while client.room(id) == 0 {
            client.next(Some(Instant::now() + SILENCE))?.context("no room")?;
        }
        client.write(id, &vec![7; sent])?;
        client.end(id)?;
        loop {
            match client.next(Some(Instant::now() + SILENCE))?.context("no end")? {
                Message::Done { status: Status::Failed, .. } => break,
                Message::Done { status, why, .. } => bail!("{status:?}: {why}"),
                _ => {}
            }
        }
    }
    ensure!(!client.answer("store")?.contains("junk"), "junk is stored");
    drop(client);
    stasis.quit()
}

pub fn ctrl_c_gives_up_what_a_tool_has_asked_for(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    // All its pages have content after some waves: 6 MiB, which are on their way for far longer
    // than a tool needs to be given up.
    let config = GuestConfig { vcpus: 2, ..guest("waves", 32) };
    let machine = lab.machine().configured(config, Some(lab.guest("waves")?));
    let mut stasis = machine.disk(&lab.disk()?).channel(&socket).boot()?;
    stasis.attach("waves")?;
    stasis.qemu.console.wait_for("waves ", SILENCE)?;
    stasis.detach()?;
    stasis.checkpoint("waves", "one")?;
    let words = ["ctl", "--patience", "60"];
    let (file, begun) = (lab.path("got"), |path: &Path| Ok(path.read_dir()?.count() > 0));
    std::fs::create_dir(&file)?;
    let path = file.join("one.stasis").display().to_string();
    let mut get = Process(tool(&socket, &[&words[..], &["get", "one", &path]].concat())?.spawn()?);
    wait_until("a file was begun", || begun(&file))?;
    interrupt(&mut get)?;
    ensure!(!begun(&file)?, "half of a file is left");
    // The machine has given it up: the next tool is answered, and the console is not waited for.
    said(&socket, &["guests"])?;
    let mut top = tool(&socket, &[&words[..], &["top", "1", "3600"]].concat())?;
    let mut top = Process(top.stdout(Stdio::piped()).spawn()?);
    // The first of many tables. The pipe stays open: that nobody reads is another end.
    let mut tables = BufReader::new(top.0.stdout.take().context("no pipe")?);
    ensure!(tables.read_line(&mut String::new())? > 0, "no table comes");
    interrupt(&mut top)?;
    ensure!(!said(&socket, &["store"])?.is_empty());
    stasis.quit()
}

pub fn noise_and_other_versions_are_answered_or_dropped(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let mut stasis = lab.machine().guest("counter")?.channel(&socket).boot()?;
    let mut line = UnixStream::connect(socket.path())?;
    line.set_read_timeout(Some(SILENCE))?;
    // A request without a session, noise, endless bytes, and a hello of versions 2 to 9.
    line.write_all(&[
        0, 3, 2, 1, 11, b'g', b'u', b'e', b's', b't', b's', 0xa7, 0x21, 0x86, 0xf8, 0,
    ])?;
    let noise: Vec<u8> = (0..20_000u32).map(|n| ((n * n) >> 3) as u8).collect();
    line.write_all(&noise)?;
    let mut hello = vec![0];
    let hello_frame = Frame { kind: Kind::Hello, id: 0, payload: &[2, 9, 0, 5, 6, 7, 8] };
    hello_frame.write(&mut |bytes| hello.extend_from_slice(bytes));
    line.write_all(&hello)?;
    let (mut reader, mut byte) = (Reader::new(), [0]);
    loop {
        line.read_exact(&mut byte).context("no answer to a hello of another version")?;
        if let Some(Ok(frame)) = reader.push(byte[0]) {
            let expected = Frame { kind: Kind::Refused, id: 0, payload: &[1, 1, 5, 6, 7, 8] };
            ensure!(frame == expected, "{frame:?}");
            break;
        }
    }
    drop(line);
    ensure!(said(&socket, &["guests"])?.contains("counter"), "no answer");
    stasis.is_alive()?;
    stasis.quit()
}

pub fn the_consoles_line_is_the_channels_while_a_client_has_it(lab: &Lab) -> Result<()> {
    let archive = lab.path("counter.cpio");
    let counter = stasis_host::config::Configuration {
        guests: vec![guest("counter", 64)],
        ..Default::default()
    };
    let packed = xtask::archive::pack(&counter, &[("counter", &lab.guest("counter")?)])?;
    xtask::workspace::write(&archive, &packed)?;
    let socket = ChannelSocket::new()?;
    let mut qemu = Machine::stasis(&Built::get()?.image, Some(&archive)).command();
    qemu.args(["-display", "none", "-monitor", "none", "-serial"])
        .arg(format!("unix:{},server=on,wait=off", socket.path().display()))
        .stderr(Stdio::null());
    let mut qemu = Process(qemu.spawn().context("cannot start QEMU")?);
    let end = Instant::now() + SILENCE;
    while !socket.path().exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    // Before the machine is up, a hello is lost; another one comes.
    // In the hello, 8 bytes of a name stand behind a code that is a carriage return.
    let name = "a client".to_owned();
    let target: Target = socket.target().parse().map_err(anyhow::Error::msg)?;
    let options = Options { name, patience: 2 * SILENCE, ..Options::default() };
    let mut client = Client::connect(&target, options)?;
    ensure!(client.answer("guests")?.contains("counter"), "no answer");
    let id = client.open("attach counter")?;
    let mut seen = Vec::new();
    while seen.len() < 200 {
        match client.next(Some(Instant::now() + SILENCE))?.context("the guest says nothing")? {
            Message::Data { id: of, bytes } if of == id => seen.extend(bytes),
            _ => {}
        }
    }
    drop(client);
    // The console is as it was.
    let mut line = UnixStream::connect(socket.path())?;
    line.set_read_timeout(Some(SILENCE))?;
    // A line that was begun before a client came is shown again and not carried out, and what comes
    // right behind the client is the console's.
    let mut all = [&b"remove counter"[..], &WAKE].concat();
    for (kind, payload) in [(Kind::Hello, &[1, 1, 0, 5, 6, 7, 8][..]), (Kind::Bye, &[])] {
        Frame { kind, id: 0, payload }.write(&mut |bytes| all.extend_from_slice(bytes));
    }
    all.extend(b"\x15guests\rquit\r");
    line.write_all(&all)?;
    let mut text = Vec::new();
    line.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    ensure!(text.matches("remove counter").count() == 2, "{text}");
    ensure!(text.contains("guests\r\n") && text.contains("running"), "{text}");
    ensure!(qemu.0.wait()?.success(), "QEMU has failed");
    Ok(())
}

pub fn raspi4_has_its_channel_on_the_mini_uart(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let stasis = lab.machine().raspi4()?.no_archive().channel(&socket).boot()?;
    ensure!(said(&socket, &["guests"])?.contains("no guests"), "no answer");
    stasis.quit()
}
