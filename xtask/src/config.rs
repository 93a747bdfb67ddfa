//! Reads the configuration that a person writes, a TOML file; its errors name the file, the line and the key.
//!
//! It becomes the device tree that `stasis_vm::config` defines. An image's name is a path, relative to the file,
//! or `@` and the name of something that xtask makes ([`Made`]).

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use stasis_vm::config::{self as vm, ConfigError, GuestConfig, Kind, Problem};
use toml::Spanned;

use crate::workspace::Workspace;
use crate::{build, report};

/// A configuration: the guests, and the files that the archive must have for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The guests, checked.
    pub guests: Vec<GuestConfig>,
    /// Each file's name in the archive and where it comes from.
    pub files: Vec<(String, Source)>,
}

/// Where a file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// From this path.
    Path(PathBuf),
    /// It is made.
    Made(Made),
}

/// What xtask makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// `@linux`: Debian's kernel.
    Linux,
    /// `@initramfs`: a busybox to go with it.
    Initramfs,
    /// `@<name>`: a bare-metal guest of `tests/guests`.
    Guest(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default, rename = "guest")]
    guests: Vec<Spanned<RawGuest>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGuest {
    name: Spanned<String>,
    image: Spanned<String>,
    kind: Option<Spanned<String>>,
    initrd: Option<Spanned<String>>,
    cmdline: Option<Spanned<String>>,
    memory: Spanned<String>,
    vcpus: Option<Spanned<u8>>,
    core: Option<Spanned<u32>>,
    #[serde(default = "yes")]
    autostart: bool,
}

fn yes() -> bool {
    true
}

impl Config {
    /// Reads the configuration in `path`.
    pub fn read(workspace: &Workspace, path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let names = build::guest_names(workspace)?;
        Self::parse(&text, folder, &names).map_err(|error| anyhow!("{}: {error:#}", path.display()))
    }

    /// Reads a configuration whose relative paths start at `folder`. `guests` are the names of those that xtask makes.
    pub fn parse(text: &str, folder: &Path, guests: &[String]) -> Result<Self> {
        let file: RawFile = toml::from_str(text).map_err(|error| {
            // Its own words name the key; the snippet that toml adds would tear our one line apart.
            let line = error.span().map_or(1, |span| line(text, span.start));
            anyhow!("line {line}{}: {}", key_at(text, error.span()), error.message())
        })?;
        let mut config = Self { guests: Vec::new(), files: Vec::new() };
        for raw in file.guests {
            let whole = raw.span();
            config.add(text, folder, guests, raw.into_inner(), whole)?;
        }
        vm::check(&config.guests).map_err(|error| match error {
            ConfigError::NoGuests => anyhow!("there is no [[guest]]"),
            other => anyhow!(other),
        })?;
        Ok(config)
    }

    fn add(
        &mut self,
        text: &str,
        folder: &Path,
        made: &[String],
        raw: RawGuest,
        whole: Range<usize>,
    ) -> Result<()> {
        let at = |span: Range<usize>, key: &str| format!("line {}: {key}", line(text, span.start));
        let memory = report::parse_size(raw.memory.get_ref()).with_context(|| {
            let found = raw.memory.get_ref();
            format!("{}: {found:?} is no size such as \"256M\"", at(raw.memory.span(), "memory"))
        })?;
        let kind = match &raw.kind {
            None => None,
            Some(kind) => Some(Kind::from_name(kind.get_ref()).with_context(|| {
                let found = kind.get_ref();
                format!(
                    "{}: {found:?} is none of \"linux\", \"elf\", \"raw\"",
                    at(kind.span(), "kind")
                )
            })?),
        };
        let image = self
            .file(raw.image.get_ref(), folder, made)
            .with_context(|| at(raw.image.span(), "image"))?;
        let initrd = match &raw.initrd {
            None => None,
            Some(initrd) => Some(
                self.file(initrd.get_ref(), folder, made)
                    .with_context(|| at(initrd.span(), "initrd"))?,
            ),
        };
        self.guests.push(GuestConfig {
            name: raw.name.get_ref().clone(),
            image,
            kind,
            initrd,
            cmdline: raw.cmdline.as_ref().map(|text| text.get_ref().clone()).unwrap_or_default(),
            memory,
            vcpus: raw.vcpus.as_ref().map_or(1, |vcpus| *vcpus.get_ref()),
            core: raw.core.as_ref().map(|core| *core.get_ref()),
            autostart: raw.autostart,
        });
        match vm::check(&self.guests) {
            Err(ConfigError::Guest { problem, .. }) => {
                let (key, span) = match &problem {
                    Problem::Memory(_) => ("memory", raw.memory.span()),
                    Problem::Vcpus(_) => ("vcpus", raw.vcpus.map_or(whole, |vcpus| vcpus.span())),
                    Problem::Nul("cmdline") => {
                        ("cmdline", raw.cmdline.map_or(whole, |text| text.span()))
                    }
                    Problem::Empty("image") | Problem::Nul("image") => ("image", raw.image.span()),
                    Problem::Empty("initrd") | Problem::Nul("initrd") => {
                        ("initrd", raw.initrd.map_or(whole, |text| text.span()))
                    }
                    _ => ("name", raw.name.span()),
                };
                bail!("{}: {problem}", at(span, key))
            }
            _ => Ok(()),
        }
    }

