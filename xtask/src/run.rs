//! `cargo xtask run`: boots Stasis with guests, and leaves a person at its console.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use stasis_client::Target;
use stasis_host::config::{Configuration, lean};
use stasis_tool::suggest::nearest;

use crate::board::{self, Board};
use crate::build::Edition;
use crate::config::{Config, Source};
use crate::console::PROMPT;
use crate::disk::lock::{self, Access};
use crate::qemu::{ChannelSocket, Machine};
use crate::workspace::{Workspace, read};
use crate::{archive, build, disk, report, setup};

/// The text behind the command's help.
pub const DETAILS: &str = "\
The console is Stasis's: `help` tells its commands, `attach <guest>` leads to a guest, Ctrl-] back from it.
Ctrl-A X ends QEMU. Both boards take the disk, virt as its disk and raspi4 as its card; raspi4 has four cores and 2G.
With --serial, the console is at a socket, which `stasis console` connects to, and Ctrl-C ends QEMU. A data disk and a network card are devices of the
machine's, which a guest can be given (`devices` in its configuration). What stands behind -- goes to QEMU as it is: `run -- -icount shift=0`.";

/// What the command takes.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// The guests: an example's name, or a configuration
    #[arg(long, default_value = "linux", value_name = "NAME|FILE.toml")]
    pub guest: String,
    /// The board under QEMU
    #[arg(long, default_value = board::NAMES[0], value_parser = board::NAMES)]
    pub board: String,
    /// Cores of the board virt [default: as many as the configuration names, two at least]
    #[arg(long, value_name = "N")]
    pub smp: Option<u32>,
    /// Memory of the board virt
    #[arg(long, value_name = "SIZE", value_parser = report::size_from)]
    pub memory: Option<u64>,
    /// The disk with the checkpoints, which stays [default: target/stasis-disk.img]
    #[arg(long, value_name = "FILE", conflicts_with = "plain")]
    pub disk: Option<PathBuf>,
    /// Another disk of the board virt, without checkpoints; several are possible
    #[arg(long, value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// A network card of the board virt, at /virtio_mmio@a003a00, and what is behind it, as QEMU's
    /// -netdev has it [default: user]
    #[arg(long, value_name = "NETDEV", num_args = 0..=1, require_equals = true, default_missing_value = "user")]
    pub network: Option<String>,
    /// Where the console is, instead of this terminal
    #[arg(long, value_name = "unix:PATH|tcp:HOST:PORT")]
    pub serial: Option<Target>,
    /// Stasis without console, channel, debugger and store: what guests print is shown line by line
    #[arg(long, conflicts_with_all = ["disk", "plain"])]
    pub lean: bool,
    /// Start the guest on QEMU's own machine, without Stasis, to compare
    #[arg(long)]
    pub plain: bool,
    /// Options of QEMU's
    #[arg(last = true, value_name = "QEMU OPTIONS")]
    pub qemu: Vec<OsString>,
}

/// Runs the command.
pub fn main(workspace: &Workspace, options: Arguments) -> Result<()> {
    let (plain, lean, serial) = (options.plain, options.lean, options.serial.clone());
    let machine = machine(workspace, options)?;
    let what = match (plain, lean) {
        (true, _) => "the guest on QEMU alone",
        (_, true) => "Stasis, lean",
        _ => "Stasis",
    };
    match &serial {
        Some(at) => report::step(format_args!(
            "starting {what}; `stasis console {at}` is its console, Ctrl-C ends QEMU"
        )),
        None if plain || lean => report::step(format_args!("starting {what}; Ctrl-A X ends it")),
        None => report::step(
            "starting Stasis; `help` tells its commands, Ctrl-] leaves a guest, Ctrl-A X ends QEMU",
        ),
    }
    let folder = workspace.folder("stasis")?;
    let socket = ChannelSocket::at(folder.join("channel"))?;
    let machine = match plain || lean {
        true => machine,
        false => {
            let channel = socket.target();
            report::note(format_args!(
                "for programs: `stasis connect {channel}` serves them: stasis ctl guests, stasis attach, ..."
            ));
            machine.channel(socket.path())
        }
    };
    let log = folder.join("run.log");
    let mut command = match &serial {
        Some(target) => machine.at_a_socket(target, &log)?,
        None => machine.at_a_terminal(&log),
    };
    let status = command.status().context("cannot start QEMU")?;
    if !status.success() {
        bail!("QEMU ended with {status}");
    }
    match plain {
        true => Ok(()),
        false => check_guests(&String::from_utf8_lossy(&read(&log)?)),
    }
}

