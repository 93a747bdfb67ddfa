//! The boot archive: the guests' configuration and their images in one cpio.

use std::path::Path;

use anyhow::{Context, Result};
use stasis_devices::equipment::Equipment;
use stasis_devices::machine::RAM_BASE;
use stasis_guest::image::{self, ImageError, Parts, Warning};
use stasis_guest::shared::connections;
use stasis_host::config::{self as host, Configuration, GuestConfig, MemoryMap};

use crate::checkout::Checkout;
use crate::config::{Config, Source};
use crate::content::Content;
use crate::cpio::Cpio;
use crate::report;

/// The files of an archive, each with its name.
pub type Files<'n> = Vec<(&'n str, Content)>;

/// Returns the archive of this configuration and these files, each with its name.
pub fn pack(configuration: &Configuration, files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    pack_raw(&compile(configuration)?, files)
}

/// Returns the archive of these bytes as the configuration, and of these files. The bytes are not
/// checked: this is for tests of bad input.
pub fn pack_raw(configuration: &[u8], files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    archive(configuration, files.iter().map(|(name, data)| (*name, (*data).into())).collect())?
        .to_bytes()
}

fn compile(configuration: &Configuration) -> Result<Vec<u8>> {
    host::compile(configuration).map_err(anyhow::Error::new)
}

fn archive(configuration: &[u8], files: Files<'_>) -> Result<Content> {
    let mut cpio = Cpio::new();
    cpio.file(host::FILE_NAME, 0o644, configuration)?;
    for (name, data) in files {
        cpio.file(name, 0o644, data)?;
    }
    Ok(cpio.finish())
}

/// Returns the archive that the configuration in `path` describes. Makes the files that a checkout
/// makes.
pub fn from_file(checkout: &dyn Checkout, path: &Path) -> Result<Content> {
    from_config(checkout, &Config::read(checkout, path)?)
}

/// Returns the archive of a configuration. Makes the files that a checkout makes. Fails if a guest
/// could not start with its files, as Stasis would.
pub fn from_config(checkout: &dyn Checkout, config: &Config) -> Result<Content> {
    archive(&compile(&config.configuration)?, files(checkout, config)?)
}

/// Returns the files of a configuration, each with its name in the archive. Fails if a guest could
/// not start with them, as Stasis would.
pub fn files<'c>(checkout: &dyn Checkout, config: &'c Config) -> Result<Files<'c>> {
    let (mut files, mut looked_at) = (Vec::new(), Vec::new());
    for (name, source) in &config.files {
        let context = || format!("file \"{name}\"");
        let data = fetch(checkout, source).with_context(context)?;
        looked_at.push((name.as_str(), with_headers(&data).with_context(context)?));
        files.push((name.as_str(), data));
    }
    for guest in &config.configuration.guests {
        let warning = check_guest(guest, &config.configuration, &looked_at)
            .with_context(|| format!("guest \"{}\": image \"{}\"", guest.name, guest.image))?;
        if let Some(warning) = warning {
            report::warn(format_args!("guest \"{}\": {warning}", guest.name));
        }
    }
    Ok(files)
}

/// Returns bytes of the length of a file, of which its headers are the file's: they are all that
/// [`image::check`] looks at. The others are zeros, for which Linux gives no memory before they are
/// written.
fn with_headers(file: &Content) -> Result<Vec<u8>> {
    const BEGINNING: u64 = 1 << 16;
    let len = u32::try_from(file.len()).ok().context("it is too large for a cpio archive")?;
    let mut bytes = vec![0; len as usize];
    let beginning = file.len().min(BEGINNING) as usize;
    file.read_at(0, &mut bytes[..beginning])?;
    // A table that is not in the file is complained of by the check.
    if let Some(table) = image::table_of_segments(&bytes[..beginning])
        && let Some(place) = bytes.get_mut(table.clone())
    {
        file.read_at(table.start as u64, place)?;
    }
    Ok(bytes)
}

/// Checks that Stasis can load a guest's files, as far as that can be known without the machine.
/// Returns a warning if there is one.
fn check_guest(
    guest: &GuestConfig,
    configuration: &Configuration,
    files: &[(&str, Vec<u8>)],
) -> Result<Option<Warning>, ImageError> {
    let file =
        |name: &str| files.iter().find(|(other, _)| *other == name).map(|(_, data)| &data[..]);
    let parts = Parts {
        ram_base: RAM_BASE,
        image: file(&guest.image).unwrap_or_default(),
        kind: guest.kind,
        initrd: guest.initrd.as_deref().and_then(file),
        cmdline: &guest.cmdline,
        vcpus: guest.vcpus,
        counter_frequency: guest.counter_frequency,
        equipment: Equipment {
            watchdog_us: guest.watchdog_us,
            shared: &connections(&configuration.shared, &guest.name),
            ..Equipment::default()
        },
        given: &[],
    };
    match image::check(guest.memory as usize, &parts) {
        // Only the machine knows where its RAM is.
        Err(ImageError::SegmentOutsideRam { .. } | ImageError::EntryOutsideRam { .. })
            if guest.memory_map == MemoryMap::Identity =>
        {
            Ok(None)
        }
        checked => checked,
    }
}

/// Returns the contents of a file; makes it if a checkout makes it.
pub fn fetch(checkout: &dyn Checkout, source: &Source) -> Result<Content> {
    match source {
        Source::Path(path) => Content::open(path),
        Source::Made(name) => checkout.make(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stasis_guest::image::Kind;

    /// What is said of a guest "g" with this image, changed in this way.
    fn verdict(image: &[u8], change: impl FnOnce(&mut GuestConfig)) -> String {
        let mut guest = GuestConfig::new("g", "image", 64 << 20);
        change(&mut guest);
        let files = [("image", image.to_vec()), ("initrd", b"070701".to_vec())];
        match check_guest(&guest, &Configuration::default(), &files) {
            Ok(None) => "good".to_owned(),
            Ok(Some(warning)) => format!("warning: {warning}"),
            Err(error) => error.to_string(),
        }
    }

    /// An arm64 `Image` that takes this much memory.
    fn kernel(size: u64) -> Vec<u8> {
        let mut image = vec![0; 4096];
        image[16..24].copy_from_slice(&size.to_le_bytes());
        image[56..60].copy_from_slice(b"ARM\x64");
        image
    }

    #[test]
    fn a_kernel_that_stasis_would_not_load_is_refused_when_it_is_packed() {
        assert_eq!(verdict(&kernel(1 << 20), |_| ()), "good");
        assert!(verdict(b"\x1f\x8b\x08", |_| ()).starts_with("it is gzip data; an arm64 Image"));
        let mut x86 = vec![0; 4096];
        x86[0x202..0x206].copy_from_slice(b"HdrS");
        assert!(verdict(&x86, |_| ()).starts_with("it is a Linux kernel for x86;"));
        assert_eq!(
            verdict(&kernel(63 << 20), |_| ()),
            "the image does not fit: it needs 68157440 bytes of RAM, and 67108864 are there"
        );
        assert!(verdict(&[1; 64], |guest| guest.kind = Some(Kind::Elf)).contains("not of kind"));
    }

    #[test]
    fn an_initrd_of_bare_code_is_warned_of_when_it_is_packed() {
        let bare = |guest: &mut GuestConfig| {
            guest.kind = Some(Kind::Raw);
            guest.initrd = Some("initrd".to_owned());
        };
        assert!(verdict(&[1; 64], bare).starts_with("warning: initrd is for Linux"));
        assert_eq!(verdict(&kernel(4096), |g| g.initrd = Some("initrd".to_owned())), "good");
    }
}
