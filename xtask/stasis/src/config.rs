//! Reads the configuration that a person writes, a TOML file. Errors name the file, the line and
//! the key.
//!
//! The configuration becomes the device tree that `stasis_host::config` defines. An image is a path
//! relative to the file, or `@` and the name of a file that a [`Checkout`] makes.

mod hint;
mod raw;
mod written;

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use stasis_console::text::{parse_size, parse_time};
use stasis_guest::image::Kind;
use stasis_guest::shared::SharedRegion;
use stasis_host::config::{
    self as host, ConfigError, Configuration, CoreConfig, DiskConfig, GuestConfig, MemoryMap,
    NetworkConfig, Periodic, Policy, Problem, TRUSTED, WindowConfig,
};
use toml::Spanned;

use self::raw::{RawCore, RawGuest};
pub use self::written::Written;

use crate::checkout::Checkout;

/// A configuration, and the files that its archive must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The configuration for Stasis, checked.
    pub configuration: Configuration,
    /// The name of each file in the archive, and where the file comes from.
    pub files: Vec<(String, Source)>,
}

/// The origin of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file at this path.
    Path(PathBuf),
    /// The file that a checkout makes under this name.
    Made(String),
}

impl Config {
    /// Reads the configuration in the file `path`.
    pub fn read(checkout: &dyn Checkout, path: &Path) -> Result<Self> {
        Written::read(path)?.config(checkout, path)
    }

    /// Reads a configuration that was written. Its relative paths start at `folder`; `made` are the
    /// names of all files that a checkout makes.
    fn of(written: &Written, folder: &Path, made: &[String]) -> Result<Self> {
        let file = &written.file;
        let mut config = Self { configuration: Configuration::default(), files: Vec::new() };
        let place = Origin { written, folder, made };
        for raw in &file.guests {
            config.add_guest(&place, raw.get_ref())?;
        }
        for raw in &file.cores {
            let core = core(&place, raw.get_ref())?;
            config.configuration.cores.push(core);
        }
        for raw in file.shared.iter().map(Spanned::get_ref) {
            config.configuration.shared.push(SharedRegion {
                name: raw.name.get_ref().clone(),
                size: place.size(&raw.size, "size")?,
                guests: raw.guests.get_ref().clone(),
            });
        }
        for raw in file.networks.iter().map(Spanned::get_ref) {
            let uplink = raw.uplink.as_ref().map(|uplink| uplink.get_ref().clone());
            let name = raw.name.get_ref().clone();
            config.configuration.networks.push(NetworkConfig { name, uplink });
        }
        if let Some(verify_writes) = file.store.verify_writes {
            config.configuration.store.verify_writes = verify_writes;
        }
        host::check(&config.configuration).map_err(|error| place.complaint(error))?;
        Ok(config)
    }

