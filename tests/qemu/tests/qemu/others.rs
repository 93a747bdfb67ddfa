//! Guests that others have made.

use anyhow::{Context, Result};
use stasis_qemu_tests::guests::SILENCE;
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::guest;
use stasis_vm::config::Kind;
use xtask::setup::debian::Debian;
use xtask::workspace::{read, write};

/// Debian's U-Boot for `virt`.
fn u_boot() -> Result<Vec<u8>> {
    let workspace = &Built::get()?.workspace;
    let path = workspace.folder("guests")?.join("u-boot.bin");
    if !path.exists() {
        let debian = Debian::find(workspace)?;
        let unpacked = workspace.folder("setup/u-boot")?;
        debian
            .packages(workspace, &debian.codename, "arm64")?
            .unpack("u-boot-qemu", &unpacked)
            .context("Debian's package u-boot-qemu is lacking")?;
        write(&path, &read(&unpacked.join("usr/lib/u-boot/qemu_arm64/u-boot.bin"))?)?;
    }
    read(&path)
}

pub fn u_boot_reaches_its_prompt(lab: &Lab) -> Result<()> {
    let mut config = guest("u-boot", 128);
    config.kind = Some(Kind::Raw);
    let mut stasis = lab.machine().configured(config, Some(u_boot()?)).boot()?;
    stasis.attach("u-boot")?;
    let console = &mut stasis.qemu.console;
    console.wait_for("U-Boot 20", SILENCE)?;
    console.wait_for("Hit any key to stop autoboot", SILENCE)?;
    console.send(b" ")?;
    console.wait_for("=> ", SILENCE)?;
    console.send_line("version")?;
    console.wait_for("U-Boot 20", SILENCE)?;
    console.wait_for("=> ", SILENCE)?;
    // It reads what is there, and is told of what is not.
    console.send_line("md.l 0x40000000 4")?;
    console.wait_for("40000000:", SILENCE)?;
    stasis.detach()?;
    stasis.is_alive()?;
    stasis.quit()
}
