//! The commands: what they are called, what they take, and what a person reads about them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use lexopt::prelude::*;

use crate::workspace::Workspace;
use crate::{
    archive, bench, build, card, checkpoint, convert, demo, disk, miri, output, report, run, setup,
    test,
};

struct Command {
    name: &'static str,
    arguments: &'static str,
    summary: &'static str,
    details: &'static str,
    run: fn(&Workspace, lexopt::Parser) -> Result<()>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "demo",
        arguments: "[--guest counter|linux] [--board virt|raspi4]",
        summary: "Checkpoint a guest, end QEMU, start a new one, resume the guest",
        details: "\
Shows that the guest goes on as if nothing had happened, and what it took. Both guests print numbered steps, each with
a hash over memory that they keep changing: counter with its timer's interrupts, linux in a shell loop.
The board is QEMU's virt, or a Raspberry Pi 4 with an SD card.",
        run: |workspace, parser| demo::main(workspace, options(parser, "demo")?),
    },
    Command {
        name: "run",
        arguments: "[--guest counter|linux|FILE.toml] [--board virt|raspi4] [--smp N] [--memory SIZE] [--disk FILE] [--plain]",
        summary: "Boot Stasis with a guest and stay at its console",
        details: "\
The console is Stasis's: `help` tells its commands, `attach <guest>` leads to a guest, Ctrl-] back from it.
Ctrl-A X ends QEMU. The disk with the checkpoints stays: target/stasis-disk.img, unless --disk says otherwise. Both boards
take it, virt as its disk and raspi4 as its card; raspi4 has four cores and 2G.
--plain starts the guest on QEMU's own machine, without Stasis, to compare.",
        run: |workspace, parser| run::main(workspace, options(parser, "run")?),
    },
    Command {
        name: "test",
        arguments: "[NAME]",
        summary: "Run all tests: on the host, then those that boot QEMU",
        details: "\
With a NAME, only the tests that boot QEMU and have it in their name. On a slow machine STASIS_TIME_FACTOR=3
triples their time limits.",
        run: |workspace, mut parser| {
            let name = next_value(&mut parser, "test")?;
            finished(&mut parser, "test")?;
            test::main(workspace, name.as_deref())
        },
    },
    Command {
        name: "miri",
        arguments: "",
        summary: "Run tests of the pure crates under Miri, which takes long",
        details: "It wants rustup and a nightly toolchain, to which it adds Miri.",
        run: |workspace, mut parser| {
            finished(&mut parser, "miri")?;
            miri::main(workspace)
        },
    },
    Command {
        name: "build",
        arguments: "",
        summary: "Build the hypervisor's image and the bare-metal guests",
        details: "The image is target/stasis/Image, an arm64 Linux Image as boot loaders take it.",
        run: |workspace, mut parser| {
            finished(&mut parser, "build")?;
            build::hypervisor(workspace)?;
            build::guests(workspace).map(drop)
        },
    },
    Command {
        name: "setup",
        arguments: "",
        summary: "Install what is lacking; the other commands do so by themselves",
        details: "\
Rust's targets for AArch64 (with STASIS_NO_RUSTUP=1 built from Debian's rust-src), a QEMU that has the board raspi4b,
and the Linux guest's packages, which go to target/guests and not into the system.",
        run: |workspace, mut parser| {
            finished(&mut parser, "setup")?;
            setup::all(workspace)
        },
    },
    Command {
        name: "pack",
        arguments: "CONFIG.toml OUT.cpio",
        summary: "Make a boot archive: the guests' configuration and their images",
        details: "examples/ has configurations to start from, with a word on every key.",
        run: |workspace, mut parser| {
            let config = path(&mut parser, "pack", "CONFIG.toml")?;
            let out = path(&mut parser, "pack", "OUT.cpio")?;
            finished(&mut parser, "pack")?;
            let archive = archive::from_file(workspace, &config)?;
            output::write(&out, &archive)?;
            report::step(format_args!("{}: {}", out.display(), report::size(archive.len() as u64)));
            Ok(())
        },
    },
    Command {
        name: "disk",
        arguments: "FILE [--size SIZE]",
        summary: "Make a disk image with an empty partition for checkpoints",
        details: "SIZE is 512M unless it is said. The file takes only the space that is used. An old file is not touched.",
        run: |_, parser| make_disk(options(parser, "disk")?),
    },
    Command {
        name: "image",
        arguments: "CARD.img [--board raspi4] [--guest counter|linux|FILE.toml] [--size SIZE] [--firmware FOLDER]",
        summary: "Make a card image for a Raspberry Pi 4, with Stasis, guests and a store",
        details: card::DETAILS,
        run: |workspace, parser| card::main(workspace, options(parser, "image")?),
    },
    Command {
        name: "checkpoint",
        arguments: "list|get|put|show|diff|core|verify|delete|format ...",
        summary: "Work on checkpoints: in files, on a disk image or a card",
        details: checkpoint::DETAILS,
        run: |_, mut parser| checkpoint::main(&parser.raw_args()?.collect::<Vec<_>>()),
    },
    Command {
        name: "convert",
        arguments: "qemu|from-qemu FILE ...",
        summary: "Convert the virtual GIC of a checkpoint to QEMU's, or read QEMU's",
        details: convert::DETAILS,
        run: |_, parser| convert::main(parser),
    },
    Command {
        name: "bench",
        arguments: "[--save FILE [--as NAME]] [--compare FILE [--with NAME] [--plot FILE] [--plot-history FILE]] [--runs FILE] [--profile OPERATION]",
        summary: "Measure what a guest's operations cost, and what the image weighs",
        details: bench::DETAILS,
        run: bench::main,
    },
];

