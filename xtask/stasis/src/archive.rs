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
use crate::cpio::Cpio;
use crate::files::read;
use crate::report;

/// Returns the archive of this configuration and these files, each with its name.
pub fn pack(configuration: &Configuration, files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let configuration = host::compile(configuration).map_err(anyhow::Error::new)?;
    pack_raw(&configuration, files)
}

/// Returns the archive of these bytes as the configuration, and of these files. The bytes are not checked: this is for tests of bad input.
pub fn pack_raw(configuration: &[u8], files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut cpio = Cpio::new();
    cpio.file(host::FILE_NAME, 0o644, configuration)?;
    for (name, data) in files {
        cpio.file(name, 0o644, data)?;
    }
    Ok(cpio.finish())
}

/// Returns the archive that the configuration in `path` describes. Makes the files that a checkout makes.
pub fn from_file(checkout: &dyn Checkout, path: &Path) -> Result<Vec<u8>> {
    from_config(checkout, &Config::read(checkout, path)?)
}

/// Returns the archive of a configuration. Makes the files that a checkout makes. Fails if a guest could not start with its files, as Stasis would.
pub fn from_config(checkout: &dyn Checkout, config: &Config) -> Result<Vec<u8>> {
    let files = files(checkout, config)?;
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, data)| (*name, &data[..])).collect();
    pack(&config.configuration, &files)
}

/// Returns the files of a configuration, each with its name in the archive. Fails if a guest could not start with them, as Stasis would.
pub fn files<'c>(checkout: &dyn Checkout, config: &'c Config) -> Result<Vec<(&'c str, Vec<u8>)>> {
    let mut files = Vec::new();
    for (name, source) in &config.files {
        let data = fetch(checkout, source).with_context(|| format!("file \"{name}\""))?;
        files.push((name.as_str(), data));
    }
    for guest in &config.configuration.guests {
        let warning = check_guest(guest, &config.configuration, &files)
            .with_context(|| format!("guest \"{}\": image \"{}\"", guest.name, guest.image))?;
        if let Some(warning) = warning {
            report::warn(format_args!("guest \"{}\": {warning}", guest.name));
        }
    }
    Ok(files)
}

/// Checks that Stasis can load a guest's files, as far as that can be known without the machine. Returns a warning if there is one.
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
pub fn fetch(checkout: &dyn Checkout, source: &Source) -> Result<Vec<u8>> {
    match source {
        Source::Path(path) => read(path),
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