    fn add_guest(&mut self, place: &Origin<'_>, raw: &RawGuest) -> Result<()> {
        let kind = match &raw.kind {
            None => None,
            Some(kind) => Some(Kind::from_name(kind.get_ref()).with_context(|| {
                let found = kind.get_ref();
                let at = place.at(kind.span(), "kind");
                format!("{at}: {found:?} is none of \"linux\", \"elf\", \"raw\"")
            })?),
        };
        let mut file = |name: &Spanned<String>, key: &str| {
            self.file(name.get_ref(), place.folder, place.made)
                .with_context(|| place.at(name.span(), key))
        };
        let said = GuestConfig::new(
            raw.name.get_ref(),
            &file(&raw.image, "image")?,
            place.size(&raw.memory, "memory")?,
        );
        let guest = GuestConfig {
            kind,
            initrd: raw.initrd.as_ref().map(|initrd| file(initrd, "initrd")).transpose()?,
            cmdline: raw.cmdline.as_ref().map_or(said.cmdline, |text| text.get_ref().clone()),
            memory_map: place.memory_map(&raw.memory_map)?,
            overcommit: raw.overcommit.as_ref().is_some_and(|is_so| *is_so.get_ref()),
            portable: raw.portable.as_ref().map_or(said.portable, |is_so| *is_so.get_ref()),
            vcpus: raw.vcpus.as_ref().map_or(said.vcpus, |vcpus| *vcpus.get_ref()),
            cores: raw.cores.as_ref().map_or(said.cores, |cores| cores.get_ref().clone()),
            weight: raw.weight.as_ref().map_or(said.weight, |weight| *weight.get_ref()),
            counter_frequency: raw.counter_frequency.as_ref().map(|hz| *hz.get_ref()),
            autostart: raw.autostart.unwrap_or(said.autostart),
            on_crash: place.policy(&raw.on_crash, "on-crash")?.unwrap_or(said.on_crash),
            on_reset: place.policy(&raw.on_reset, "on-reset")?.unwrap_or(said.on_reset),
            watchdog_us: (raw.watchdog.as_ref())
                .map(|time| place.duration(time, "watchdog"))
                .transpose()?,
            devices: raw.devices.as_ref().map_or(said.devices, |all| all.get_ref().clone()),
            dma_trusted: place.dma(&raw.dma)?,
            disks: disks(place, raw, &mut file)?,
            networks: raw.networks.as_ref().map_or(said.networks, |all| all.get_ref().clone()),
            entropy: raw.entropy.unwrap_or(said.entropy),
            terminal: raw.terminal.unwrap_or(said.terminal),
            periodic: periodic(place, raw)?,
            well_after_us: (raw.well_after.as_ref())
                .map(|time| place.duration(time, "well-after"))
                .transpose()?
                .unwrap_or(said.well_after_us),
            ..said
        };
        self.configuration.guests.push(guest);
        Ok(())
    }

    /// Notes a file that the archive must have. Returns the file's name in the archive.
    fn file(&mut self, name: &str, folder: &Path, made: &[String]) -> Result<String> {
        let (name, source) = match name.strip_prefix('@') {
            Some(known) if made.iter().any(|name| name == known) => {
                (known.to_owned(), Source::Made(known.to_owned()))
            }
            Some(unknown) if made.is_empty() => {
                bail!(
                    "@{unknown} is made by `cargo xtask` alone, in a checkout; name a file in its place"
                )
            }
            Some(unknown) => {
                let known: Vec<_> = made.iter().map(|name| format!("@{name}")).collect();
                bail!("there is no @{unknown}; there are {}", known.join(", "));
            }
            None => {
                let path = folder.join(name);
                let base = path.file_name().and_then(|base| base.to_str());
                (
                    base.with_context(|| format!("{name:?} is no file's name"))?.to_owned(),
                    Source::Path(path),
                )
            }
        };
        match self.files.iter().find(|(other, _)| *other == name) {
            None => self.files.push((name.clone(), source)),
            Some((_, other)) if *other == source => {}
            Some(_) => bail!("two different files would both be \"{name}\" in the archive"),
        }
        Ok(name)
    }
}

/// Reads the disks of a guest.
fn disks(
    place: &Origin<'_>,
    raw: &RawGuest,
    mut file: impl FnMut(&Spanned<String>, &str) -> Result<String>,
) -> Result<Vec<DiskConfig>> {
    let disks = raw.disks.iter().flat_map(Spanned::get_ref);
    let disks = disks.map(|disk| {
        Ok(DiskConfig {
            volume: disk.volume.clone(),
            size: place.size(&disk.size, "disks")?,
            from: disk.from.as_ref().map(|from| file(from, "disks")).transpose()?,
        })
    });
    disks.collect()
}

/// Reads the keys about periodic checkpoints.
fn periodic(place: &Origin<'_>, raw: &RawGuest) -> Result<Option<Periodic>> {
    let (keep, run_share) = (&raw.checkpoint_keep, &raw.checkpoint_run_share);
    let Some(every) = &raw.checkpoint_every else {
        let keep = keep.as_ref().map(|keep| (keep.span(), Problem::KeepOfNone));
        let run_share = run_share.as_ref().map(|share| (share.span(), Problem::RunShareOfNone));
        return match keep.or(run_share) {
            Some((span, problem)) => bail!("{}: {problem}", place.at(span, problem.key())),
            None => Ok(None),
        };
    };
    Ok(Some(Periodic {
        every_us: place.duration(every, "checkpoint-every")?,
        keep: keep.as_ref().map_or(Periodic::DEFAULT_KEEP, |keep| *keep.get_ref()),
        run_share: (run_share.as_ref())
            .map_or(Periodic::DEFAULT_RUN_SHARE, |share| *share.get_ref()),
    }))
}