/// Returns the machine that the options describe. Makes what it needs.
pub fn machine(workspace: &Workspace, options: Arguments) -> Result<Machine> {
    let config = config_path(workspace, &options.guest)?;
    setup::qemu::ensure(workspace)?;
    let board = Board::find(workspace, Some(&options.board))?;
    check(&options, &board)?;
    let config = Config::read(workspace, &config)?;
    let disk = options.disk.clone();
    let machine = if options.plain {
        plain(workspace, &config)?
    } else {
        let image = build::hypervisor_for(workspace, Edition::of(options.lean))?.image;
        let archive = archive::from_config(workspace, &config)?;
        let path = workspace.folder("stasis")?.join("run.cpio");
        archive.save(&path)?;
        let cpus = cores_in(&config.configuration).max(2);
        let machine = Machine::stasis(image, Some(&path)).cpus(cpus);
        match options.lean {
            true => {
                // Before QEMU starts; the image would say so, too.
                lean::check(&config.configuration)?;
                machine.board(board)
            }
            false => with_store(workspace, machine, disk, board)?,
        }
    };
    let machine = with_devices(machine, &options)?;
    let machine = match options.smp {
        Some(cpus) => machine.cpus(cpus),
        None => machine,
    };
    Ok(match options.memory {
        Some(memory) => machine.memory(format!("{}M", memory >> 20)),
        None => machine,
    })
}

/// Adds the disk with the checkpoints, and the board.
fn with_store(
    workspace: &Workspace,
    machine: Machine,
    disk: Option<PathBuf>,
    board: Board,
) -> Result<Machine> {
    let disk = open_disk(workspace, disk)?;
    board.check_disk(&disk)?;
    // QEMU would refuse a disk that is in use, too, but without saying who uses it.
    drop(lock::open(&disk, Access::Exclusive)?);
    Ok(machine.disk(disk).board(board))
}

/// Returns as many cores as a configuration names: the highest number, and one.
fn cores_in(configuration: &Configuration) -> u32 {
    let of_guests = configuration.guests.iter().flat_map(|guest| guest.cores.iter().copied());
    let of_plans = configuration.cores.iter().map(|plan| plan.number);
    of_guests.chain(of_plans).max().map_or(0, |highest| highest.saturating_add(1))
}

/// Adds the devices that options ask for, and QEMU's own options.
fn with_devices(mut machine: Machine, options: &Arguments) -> Result<Machine> {
    for disk in &options.data {
        ensure!(disk.exists(), "there is no file {}", disk.display());
        machine = machine.disk(disk);
    }
    if let Some(netdev) = &options.network {
        machine = machine.network_card(netdev);
    }
    Ok(options.qemu.iter().fold(machine, Machine::arg))
}

/// Fails if a line of the boot says that a guest was not made. `log` is everything that the machine
/// has printed. A person may have seen the line pass, but a program sees only the exit code.
pub fn check_guests(log: &str) -> Result<()> {
    let boot = log.lines().take_while(|line| !line.starts_with(PROMPT.trim_end()));
    let errors: Vec<&str> = boot
        .filter_map(|line| line.split_once("] error: "))
        .map(|(_, error)| error.trim_end())
        .collect();
    ensure!(errors.is_empty(), "not all was made that is configured: {}", errors.join("; "));
    Ok(())
}

/// Checks that the options fit each other.
fn check(options: &Arguments, board: &Board) -> Result<()> {
    for (option, given) in [
        ("--smp", options.smp.is_some()),
        ("--memory", options.memory.is_some()),
        ("--data", !options.data.is_empty()),
        ("--network", options.network.is_some()),
        ("--plain", options.plain),
    ] {
        ensure!(!given || !board.is_fixed(), "{option} is for the board virt alone");
    }
    Ok(())
}

/// Returns the path of the configuration that a person means: one of `examples/` by its name, or a
/// file.
pub fn config_path(workspace: &Workspace, guest: &str) -> Result<PathBuf> {
    let example = workspace.root().join("examples").join(guest).with_extension("toml");
    if !guest.contains(['/', '.']) && example.exists() {
        return Ok(example);
    }
    let path = Path::new(guest);
    if path.exists() {
        return Ok(path.to_owned());
    }
    let examples = examples(workspace)?;
    let near = nearest(guest, examples.iter().map(String::as_str));
    bail!(
        "\"{guest}\" is neither an example nor a configuration file{near}; the examples are {}",
        examples.join(", ")
    )
}