    /// Notes a file that the archive must have and returns its name there.
    fn file(&mut self, name: &str, folder: &Path, made: &[String]) -> Result<String> {
        let (name, source) = match name.strip_prefix('@') {
            Some("linux") => ("linux".to_owned(), Source::Made(Made::Linux)),
            Some("initramfs") => ("initramfs".to_owned(), Source::Made(Made::Initramfs)),
            Some(guest) if made.iter().any(|name| name == guest) => {
                (guest.to_owned(), Source::Made(Made::Guest(guest.to_owned())))
            }
            Some(unknown) => {
                let known = made.iter().map(|name| format!(", @{name}")).collect::<String>();
                bail!("there is no @{unknown}; there are @linux, @initramfs{known}");
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

/// The number of the line that `offset` is in.
fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

/// The key of the assignment that begins the line of `span`, as `: <key>`.
fn key_at(text: &str, span: Option<Range<usize>>) -> String {
    let line = span.and_then(|span| text.lines().nth(line(text, span.start) - 1));
    match line.and_then(|line| line.split_once('=')) {
        Some((key, _)) => format!(": {}", key.trim()),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text, Path::new("/there"), &["counter".to_owned()])
    }

    fn error(text: &str) -> String {
        format!("{:#}", parse(text).unwrap_err())
    }

    #[test]
    fn a_guest_has_defaults_for_what_is_not_said() {
        let config =
            parse("[[guest]]\nname = \"a\"\nimage = \"@counter\"\nmemory = \"64M\"\n").unwrap();
        let guest = &config.guests[0];
        assert_eq!((guest.memory, guest.vcpus, guest.autostart), (64 << 20, 1, true));
        assert_eq!((guest.kind, &guest.initrd, guest.core), (None, &None, None));
        let made = Source::Made(Made::Guest("counter".to_owned()));
        assert_eq!(config.files, [("counter".to_owned(), made)]);
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_line() {
        let error = error("[[guest]]\nname = \"a\"\nimgae = \"@counter\"\nmemory = \"64M\"\n");
        assert!(error.starts_with("line 3: imgae: unknown field `imgae`"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line_and_key() {
        let guest = |memory: &str, more: &str| {
            error(&format!(
                "[[guest]]\nname = \"a\"\nimage = \"x\"\nmemory = \"{memory}\"\n{more}\n"
            ))
        };
        assert_eq!(guest("much", ""), "line 4: memory: \"much\" is no size such as \"256M\"");
        assert!(guest("3M", "").starts_with("line 4: memory: memory of 3145728 bytes"));
        assert!(guest("64M", "vcpus = 9").starts_with("line 5: vcpus: 9 vCPUs"));
        assert!(guest("64M", "vcpus = \"two\"").starts_with("line 5: vcpus: invalid type"));
        assert!(guest("64M", "kind = \"exe\"").starts_with("line 5: kind: \"exe\" is none of"));
        assert!(
            guest("64M", "initrd = \"@none\"").starts_with("line 5: initrd: there is no @none")
        );
    }

    #[test]
    fn two_guests_of_one_name_are_refused_at_the_second() {
        let guest = "[[guest]]\nname = \"a\"\nimage = \"x\"\nmemory = \"64M\"\n";
        assert_eq!(error(&guest.repeat(2)), "line 6: name: another guest has the same name");
    }

    #[test]
    fn a_missing_key_and_a_missing_guest_are_named() {
        assert!(
            error("[[guest]]\nname = \"a\"\nmemory = \"64M\"\n").contains("missing field `image`")
        );
        assert_eq!(error(""), "there is no [[guest]]");
    }

    #[test]
    fn two_files_of_one_name_are_refused() {
        let error = error(
            "[[guest]]\nname = \"a\"\nimage = \"one/x\"\ninitrd = \"two/x\"\nmemory = \"64M\"\n",
        );
        assert_eq!(error, "line 4: initrd: two different files would both be \"x\" in the archive");
    }
}
