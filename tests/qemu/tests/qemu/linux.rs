//! An unmodified Linux.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use stasis_host::config::Policy;
use stasis_qemu_tests::guests::is_log;
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::{Conversation, Setup, Stasis, guest};
use xtask::console::Console;
use xtask::initramfs::{self, Loop};
use xtask::monitor::Socket;
use xtask::setup;
use xtask::workspace::read;

/// The longest time until the shell's prompt. A Raspberry Pi's four cores on a host that does other
/// things, too, take minutes.
pub const BOOT_TIME: Duration = Duration::from_secs(600);
/// The longest time until a command's output.
const SHELL_TIME: Duration = Duration::from_secs(120);

/// Returns a machine whose guest is Linux with this many vCPUs.
pub fn machine<'l>(lab: &'l Lab, vcpus: u8) -> Result<Setup<'l>> {
    let workspace = &Built::get()?.workspace;
    let mut config = guest("linux", 256);
    config.vcpus = vcpus;
    config.initrd = Some("initramfs".to_owned());
    config.cmdline = "console=ttyAMA0".to_owned();
    let kernel = read(&setup::guests::ensure(workspace)?.kernel)?;
    Ok(lab
        .machine()
        .file("initramfs", initramfs::make(workspace)?)
        .configured(config, Some(kernel)))
}

/// Types a command for the shell: what it prints.
pub fn shell(stasis: &mut impl Conversation, command: &str) -> Result<Vec<String>> {
    shell_at(stasis.console(), command)
}

/// Types a command for the shell at `console`: what it prints.
fn shell_at(console: &mut Console, command: &str) -> Result<Vec<String>> {
    shell_within(console, command, SHELL_TIME)
}

/// Does the work of [`shell_at`] for a command that may take so long.
pub fn shell_within(console: &mut Console, command: &str, time: Duration) -> Result<Vec<String>> {
    console.send_line(&format!("{command}; echo end of $((6 * 7))"))?;
    let mut lines = Vec::new();
    console.find_line("the end of a command's output", time, |line| {
        if line == "end of 42" {
            return Some(());
        }
        lines.push(line.to_owned());
        None
    })?;
    // The first is the echo.
    lines.retain(|line| !line.contains("echo end of"));
    Ok(lines)
}

/// Boots a Linux, has its shell run `loop` for some steps, stores the guest under a name, and ends
/// the machine. Returns the checkpoint's number and the last step that was seen.
pub fn store_in_its_loop(
    setup: Setup<'_>,
    hashes: &mut Loop,
    steps: u64,
    name: &str,
) -> Result<(u64, u64)> {
    let mut stasis = setup.boot()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
    look_at_dmesg(&mut stasis)?;
    stasis.qemu.console.send_line("loop &")?;
    let last = watch(&mut stasis, hashes, 0, steps)?;
    stasis.detach()?;
    let number = stasis.checkpoint("linux", name)?;
    stasis.kill()?;
    Ok((number, last))
}

/// Returns what `loop` prints, `count` times: the last step.
pub fn watch(
    stasis: &mut impl Conversation,
    hashes: &mut Loop,
    after: u64,
    count: u64,
) -> Result<u64> {
    let mut last = after;
    for _ in 0..count {
        let (step, hash) =
            stasis.console().find_line("a step of the loop", SHELL_TIME, |line| {
                initramfs::parse(line).map(|(step, hash)| (step, hash.to_owned()))
            })?;
        ensure!(step > last && step < last + 200, "step {step} does not follow {last}");
        let expected = hashes.hash_at(step).context("the steps go backwards")?;
        ensure!(hash == expected, "the hash of step {step} is {hash} and should be {expected}");
        last = step;
    }
    Ok(last)
}

/// Makes sure that the kernel has come up without complaints, and forgets what it has said.
pub fn look_at_dmesg(stasis: &mut impl Conversation) -> Result<()> {
    for line in shell(stasis, "dmesg")? {
        for word in ["WARNING", "BUG", "Oops", "Unhandled", "stall", "rcu: INFO", "Failed to"] {
            ensure!(!line.contains(word), "dmesg says \"{line}\"");
        }
    }
    shell(stasis, "dmesg -c > /dev/null").map(drop)
}

