//! What the commands are that one word stands for several of: `store`, `weight`, `windows`,
//! `volume`, `network`.

use alloc::string::ToString;

use super::arguments::Arguments;
use super::{Command, CommandError, JSON, MAX_WEIGHT, SEPARATOR, Window};
use crate::text::parse_time;

/// What `store` does.
pub(super) const STORE_WORDS: &[&str] = &["list", "upgrade", "compress"];
/// How a store compresses: the names of `stasis_store::Compression`.
pub(super) const COMPRESSIONS: &[&str] = &["lz4", "none"];

/// Returns the command that `store` is with these arguments.
pub(super) fn store<'a>(arguments: &Arguments<'a>) -> Result<Command<'a>, CommandError> {
    match arguments.optional(0) {
        Some("upgrade") => arguments.no_more(1).map(|()| Command::UpgradeStore),
        Some("compress") => Ok(Command::CompressStore(arguments.needed(1, "lz4|none")?)),
        _ => arguments.no_more(1).map(|()| Command::Store { json: arguments.has(JSON) }),
    }
}

/// Returns the command that `weight` is with these arguments.
pub(super) fn weight<'a>(arguments: &Arguments<'a>) -> Result<Command<'a>, CommandError> {
    if arguments.optional(0).is_none() {
        return Ok(Command::Weights { json: arguments.has(JSON) });
    }
    arguments.needed(1, "weight")?;
    let weight = arguments.number(1, MAX_WEIGHT.into())?.unwrap_or(1) as u16;
    Ok(Command::SetWeight { guests: arguments.guests(0)?, weight })
}

/// The word for a core that has no frame.
const NO_FRAME: &str = "none";

/// Returns the command that `windows` is with these arguments.
pub(super) fn windows<'a>(arguments: &Arguments<'a>) -> Result<Command<'a>, CommandError> {
    let Some(core) = arguments.optional(0) else {
        return Ok(Command::Windows { json: arguments.has(JSON) });
    };
    let usage = arguments.usage;
    let core = core.parse().map_err(|_| arguments.not_a_number(core, 0, u32::MAX.into()))?;
    let frame = arguments.needed(1, "frame")?;
    if frame == NO_FRAME {
        arguments.no_more(2)?;
        return Ok(Command::Divide { core, frame: None });
    }
    let frame_us = parse_time(frame)
        .ok_or_else(|| CommandError::NotATime { word: frame.to_string(), usage })?;
    let list = arguments.needed(2, "guest:at:length")?.split(SEPARATOR);
    let window = |word: &'a str| {
        Window::parse(word)
            .ok_or_else(|| CommandError::NotAWindow { word: word.to_string(), usage })
    };
    let windows = list.map(window).collect::<Result<_, _>>()?;
    Ok(Command::Divide { core, frame: Some((frame_us, windows)) })
}

/// What `volume` does.
pub(super) const VOLUME_WORDS: &[&str] = &["list", "create", "copy", "delete"];

/// Returns the command that `volume` is with these arguments.
pub(super) fn volume<'a>(arguments: &Arguments<'a>) -> Result<Command<'a>, CommandError> {
    let name = || arguments.needed(1, "name");
    match arguments.optional(0) {
        Some("create") => {
            Ok(Command::CreateVolume { name: name()?, size: arguments.size(2, "size")? })
        }
        Some("copy") => Ok(Command::CopyVolume { name: name()?, to: arguments.needed(2, "new")? }),
        Some("delete") => {
            let name = name()?;
            arguments.no_more(2).map(|()| Command::DeleteVolume(name))
        }
        _ => arguments.no_more(1).map(|()| Command::Volumes { json: arguments.has(JSON) }),
    }
}

/// What `network` does.
pub(super) const NETWORK_WORDS: &[&str] = &["list", "up", "down"];

/// Returns the command that `network` is with these arguments.
pub(super) fn network<'a>(arguments: &Arguments<'a>) -> Result<Command<'a>, CommandError> {
    let set = |up| Ok(Command::SetLinks { guest: arguments.needed(1, "guest")?, up });
    match arguments.optional(0) {
        Some("up") => set(true),
        Some("down") => set(false),
        _ => arguments.no_more(1).map(|()| Command::Network { json: arguments.has(JSON) }),
    }
}
