//! The configurations of `examples/`, each by the command in its first line.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::BOOT_TIME;
use xtask::config::Config;
use xtask::console::PROMPT;
use xtask::run;

pub fn each_comes_up_by_the_command_in_its_first_line(lab: &Lab) -> Result<()> {
    let examples = run::examples(&Built::get()?.workspace)?;
    ensure!(examples.len() >= 8, "there are {examples:?}");
    for name in examples {
        comes_up(lab, &name).with_context(|| format!("examples/{name}.toml"))?;
    }
    Ok(())
}

/// Starts the machine as `cargo xtask run` does, and looks for all guests before the first prompt.
fn comes_up(lab: &Lab, name: &str) -> Result<()> {
    let workspace = &Built::get()?.workspace;
    let path = run::config_path(workspace, name)?;
    let text = std::fs::read_to_string(&path)?;
    let first = text.lines().next().unwrap_or_default();
    // The parser takes the first word for the program's name, whatever it is.
    let words = first.strip_prefix("# cargo xtask ").filter(|words| words.starts_with("run "));
    let words = words.with_context(|| format!("its first line is no `run`: {first}"))?;
    let mut options = run::Arguments::try_parse_from(words.split_whitespace())?;
    ensure!(options.guest == name, "the command is for another: {first}");
    // The one in `target/` is a person's.
    options.disk = Some(lab.disk()?);
    let mut machine = run::machine(workspace, options)?.start()?;
    let boot = machine.console.wait_for(PROMPT, BOOT_TIME)?;
    run::check_guests(&boot)?;
    for guest in Config::read(workspace, &path)?.configuration.guests {
        let made = format!("guest \"{}\": on core", guest.name);
        ensure!(boot.contains(&made), "\"{}\" was not made: {boot}", guest.name);
    }
    machine.kill()
}