/// Reads the configuration of a core.
fn core(place: &Origin<'_>, raw: &RawCore) -> Result<CoreConfig> {
    let windows = raw.windows.get_ref().iter().map(Spanned::get_ref).map(|window| {
        Ok(WindowConfig {
            guest: window.guest.get_ref().clone(),
            at_us: place.duration(&window.at, "at")?,
            length_us: place.duration(&window.length, "length")?,
        })
    });
    Ok(CoreConfig {
        number: *raw.number.get_ref(),
        frame_us: place.duration(&raw.frame, "frame")?,
        windows: windows.collect::<Result<_>>()?,
    })
}

/// The context of a configuration: its text, the folder of its files, and the names of all files
/// that a checkout makes.
struct Origin<'a> {
    written: &'a Written,
    folder: &'a Path,
    made: &'a [String],
}

impl Origin<'_> {
    /// Returns the line and the key of a place in the text, as an error says them.
    fn at(&self, span: Range<usize>, key: &str) -> String {
        self.written.place(span, key)
    }

    /// Reads a size, in bytes.
    fn size(&self, value: &Spanned<String>, key: &str) -> Result<u64> {
        let found = value.get_ref();
        parse_size(found).with_context(|| {
            format!("{}: {found:?} is no size such as \"256M\"", self.at(value.span(), key))
        })
    }

    /// Reads a time, in microseconds.
    fn duration(&self, value: &Spanned<String>, key: &str) -> Result<u64> {
        let found = value.get_ref();
        parse_time(found).with_context(|| {
            let at = self.at(value.span(), key);
            format!("{at}: {found:?} is no time such as \"10ms\"; it ends in us, ms or s")
        })
    }

    fn policy(&self, value: &Option<Spanned<String>>, key: &'static str) -> Result<Option<Policy>> {
        let Some(value) = value else { return Ok(None) };
        let found = value.get_ref().clone();
        let policy = Policy::from_name(&found).with_context(|| {
            format!("{}: {}", self.at(value.span(), key), Problem::Policy { key, found })
        })?;
        Ok(Some(policy))
    }

    fn memory_map(&self, value: &Option<Spanned<String>>) -> Result<MemoryMap> {
        let Some(value) = value else { return Ok(MemoryMap::Virt) };
        let found = value.get_ref();
        MemoryMap::from_name(found).with_context(|| {
            let problem = Problem::MemoryMap(found.clone());
            format!("{}: {problem}", self.at(value.span(), problem.key()))
        })
    }

    /// Reads whether a guest is trusted with devices that access memory by themselves.
    fn dma(&self, value: &Option<Spanned<String>>) -> Result<bool> {
        let Some(value) = value else { return Ok(false) };
        let problem = Problem::Dma(value.get_ref().clone());
        ensure!(value.get_ref() == TRUSTED, "{}: {problem}", self.at(value.span(), problem.key()));
        Ok(true)
    }

    /// Returns the error of a rule that the configuration breaks, with its line and key.
    fn complaint(&self, error: ConfigError) -> anyhow::Error {
        let file = &self.written.file;
        match &error {
            ConfigError::NoGuests => anyhow!("there is no [[guest]]"),
            ConfigError::Guest { index, problem, .. } => {
                anyhow!("{}: {problem}", self.written.of_guest(*index, problem.key()))
            }
            ConfigError::Core { index, problem, .. } => {
                let (window, key) = problem.place();
                let span = file.cores[*index].get_ref().span(window, key);
                anyhow!("{}: {problem}", self.at(span, key))
            }
            ConfigError::Network { index, problem, .. } => {
                let key = problem.key();
                let span = file.networks[*index].get_ref().span(key);
                anyhow!("{}: {problem}", self.at(span, key))
            }
            ConfigError::Shared { index, problem, .. } => {
                let key = problem.key();
                let span = file.shared[*index].get_ref().span(key);
                anyhow!("{}: {problem}", self.at(span, key))
            }
            _ => anyhow!(error),
        }
    }
}

#[cfg(test)]
mod tests;