/// Returns the names of the configurations in `examples/`.
pub fn examples(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root().join("examples");
    let files = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let mut names: Vec<String> = files
        .flatten()
        .filter_map(|file| file.file_name().to_str()?.strip_suffix(".toml").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

fn open_disk(workspace: &Workspace, disk: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(disk) = disk {
        return Ok(disk);
    }
    let path = workspace.target().join("stasis-disk.img");
    if !path.exists() {
        disk::create(&path, disk::DEFAULT_SIZE)?;
        report::step(format_args!("made a disk for checkpoints: {}", workspace.show(&path)));
    }
    Ok(path)
}

/// Returns a machine without Stasis that starts the first guest.
fn plain(workspace: &Workspace, config: &Config) -> Result<Machine> {
    let folder = workspace.folder("stasis/plain")?;
    let place = |name: &str| -> Result<PathBuf> {
        let source = config.files.iter().find(|(file, _)| file == name);
        match source {
            Some((_, Source::Path(path))) => Ok(path.clone()),
            Some((_, source)) => {
                let path = folder.join(name);
                archive::fetch(workspace, source)?.save(&path)?;
                Ok(path)
            }
            None => bail!("the configuration has no file \"{name}\""),
        }
    };
    let [guest, ..] = &config.configuration.guests[..] else {
        bail!("the configuration has no guest");
    };
    let initrd = guest.initrd.as_deref().map(place).transpose()?;
    Ok(Machine::plain(place(&guest.image)?, initrd.as_deref())
        .cmdline(guest.cmdline.clone())
        .cpus(guest.vcpus.into())
        .memory(format!("{}M", guest.memory >> 20)))
}

#[cfg(test)]
mod tests {
    use stasis_host::config::GuestConfig;

    use super::*;

    #[test]
    fn a_mistyped_example_is_answered_with_the_nearest() {
        let workspace = Workspace::find().unwrap();
        let error = config_path(&workspace, "lnux").unwrap_err().to_string();
        assert!(error.contains("did you mean \"linux\"?; the examples are counter, "), "{error}");
        assert!(config_path(&workspace, "linux").is_ok());
    }

    #[test]
    fn a_guest_that_was_not_made_is_a_failure() {
        let good = "[    0.1] guest \"a\": on core 1\r\nstasis> pause b\r\n[    9.1] error: no guest b\r\n";
        check_guests(good).unwrap();
        let bad = format!("[    0.2] error: guest \"b\": it needs 4096 MiB of RAM\r\n{good}");
        assert_eq!(
            check_guests(&bad).unwrap_err().to_string(),
            "not all was made that is configured: guest \"b\": it needs 4096 MiB of RAM"
        );
    }

    #[test]
    fn options_that_would_do_nothing_are_refused() {
        // --disk is for Stasis's checkpoints, and --plain starts the guest without Stasis.
        let both = Arguments::try_parse_from(["run", "--plain", "--disk", "disk.img"]);
        let error = both.unwrap_err().to_string();
        assert!(error.contains("'--plain' cannot be used with '--disk <FILE>'"), "{error}");
        let board = Board::Raspi4 { device_tree: PathBuf::new() };
        let options = Arguments::parse_from(["run", "--smp", "2"]);
        let error = check(&options, &board).unwrap_err().to_string();
        assert_eq!(error, "--smp is for the board virt alone");
        check(&options, &Board::Virt).unwrap();
    }

    #[test]
    fn the_machine_has_the_cores_that_the_configuration_names() {
        let mut guest = GuestConfig::new("a", "a", 1 << 20);
        guest.cores = vec![1, 3];
        let mut configuration = Configuration { guests: vec![guest], ..Default::default() };
        assert_eq!(cores_in(&configuration), 4);
        configuration.guests[0].cores.clear();
        assert_eq!(cores_in(&configuration), 0);
    }

    #[test]
    fn qemus_own_options_and_devices_come_through_as_they_are() {
        let words = ["run", "--network", "--data", file!(), "--", "-icount", "shift=0", "-S"];
        let options = Arguments::parse_from(words);
        assert_eq!(options.network.as_deref(), Some("user"));
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        std::fs::write(&disk, b"").unwrap();
        let options = Arguments { data: vec![disk], ..options };
        let machine = with_devices(Machine::stasis("Image", None), &options).unwrap();
        let command = machine.command();
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let words = words.join(" ");
        assert!(words.contains("-netdev user,id=network -device virtio-net-device,netdev=network"));
        assert!(words.contains("virtio-blk-device,drive=disk0"), "{words}");
        assert!(words.ends_with("-icount shift=0 -S"), "{words}");
        let options = Arguments::parse_from(["run", "--network=tap,ifname=tap0"]);
        assert_eq!(options.network.as_deref(), Some("tap,ifname=tap0"));
    }

    #[test]
    fn a_console_elsewhere_is_a_socket() {
        let of = |target: &str| {
            let machine = Machine::stasis("Image", None);
            machine.at_a_socket(&target.parse().unwrap(), Path::new("log")).map(|command| {
                let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
                words.collect::<Vec<_>>().join(" ")
            })
        };
        let words = of("unix:a,b").unwrap();
        assert!(words.contains("-chardev socket,id=line,server=on,wait=off,logfile=log,path=a,,b"));
        let words = of("tcp:localhost:4444").unwrap();
        assert!(words.contains("logfile=log,host=localhost,port=4444"), "{words}");
        assert!(of("/dev/ttyUSB0").is_err());
    }
}
