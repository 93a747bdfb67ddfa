//! A compiled configuration, read.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{FdtStringListIterator, Node, Property};

use super::core_plan::{CoreConfig, CoreProblem, WindowConfig};
use super::error::{ConfigError, Problem};
use super::memory_map::{MemoryMap, TRUSTED};
use super::network::{NetworkConfig, NetworkProblem};
use super::policy::{DEFAULT_WELL_AFTER_US, Periodic, Policy};
use super::property::{
    self, DOUBLEWORD, DOUBLEWORDS, PropertyProblem, TEXT, TEXTS, WORD, WORDS, needed, only, value,
};
use super::shared::SharedProblem;
use super::{
    COMPATIBLE, Configuration, DEFAULT_WEIGHT, DiskConfig, GuestConfig, StoreConfig, check,
};
use stasis_console::text::quoted;
use stasis_guest::image::Kind;
use stasis_guest::shared::SharedRegion;

/// Reads a configuration and checks it.
pub fn parse(dtb: &[u8]) -> Result<Configuration, ConfigError> {
    let root = Fdt::new(dtb).map_err(ConfigError::DeviceTree)?.root();
    let compatible = root
        .property("compatible")
        .and_then(|property| property.value_as::<FdtStringListIterator<'_>>().ok())
        .is_some_and(|mut list| list.any(|one| one == COMPATIBLE));
    if !compatible {
        return Err(ConfigError::NotAConfiguration);
    }
    let mut configuration = Configuration::default();
    for node in root.children() {
        match node.name_without_address() {
            "guest" => configuration.guests.push(guest(&node).map_err(|problem| {
                let name = value::<&str>(&node, property::NAME, TEXT).ok().flatten();
                let guest = name.map_or_else(|| node.name().to_string(), quoted);
                ConfigError::Guest { index: configuration.guests.len(), guest, problem }
            })?),
            "core" => configuration.cores.push(core(&node).map_err(|problem| {
                let number = value::<u32>(&node, property::REG, WORD).ok().flatten();
                let core =
                    number.map_or_else(|| node.name().to_string(), |number| number.to_string());
                ConfigError::Core { index: configuration.cores.len(), core, problem }
            })?),
            "shared" => configuration.shared.push(shared(&node).map_err(|problem| {
                let name = value::<&str>(&node, property::REGION, TEXT).ok().flatten();
                let shared = name.map_or_else(|| node.name().to_string(), quoted);
                ConfigError::Shared { index: configuration.shared.len(), shared, problem }
            })?),
            "network" => configuration.networks.push(network(&node).map_err(|problem| {
                let name = value::<&str>(&node, property::NETWORK, TEXT).ok().flatten();
                let network = name.map_or_else(|| node.name().to_string(), quoted);
                ConfigError::Network { index: configuration.networks.len(), network, problem }
            })?),
            "store" => configuration.store = store(&node).map_err(ConfigError::Store)?,
            _ => return Err(ConfigError::UnknownNode(node.name().to_string())),
        }
    }
    check(&configuration)?;
    Ok(configuration)
}

fn guest(node: &FdtNode<'_>) -> Result<GuestConfig, Problem> {
    only(node, property::GUEST)?;
    let string = |property| value::<String>(node, property, TEXT);
    let vcpus = needed::<u32>(node, property::VCPUS, WORD)?;
    let weight = value::<u32>(node, property::WEIGHT, WORD)?.unwrap_or(DEFAULT_WEIGHT.into());
    Ok(GuestConfig {
        name: needed(node, property::NAME, TEXT)?,
        image: needed(node, property::IMAGE, TEXT)?,
        kind: match string(property::KIND)? {
            Some(kind) => Some(Kind::from_name(&kind).ok_or(Problem::Kind(kind))?),
            None => None,
        },
        initrd: string(property::INITRD)?,
        cmdline: string(property::BOOTARGS)?.unwrap_or_default(),
        memory: needed(node, property::MEMORY_SIZE, DOUBLEWORD)?,
        memory_map: match string(property::MEMORY_MAP)? {
            Some(map) => MemoryMap::from_name(&map).ok_or(Problem::MemoryMap(map))?,
            None => MemoryMap::Virt,
        },
        overcommit: value::<[u8; 0]>(node, property::OVERCOMMIT, "empty")?.is_some(),
        portable: value::<[u8; 0]>(node, property::NOT_PORTABLE, "empty")?.is_none(),
        vcpus: u8::try_from(vcpus).map_err(|_| Problem::Vcpus(vcpus))?,
        cores: numbers(node, property::CORES)?,
        weight: u16::try_from(weight).map_err(|_| Problem::Weight(weight))?,
        counter_frequency: value::<u32>(node, property::COUNTER_FREQUENCY, WORD)?,
        autostart: value::<[u8; 0]>(node, property::AUTOSTART, "empty")?.is_some(),
        on_crash: policy(node, property::ON_CRASH)?.unwrap_or(Policy::Stop),
        on_reset: policy(node, property::ON_RESET)?.unwrap_or(Policy::Restart),
        watchdog_us: value(node, property::WATCHDOG_US, DOUBLEWORD)?,
        devices: texts(node, property::DEVICES)?,
        dma_trusted: match string(property::DMA)? {
            Some(dma) if dma != TRUSTED => return Err(Problem::Dma(dma)),
            dma => dma.is_some(),
        },
        disks: disks(node)?,
        networks: texts(node, property::NETWORKS)?,
        entropy: value::<[u8; 0]>(node, property::ENTROPY, "empty")?.is_some(),
        terminal: value::<[u8; 0]>(node, property::TERMINAL, "empty")?.is_some(),
        periodic: periodic(node)?,
        well_after_us: value(node, property::WELL_AFTER_US, DOUBLEWORD)?
            .unwrap_or(DEFAULT_WELL_AFTER_US),
    })
}

fn policy(node: &FdtNode<'_>, property: &'static str) -> Result<Option<Policy>, Problem> {
    let Some(name) = value::<String>(node, property, TEXT)? else { return Ok(None) };
    let policy = Policy::from_name(&name);
    policy.map(Some).ok_or(Problem::Policy { key: property, found: name })
}

fn periodic(node: &FdtNode<'_>) -> Result<Option<Periodic>, Problem> {
    let every = value::<u64>(node, property::CHECKPOINT_EVERY_US, DOUBLEWORD)?;
    let keep = value::<u32>(node, property::CHECKPOINT_KEEP, WORD)?;
    let run_share = value::<u32>(node, property::CHECKPOINT_RUN_SHARE, WORD)?;
    let Some(every_us) = every else {
        return match (keep, run_share) {
            (Some(_), _) => Err(Problem::KeepOfNone),
            (None, Some(_)) => Err(Problem::RunShareOfNone),
            (None, None) => Ok(None),
        };
    };
    let keep = keep.unwrap_or(Periodic::DEFAULT_KEEP.into());
    let run_share = run_share.unwrap_or(Periodic::DEFAULT_RUN_SHARE.into());
    Ok(Some(Periodic {
        every_us,
        keep: u8::try_from(keep).map_err(|_| Problem::Keep(keep))?,
        run_share: u8::try_from(run_share).map_err(|_| Problem::RunShare(run_share))?,
    }))
}

/// Returns the strings of a property; none where there is no such property.
fn texts(node: &FdtNode<'_>, property: &'static str) -> Result<Vec<String>, PropertyProblem> {
    let texts = value::<FdtStringListIterator<'_>>(node, property, TEXTS)?;
    Ok(texts.into_iter().flatten().map(ToString::to_string).collect())
}

fn disks(node: &FdtNode<'_>) -> Result<Vec<DiskConfig>, PropertyProblem> {
    let volumes = value::<FdtStringListIterator<'_>>(node, property::DISKS, TEXTS)?;
    let volumes: Vec<&str> = volumes.into_iter().flatten().collect();
    let bytes = value::<&[u8]>(node, property::DISK_SIZES, DOUBLEWORDS)?.unwrap_or_default();
    let images = value::<FdtStringListIterator<'_>>(node, property::DISK_IMAGES, TEXTS)?;
    let images: Vec<&str> = match images {
        Some(images) => images.collect(),
        None => volumes.iter().map(|_| "").collect(),
    };
    if images.len() != volumes.len() {
        return Err(PropertyProblem::Type { property: property::DISK_IMAGES, expected: TEXTS });
    }
    match bytes.as_chunks::<8>() {
        (sizes, []) if sizes.len() == volumes.len() => {
            let disks = volumes.into_iter().zip(sizes).zip(images);
            let disks = disks.map(|((volume, size), image)| DiskConfig {
                volume: volume.to_string(),
                size: u64::from_be_bytes(*size),
                from: Some(image.to_string()).filter(|image| !image.is_empty()),
            });
            Ok(disks.collect())
        }
        _ => Err(PropertyProblem::Type { property: property::DISK_SIZES, expected: DOUBLEWORDS }),
    }
}

/// The 32-bit numbers of a property; none where there is no such property.
fn numbers(node: &FdtNode<'_>, property: &'static str) -> Result<Vec<u32>, PropertyProblem> {
    let bytes = value::<&[u8]>(node, property, WORDS)?.unwrap_or_default();
    match bytes.as_chunks::<4>() {
        (cells, []) => Ok(cells.iter().map(|cell| u32::from_be_bytes(*cell)).collect()),
        _ => Err(PropertyProblem::Type { property, expected: WORDS }),
    }
}

fn shared(node: &FdtNode<'_>) -> Result<SharedRegion, SharedProblem> {
    only(node, &property::SHARED)?;
    let guests = needed::<FdtStringListIterator<'_>>(node, property::GUESTS, TEXTS)?;
    Ok(SharedRegion {
        name: needed(node, property::REGION, TEXT)?,
        size: needed(node, property::SIZE, DOUBLEWORD)?,
        guests: guests.map(ToString::to_string).collect(),
    })
}

fn network(node: &FdtNode<'_>) -> Result<NetworkConfig, NetworkProblem> {
    only(node, &property::NETWORK_NODE)?;
    Ok(NetworkConfig {
        name: needed(node, property::NETWORK, TEXT)?,
        uplink: value(node, property::UPLINK, TEXT)?,
    })
}

fn store(node: &FdtNode<'_>) -> Result<StoreConfig, PropertyProblem> {
    only(node, &property::STORE)?;
    Ok(StoreConfig { verify_writes: node.property(property::UNVERIFIED_WRITES).is_none() })
}

fn core(node: &FdtNode<'_>) -> Result<CoreConfig, CoreProblem> {
    only(node, &property::CORE)?;
    let mut windows = Vec::new();
    for child in node.children() {
        if child.name_without_address() != "window" {
            return Err(CoreProblem::UnknownNode(child.name().to_string()));
        }
        let window = windows.len();
        windows.push(
            self::window(&child)
                .map_err(|problem| CoreProblem::WindowProperty { window, problem })?,
        );
    }
    Ok(CoreConfig {
        number: needed(node, property::REG, WORD)?,
        frame_us: needed(node, property::FRAME_US, DOUBLEWORD)?,
        windows,
    })
}

fn window(node: &FdtNode<'_>) -> Result<WindowConfig, PropertyProblem> {
    only(node, &property::WINDOW)?;
    Ok(WindowConfig {
        guest: needed(node, property::NAME, TEXT)?,
        at_us: needed(node, property::AT_US, DOUBLEWORD)?,
        length_us: needed(node, property::LENGTH_US, DOUBLEWORD)?,
    })
}