/// Makes sure that the kernel has said nothing since [`look_at_dmesg`].
pub fn dmesg_is_silent(stasis: &mut impl Conversation) -> Result<()> {
    let mut complaints = shell(stasis, "dmesg")?;
    // A host that has fewer cores than the machine keeps one of the machine's waiting.
    complaints.retain(|line| is_log(line) && !line.contains("hrtimer: interrupt took"));
    ensure!(complaints.is_empty(), "dmesg complains: {complaints:#?}");
    Ok(())
}

fn date(stasis: &mut Stasis) -> Result<u64> {
    let lines = shell(stasis, "date +%s")?;
    lines
        .iter()
        .find_map(|line| line.trim().parse().ok())
        .with_context(|| format!("date says {lines:?}"))
}

pub fn linux_goes_on_in_another_machine(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut hashes = Loop::new();
    let mut stasis = machine(lab, 1)?.disk(&disk).boot()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
    look_at_dmesg(&mut stasis)?;
    let before_date = date(&mut stasis)?;
    stasis.qemu.console.send_line("loop &")?;
    let before = watch(&mut stasis, &mut hashes, 0, 20)?;
    stasis.detach()?;
    let number = stasis.checkpoint("linux", "in-the-loop")?;
    stasis.kill()?;

    // Long enough for a watchdog to bark, and for a clock that ran on to show it.
    std::thread::sleep(Duration::from_secs(10));
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    stasis.resume(number)?;
    stasis.attach("linux")?;
    watch(&mut stasis, &mut hashes, before, 20)?;
    shell(&mut stasis, "kill %1; wait")?;
    let after_date = date(&mut stasis)?;
    dmesg_is_silent(&mut stasis)?;

    // CLOCK_REALTIME goes on from the checkpoint; the RTC keeps the wall's time.
    let elapsed = after_date.saturating_sub(before_date);
    ensure!(elapsed < 30, "date went on by {elapsed} s");
    shell(&mut stasis, "hwclock -s -u")?;
    let wall = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let set = date(&mut stasis)?;
    ensure!(set.abs_diff(wall) <= 5, "the RTC is {} s off", set.abs_diff(wall));
    stasis.detach()?;
    stasis.quit()
}

pub fn linux_feeds_its_watchdog_until_it_can_not(lab: &Lab) -> Result<()> {
    let mut stasis = machine(lab, 1)?
        .change("linux", |config| {
            // The watchdog runs from the start: without a driver, the guest would end soon.
            config.watchdog_us = Some(100_000_000);
            config.on_crash = Policy::Restart;
        })
        .boot()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
    let identity = shell(&mut stasis, "cat /sys/class/watchdog/watchdog0/identity")?;
    ensure!(identity.iter().any(|line| line == "SBSA Generic Watchdog"), "it is {identity:?}");
    let modules = shell(&mut stasis, "cat /proc/modules")?;
    ensure!(modules.iter().any(|line| line.starts_with("uio ")), "there is no uio: {modules:?}");
    look_at_dmesg(&mut stasis)?;
    // A program feeds it, for longer than it waits.
    shell(&mut stasis, "watchdog -t 1 -T 8 /dev/watchdog0; sleep 20")?;
    stasis.qemu.console.send_line("killall -9 watchdog")?;
    stasis.qemu.console.wait_for("has not fed its watchdog; it starts again", SHELL_TIME)?;
    stasis.detach()?;
    stasis.quit()
}

pub fn linux_that_resets_its_machine_starts_again(lab: &Lab) -> Result<()> {
    let mut stasis = machine(lab, 1)?.boot()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
    shell(&mut stasis, "touch /before")?;
    stasis.qemu.console.send_line("reboot -f")?;
    stasis.qemu.console.wait_for("guest \"linux\" has reset its machine", SHELL_TIME)?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
    // The guest's memory is not that of before.
    let left = shell(&mut stasis, "ls /before 2>/dev/null")?;
    ensure!(!left.iter().any(|line| line == "/before"), "/before is still there");
    stasis.detach()?;
    stasis.quit()
}