/// Options that several commands have.
#[derive(Debug, Default)]
pub struct Options {
    /// `--guest`.
    pub guest: Option<String>,
    /// `--board`.
    pub board: Option<String>,
    /// `--smp`.
    pub cpus: Option<u32>,
    /// `--memory`.
    pub memory: Option<u64>,
    /// `--disk`.
    pub disk: Option<PathBuf>,
    /// `--size`.
    pub size: Option<u64>,
    /// `--firmware`.
    pub firmware: Option<PathBuf>,
    /// `--plain`.
    pub plain: bool,
    /// What is no option.
    pub values: Vec<OsString>,
}

/// `cargo xtask`.
pub fn main() -> ExitCode {
    match dispatch(std::env::args_os().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::error(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(mut arguments: VecDeque<OsString>) -> Result<()> {
    let name = arguments.pop_front().unwrap_or_else(|| "help".into());
    let name = name.to_string_lossy().into_owned();
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        match arguments.pop_front() {
            Some(name) => print!("{}", help(find(&name.to_string_lossy())?)),
            None => print!("{}", overview()),
        }
        return match arguments.pop_front() {
            Some(surplus) => bail!("`help` takes one COMMAND; {surplus:?} is one too many"),
            None => Ok(()),
        };
    }
    let command = find(&name)?;
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{}", help(command));
        return Ok(());
    }
    (command.run)(&Workspace::find()?, lexopt::Parser::from_args(arguments))
}

fn find(name: &str) -> Result<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name).ok_or_else(|| {
        let near = nearest(name, COMMANDS.iter().map(|command| command.name));
        anyhow!("there is no command \"{name}\"{near}; `cargo xtask` lists them all")
    })
}

/// A hint at what was meant, as the middle of a sentence.
pub fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    const LIKELY: f64 = 0.7;
    let rated = names.into_iter().map(|name| (strsim::jaro_winkler(typed, name), name));
    match rated.max_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((likeness, name)) if likeness >= LIKELY => format!(", did you mean \"{name}\"?"),
        _ => String::new(),
    }
}

fn overview() -> String {
    let mut text = String::from(
        "Stasis: a hypervisor that checkpoints its guests and resumes them later.\n\n\
         Usage: cargo xtask COMMAND [ARGUMENTS]\n\n",
    );
    for command in COMMANDS {
        text += &format!("  {:<12}{}\n", command.name, command.summary);
    }
    text += "\n`cargo xtask help COMMAND` tells more. Start with `cargo xtask demo`.\n";
    text
}

fn help(command: &Command) -> String {
    format!(
        "{}.\n\nUsage: cargo xtask {}\n\n{}\n",
        command.summary,
        [command.name, command.arguments].join(" ").trim_end(),
        command.details
    )
}

