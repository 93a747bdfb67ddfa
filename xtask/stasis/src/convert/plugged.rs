//! The virtio devices of a machine of QEMU's, as its command line has them: [`Plugged`].

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use stasis_devices::virtio::fresh::offered;
use stasis_state::virtio::{Virtio, device_id};

use crate::qemu_option::{self, ON_ERROR};

/// Bytes of a sector.
const SECTOR: u64 = 512;
/// Features of a disk that only say what it is like (GEOMETRY, TOPOLOGY), and that no QEMU leaves
/// out. A driver that has accepted them goes on without.
const HINTS: u64 = 1 << 4 | 1 << 10;
/// Makes the transports those of VIRTIO 1.0 and later.
const MODERN: &str = "virtio-mmio.force-legacy=false";

/// A device in a slot, with what is behind it. It offers its driver what Stasis's does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugged {
    /// The number of its transport.
    pub slot: usize,
    /// What it is.
    pub kind: Kind,
}

/// A kind of device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A disk, with its serial number and its image. QEMU's base has none.
    Disk {
        /// The serial number.
        serial: String,
        /// A raw image.
        image: PathBuf,
    },
    /// A network card, with its address.
    Card([u8; 6]),
    /// A source of random bytes.
    Entropy,
}

/// Where a device's contents are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// In the image of a disk, and in a network of QEMU's.
    Real,
    /// Nowhere: the machine never runs.
    Nothing,
}

impl Plugged {
    /// Returns the options that make the machine have these devices.
    pub fn options(devices: &[Self], behind: Behind) -> Vec<String> {
        let modern = (!devices.is_empty()).then_some(["-global", MODERN].map(String::from));
        let devices = devices.iter().flat_map(|device| device.option(behind));
        modern.into_iter().flatten().chain(devices).collect()
    }

    fn option(&self, behind: Behind) -> Vec<String> {
        let Self { slot, kind } = self;
        let backend = match (kind, behind) {
            (Kind::Entropy, _) => None,
            (Kind::Disk { image, .. }, Behind::Real) => {
                let image = file_name(image);
                Some([
                    "-drive".to_owned(),
                    format!("if=none,id=disk{slot},{ON_ERROR},format=raw,file={image}"),
                ])
            }
            (Kind::Disk { .. }, Behind::Nothing) => {
                Some(["-blockdev".to_owned(), format!("null-co,node-name=disk{slot}")])
            }
            (Kind::Card(_), Behind::Real) => {
                Some(["-netdev".to_owned(), format!("user,id=card{slot}")])
            }
            (Kind::Card(_), Behind::Nothing) => {
                Some(["-netdev".to_owned(), format!("hubport,id=card{slot},hubid={slot}")])
            }
        };
        let device = match kind {
            Kind::Disk { serial, .. } => {
                format!("virtio-blk-device,drive=disk{slot},serial={serial},config-wce=off")
            }
            Kind::Card([a, b, c, d, e, f]) => format!(
                "virtio-net-device,netdev=card{slot},mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x},host_mtu=1500,\
                 mrg_rxbuf=off,ctrl_rx=off,ctrl_vlan=off,ctrl_rx_extra=off,ctrl_mac_addr=off,ctrl_guest_offloads=off"
            ),
            Kind::Entropy => "virtio-rng-device".to_owned(),
        };
        let device = format!("{device},event_idx=off,bus=virtio-mmio-bus.{slot}");
        backend.into_iter().flatten().chain(["-device".to_owned(), device]).collect()
    }

    /// Returns the devices of a guest of Stasis's. `image` is where the image of a volume is.
    ///
    /// # Errors
    ///
    /// `image` has none.
    pub fn of(virtio: &Virtio, image: impl Fn(&str) -> Result<PathBuf>) -> Result<Vec<Self>> {
        let plugged = |(slot, id): (usize, u32)| {
            let name = virtio.name_text(slot);
            let serial =
                name.chars().take(stasis_devices::virtio::block::SERIAL as usize).collect();
            let kind = match id {
                device_id::BLOCK => Kind::Disk { serial, image: image(name)? },
                device_id::NETWORK => {
                    let [a, b, c, d, e, f, ..] = virtio.mac[slot].to_le_bytes();
                    Kind::Card([a, b, c, d, e, f])
                }
                _ => Kind::Entropy,
            };
            Ok(Self { slot, kind })
        };
        virtio.slots().map(plugged).collect()
    }

    /// Returns a device with this ID, and nothing behind it.
    pub fn blank((slot, id): (usize, u32)) -> Self {
        let kind = match id {
            device_id::BLOCK => Kind::Disk { serial: String::new(), image: PathBuf::new() },
            device_id::NETWORK => Kind::Card([0x52, 0x54, 0, 0, 0, slot as u8]),
            _ => Kind::Entropy,
        };
        Self { slot, kind }
    }
}

/// Returns a path as an option's value that QEMU takes for a file. A name with a colon before its
/// first slash would be one of a protocol.
fn file_name(path: &Path) -> String {
    let name = qemu_option::value(path);
    let is_protocol = name.find([':', '/']).is_some_and(|at| name.as_bytes()[at] == b':');
    if is_protocol { format!("./{name}") } else { name }
}

/// A disk that a person names: its volume, and the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The name of the volume.
    pub volume: String,
    /// A raw image.
    pub image: PathBuf,
}

impl std::str::FromStr for Disk {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (volume, image) = text.split_once('=').context("say VOLUME=IMAGE")?;
        stasis_state::name::check(volume).map_err(|error| anyhow!("\"{volume}\": {error}"))?;
        Ok(Self { volume: volume.to_owned(), image: image.into() })
    }
}