/// Proves that a press is two edges of the line for Linux, each one interrupt, also across a
/// checkpoint, and that a program which waits for them can shut Linux down. That Linux makes
/// KEY_POWER of the first edge is not proven here: Debian's cloud kernel has the driver of the
/// PL061, and none for `gpio-keys`. So the line's GPIO files stand for that driver. What that
/// driver would read of the key is tested in `guest`'s `fdt/tests.rs`.
pub fn a_pressed_power_key_shuts_linux_down_also_after_a_resume(lab: &Lab) -> Result<()> {
    const LISTEN: &str = "cd /sys/class/gpio; n=$(($(cat gpiochip*/base) + 3)); echo $n > export; echo both > gpio$n/edge; cd /";
    // What was counted before the press is read before the shell answers.
    const POWER_OFF: &str = "of() { awk '/gpiolib/ { print $2 }' /proc/interrupts; }; was=$(of); (while [ $(of) = $was ]; do sleep 0.1; done; poweroff -f) & true";
    let disk = lab.disk()?;
    let mut stasis = machine(lab, 1)?.disk(&disk).boot()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
    let chip = shell(&mut stasis, "cat /sys/class/gpio/gpiochip*/label")?;
    ensure!(chip.iter().any(|line| line == "9030000.pl061"), "the chip is {chip:?}");
    stasis.detach()?;
    stasis.refused_for("shutdown linux", &["no driver for its power key"])?;
    stasis.attach("linux")?;
    shell(&mut stasis, LISTEN)?;
    ensure!(edges(&mut stasis)? == 0, "nobody has pressed the key");
    press(&mut stasis)?;
    ensure!(edges(&mut stasis)? == 2, "a press and its end");
    look_at_dmesg(&mut stasis)?;

    // Stored with the key down, or its interrupts pending, or with all of that over.
    stasis.detach()?;
    stasis.command("shutdown linux")?;
    let number = stasis.checkpoint("linux", "pressed")?;
    stasis.kill()?;
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    stasis.resume(number)?;
    stasis.attach("linux")?;
    shell(&mut stasis, "sleep 0.3")?;
    ensure!(edges(&mut stasis)? == 4, "the press that was stored has its end");
    dmesg_is_silent(&mut stasis)?;
    shell(&mut stasis, POWER_OFF)?;
    stasis.detach()?;
    stasis.command("shutdown linux")?;
    stasis.qemu.console.wait_for("\"linux\": is off", SHELL_TIME)?;
    stasis.refused_for("shutdown linux", &["guest \"linux\" is off"])?;
    stasis.quit()
}

/// Presses the guest's power key, and waits until it must have come up.
fn press(stasis: &mut Stasis) -> Result<()> {
    stasis.detach()?;
    stasis.command("shutdown linux")?;
    stasis.attach("linux")?;
    shell(stasis, "sleep 0.3").map(drop)
}

/// The interrupts of the power key that Linux has counted.
fn edges(stasis: &mut Stasis) -> Result<u64> {
    let lines = shell(stasis, "cat /proc/interrupts")?;
    let row = lines.iter().find(|line| line.ends_with("gpiolib")).context("no row of the key")?;
    row.split_whitespace().nth(1).context("no column")?.parse().context("no number")
}

pub fn a_break_on_the_console_is_a_sysrq_of_linux(lab: &Lab) -> Result<()> {
    const BREAK_KEY: &[u8] = b"\x1db";
    let socket = Socket::new()?;
    let mut stasis = machine(lab, 1)?.monitor(&socket).boot()?;
    let mut monitor = socket.connect()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;

    stasis.qemu.console.send(BREAK_KEY)?;
    sysrq_help(&mut stasis)?;
    // On the machine's own line.
    monitor.type_in("chardev-send-break line")?;
    sysrq_help(&mut stasis)?;
    stasis.detach()?;
    stasis.command("send-break linux")?;
    stasis.attach("linux")?;
    sysrq_help(&mut stasis)?;
    // And Linux goes on.
    look_at_dmesg(&mut stasis)?;
    stasis.detach()?;
    stasis.quit()
}

/// Types a letter that is no SysRq: behind a break, the kernel lists those that are.
fn sysrq_help(stasis: &mut Stasis) -> Result<()> {
    stasis.qemu.console.send(b"h")?;
    stasis.qemu.console.wait_for("sysrq: HELP", SHELL_TIME).map(drop)?;
    Ok(())
}
