//! The configuration as it is written, and the place of each key in the text.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFile {
    #[serde(default, rename = "guest")]
    pub guests: Vec<Spanned<RawGuest>>,
    #[serde(default, rename = "core")]
    pub cores: Vec<Spanned<RawCore>>,
    #[serde(default)]
    pub shared: Vec<Spanned<RawShared>>,
    #[serde(default, rename = "network")]
    pub networks: Vec<Spanned<RawNetwork>>,
    #[serde(default)]
    pub store: RawStore,
}

/// The table `[store]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawStore {
    #[serde(rename = "verify-writes")]
    pub verify_writes: Option<bool>,
}

/// A table `[[shared]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawShared {
    pub name: Spanned<String>,
    pub size: Spanned<String>,
    pub guests: Spanned<Vec<String>>,
}

impl RawShared {
    /// Returns the place of a key's value in the text.
    pub fn span(&self, key: &str) -> Range<usize> {
        match key {
            "size" => self.size.span(),
            "guests" => self.guests.span(),
            _ => self.name.span(),
        }
    }
}

/// A table `[[network]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawNetwork {
    pub name: Spanned<String>,
    pub uplink: Option<Spanned<String>>,
}

impl RawNetwork {
    /// Returns the place of a key's value in the text; that of the name, if the key is not there.
    pub fn span(&self, key: &str) -> Range<usize> {
        match (key, &self.uplink) {
            ("uplink", Some(uplink)) => uplink.span(),
            _ => self.name.span(),
        }
    }
}

/// A table `[[guest]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawGuest {
    pub name: Spanned<String>,
    pub image: Spanned<String>,
    pub kind: Option<Spanned<String>>,
    pub initrd: Option<Spanned<String>>,
    pub cmdline: Option<Spanned<String>>,
    pub memory: Spanned<String>,
    #[serde(rename = "memory-map")]
    pub memory_map: Option<Spanned<String>>,
    pub overcommit: Option<Spanned<bool>>,
    pub portable: Option<Spanned<bool>>,
    pub vcpus: Option<Spanned<u8>>,
    pub cores: Option<Spanned<Vec<u32>>>,
    pub weight: Option<Spanned<u16>>,
    #[serde(rename = "counter-frequency")]
    pub counter_frequency: Option<Spanned<u32>>,
    pub autostart: Option<bool>,
    #[serde(rename = "on-crash")]
    pub on_crash: Option<Spanned<String>>,
    #[serde(rename = "on-reset")]
    pub on_reset: Option<Spanned<String>>,
    pub watchdog: Option<Spanned<String>>,
    pub devices: Option<Spanned<Vec<String>>>,
    pub dma: Option<Spanned<String>>,
    pub disks: Option<Spanned<Vec<RawDisk>>>,
    pub networks: Option<Spanned<Vec<String>>>,
    pub entropy: Option<bool>,
    pub terminal: Option<bool>,
    #[serde(rename = "checkpoint-every")]
    pub checkpoint_every: Option<Spanned<String>>,
    #[serde(rename = "checkpoint-keep")]
    pub checkpoint_keep: Option<Spanned<u8>>,
    #[serde(rename = "checkpoint-run-share")]
    pub checkpoint_run_share: Option<Spanned<u8>>,
    #[serde(rename = "well-after")]
    pub well_after: Option<Spanned<String>>,
}

impl RawGuest {
    /// Returns the place of a key's value in the text, if the key is there.
    pub fn span(&self, key: &str) -> Option<Range<usize>> {
        match key {
            "name" => Some(self.name.span()),
            "image" => Some(self.image.span()),
            "kind" => self.kind.as_ref().map(Spanned::span),
            "initrd" => self.initrd.as_ref().map(Spanned::span),
            "cmdline" => self.cmdline.as_ref().map(Spanned::span),
            "memory" => Some(self.memory.span()),
            "memory-map" => self.memory_map.as_ref().map(Spanned::span),
            "overcommit" => self.overcommit.as_ref().map(Spanned::span),
            "portable" => self.portable.as_ref().map(Spanned::span),
            "vcpus" => self.vcpus.as_ref().map(Spanned::span),
            "cores" => self.cores.as_ref().map(Spanned::span),
            "weight" => self.weight.as_ref().map(Spanned::span),
            "counter-frequency" => self.counter_frequency.as_ref().map(Spanned::span),
            "on-crash" => self.on_crash.as_ref().map(Spanned::span),
            "on-reset" => self.on_reset.as_ref().map(Spanned::span),
            "watchdog" => self.watchdog.as_ref().map(Spanned::span),
            "devices" => self.devices.as_ref().map(Spanned::span),
            "networks" => self.networks.as_ref().map(Spanned::span),
            "disks" => self.disks.as_ref().map(Spanned::span),
            "dma" => self.dma.as_ref().map(Spanned::span),
            "checkpoint-every" => self.checkpoint_every.as_ref().map(Spanned::span),
            "checkpoint-keep" => self.checkpoint_keep.as_ref().map(Spanned::span),
            "checkpoint-run-share" => self.checkpoint_run_share.as_ref().map(Spanned::span),
            "well-after" => self.well_after.as_ref().map(Spanned::span),
            _ => None,
        }
    }
}

/// An element of `disks`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDisk {
    pub volume: String,
    pub size: Spanned<String>,
    pub from: Option<Spanned<String>>,
}

/// A table `[[core]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCore {
    pub number: Spanned<u32>,
    pub frame: Spanned<String>,
    pub windows: Spanned<Vec<Spanned<RawWindow>>>,
}

impl RawCore {
    /// Returns the place of a key's value in the text. The key is the core's own, or that of a
    /// window.
    pub fn span(&self, window: Option<usize>, key: &str) -> Range<usize> {
        let window = window.and_then(|window| self.windows.get_ref().get(window));
        match (window.map(Spanned::get_ref), key) {
            (Some(window), "guest") => window.guest.span(),
            (Some(window), "at") => window.at.span(),
            (Some(window), _) => window.length.span(),
            (None, "frame") => self.frame.span(),
            (None, "windows") => self.windows.span(),
            (None, _) => self.number.span(),
        }
    }
}

/// An element of `windows`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWindow {
    pub guest: Spanned<String>,
    pub at: Spanned<String>,
    pub length: Spanned<String>,
}