/// Says in a guest's record what is behind its devices, and what they offer, which QEMU's stream
/// does not: the disks and the networks in the order of the slots.
///
/// # Errors
///
/// There are more or fewer than the guest has; two disks are one volume; an image is none; a driver
/// has accepted what Stasis does not offer.
pub fn complete(virtio: &mut Virtio, disks: &[Disk], networks: &[String]) -> Result<()> {
    let count = |id: u32| virtio.slots().filter(|(_, found)| *found == id).count();
    let (has_disks, has_cards) = (count(device_id::BLOCK), count(device_id::NETWORK));
    let (d, n) = (disks.len(), networks.len());
    ensure!(d == has_disks, "it has {has_disks} virtio disks: say VOLUME=IMAGE of each by --disk");
    ensure!(
        n == has_cards,
        "it has {has_cards} network cards: say the network of each by --network"
    );
    let mut volumes: Vec<&str> = disks.iter().map(|disk| disk.volume.as_str()).collect();
    volumes.sort_unstable();
    if let Some([twice, _]) = volumes.array_windows().find(|[one, next]| one == next) {
        bail!("two disks are the volume \"{twice}\": give each a name of its own by --disk");
    }
    let (mut disks, mut networks) = (disks.iter(), networks.iter());
    for (slot, id) in virtio.slots().collect::<Vec<_>>() {
        let accepted = virtio.driver_features[slot];
        let hints = if id == device_id::BLOCK { accepted & HINTS } else { 0 };
        virtio.features[slot] = offered(id) | hints;
        let foreign = accepted & !virtio.features[slot];
        ensure!(
            foreign == 0,
            "the driver of its virtio device in slot {slot} uses features {foreign:#x}, which Stasis does not have; start QEMU with the options that `convert qemu` prints for a guest with such devices"
        );
        match id {
            device_id::BLOCK => {
                let Some(Disk { volume, image }) = disks.next() else { continue };
                virtio.set_name(slot, volume);
                virtio.capacity[slot] = length(image)? / SECTOR;
            }
            device_id::NETWORK => {
                let Some(network) = networks.next() else { continue };
                stasis_state::name::check(network)
                    .map_err(|error| anyhow!("\"{network}\" is no name: {error}"))?;
                virtio.set_name(slot, network);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns the length of an image that can be a volume.
fn length(image: &Path) -> Result<u64> {
    let metadata = std::fs::metadata(image);
    let len = metadata.with_context(|| format!("cannot read {}", image.display()))?.len();
    let is_whole = len > 0 && len.is_multiple_of(stasis_store::layout::BLOCK as u64);
    ensure!(is_whole, "{} has {len} bytes; a volume has a multiple of 4096", image.display());
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_options_that_a_person_can_type() {
        let image = PathBuf::from("a,b.img");
        let disk = Plugged { slot: 0, kind: Kind::Disk { serial: "root".to_owned(), image } };
        let card = Plugged { slot: 1, kind: Kind::Card([0x52, 1, 2, 3, 4, 5]) };
        let options = Plugged::options(&[disk, card], Behind::Real).join(" ");
        assert!(options.starts_with("-global virtio-mmio.force-legacy=false -drive if=none,id=disk0,werror=report,rerror=report,format=raw,file=a,,b.img -device virtio-blk-device,drive=disk0,serial=root,"), "{options}");
        assert!(options.contains(" -netdev user,id=card1 -device virtio-net-device,netdev=card1,mac=52:01:02:03:04:05,"), "{options}");
        assert_eq!(Plugged::options(&[], Behind::Real), Vec::<String>::new());
    }

    #[test]
    fn a_colon_in_a_path_is_no_protocol() {
        let names = ["a:b,c.img", "/a:b.img", "a/b:c.img", "a.img"];
        let wanted = ["./a:b,,c.img", "/a:b.img", "a/b:c.img", "a.img"];
        assert_eq!(names.map(|name| file_name(Path::new(name))), wanted);
    }

    #[test]
    fn two_disks_are_two_volumes() {
        let mut virtio = Virtio::default();
        virtio.device_id[..2].fill(device_id::BLOCK);
        let disks: [Disk; 2] = ["root=a.img", "root=b.img"].map(|disk| disk.parse().unwrap());
        let error = complete(&mut virtio, &disks, &[]).unwrap_err().to_string();
        assert!(error.starts_with("two disks are the volume \"root\": "), "{error}");
    }

    #[test]
    fn what_a_stream_does_not_say_must_be_said() {
        let mut virtio = Virtio::default();
        virtio.device_id[0] = device_id::BLOCK;
        virtio.driver_features[0] = 1 << 32 | HINTS;
        let error = |virtio: &mut Virtio, disks: &[Disk]| {
            complete(virtio, disks, &[]).unwrap_err().to_string()
        };
        assert!(error(&mut virtio, &[]).starts_with("it has 1 virtio disks"));
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(8192).unwrap();
        let disk: Disk = format!("root={}", image.path().display()).parse().unwrap();
        complete(&mut virtio, std::slice::from_ref(&disk), &[]).unwrap();
        assert_eq!((virtio.name_text(0), virtio.capacity[0]), ("root", 16));
        virtio.driver_features[0] |= 1 << 29;
        assert!(error(&mut virtio, std::slice::from_ref(&disk)).contains("features 0x20000000"));
        image.as_file().set_len(100).unwrap();
        virtio.driver_features[0] = 1 << 32;
        assert!(error(&mut virtio, &[disk]).contains("has 100 bytes"));
    }
}