/// Reads the options of the command `name`: all, or an error.
pub fn options(mut parser: lexopt::Parser, name: &str) -> Result<Options> {
    let mut options = Options::default();
    while let Some(argument) = parser.next()? {
        let known = find(name)?.arguments;
        if let Long(option) = argument
            && !known.contains(&format!("--{option}"))
        {
            let near = nearest(
                &format!("--{option}"),
                known.split(['[', ' ', ']']).filter(|word| word.starts_with("--")),
            );
            bail!(
                "`{name}` has no option --{option}{near}; `cargo xtask {name} --help` tells them"
            );
        }
        match argument {
            Long("guest") => options.guest = Some(parser.value()?.string()?),
            Long("board") => options.board = Some(parser.value()?.string()?),
            Long("smp") => options.cpus = Some(parser.value()?.parse()?),
            Long("memory") => options.memory = Some(size(&parser.value()?.string()?)?),
            Long("disk") => options.disk = Some(parser.value()?.into()),
            Long("firmware") => options.firmware = Some(parser.value()?.into()),
            Long("plain") => options.plain = true,
            Long("size") => {
                options.size = Some(size(&parser.value()?.string()?)?);
            }
            Value(value) if known.starts_with(|c: char| c.is_ascii_uppercase()) => {
                options.values.push(value);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}

/// Returns bytes, as a person says them. A small number without a unit is hardly meant as bytes.
fn size(text: &str) -> Result<u64> {
    const LEAST_BYTES: u64 = 1 << 20;
    let has_unit = !text.trim().ends_with(|c: char| c.is_ascii_digit());
    let size = report::parse_size(text).filter(|bytes| has_unit || *bytes >= LEAST_BYTES);
    size.with_context(|| match text.trim().parse::<u64>() {
        Ok(number) => format!("a size needs its unit: \"{number}M\" in place of \"{text}\""),
        Err(_) => format!("\"{text}\" is no size such as \"512M\""),
    })
}

fn make_disk(options: Options) -> Result<()> {
    let [path] = &options.values[..] else {
        bail!("`disk` takes one FILE; `cargo xtask disk --help` tells more");
    };
    let path = PathBuf::from(path);
    output::must_be_new(&path)?;
    let size = options.size.unwrap_or(disk::DEFAULT_SIZE);
    disk::create(&path, size)?;
    report::step(format_args!("{}: {} with an empty store", path.display(), report::size(size)));
    Ok(())
}

/// The next argument, which must be no option.
pub fn next_value(parser: &mut lexopt::Parser, command: &str) -> Result<Option<String>> {
    match parser.next()? {
        None => Ok(None),
        Some(Value(value)) => Ok(Some(value.string()?)),
        Some(other) => {
            Err(other.unexpected()).with_context(|| format!("`{command}` takes no options"))
        }
    }
}

fn path(parser: &mut lexopt::Parser, command: &str, what: &str) -> Result<PathBuf> {
    let value = next_value(parser, command)?;
    let hint = || format!("`{command}` lacks {what}; `cargo xtask {command} --help` tells more");
    Ok(value.with_context(hint)?.into())
}

/// Makes sure that nothing is left.
pub fn finished(parser: &mut lexopt::Parser, command: &str) -> Result<()> {
    match next_value(parser, command)? {
        None => Ok(()),
        Some(value) => bail!("`{command}` does not know what to do with \"{value}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_command_is_answered_with_the_nearest() {
        let error = find("dmeo").err().unwrap().to_string();
        assert!(error.contains("did you mean \"demo\"?"), "{error}");
        assert!(!find("xyzzy").err().unwrap().to_string().contains("did you mean"));
    }

    #[test]
    fn a_mistyped_option_is_answered_with_the_nearest() {
        let error = options(lexopt::Parser::from_args(["--geust", "linux"]), "run").unwrap_err();
        assert!(error.to_string().contains("did you mean \"--guest\"?"), "{error}");
        assert!(options(lexopt::Parser::from_args(["--smp", "2"]), "demo").is_err());
    }

    #[test]
    fn a_size_without_its_unit_is_answered_with_one() {
        assert_eq!(size("64M").unwrap(), 64 << 20);
        let error = size("64").unwrap_err().to_string();
        assert_eq!(error, "a size needs its unit: \"64M\" in place of \"64\"");
        assert!(size("much").unwrap_err().to_string().contains("is no size such as \"512M\""));
    }

    #[test]
    fn every_command_is_in_the_overview() {
        let overview = overview();
        assert!(COMMANDS.iter().all(|command| overview.contains(command.name)));
    }
}
