//! A whole Debian, which apt and dpkg have made, and its neighbour. Run by name: `cargo xtask test
//! debian_long`.

use anyhow::{Result, ensure};
use stasis_qemu_tests::lab::{Built, Lab};
use xtask::demo::{self, Arguments};

pub fn debian_and_its_neighbour_go_on_after_a_loss_of_power(_: &Lab) -> Result<()> {
    let workspace = &Built::get()?.workspace;
    let said = demo::run(workspace, Arguments::of("debian"))?.to_string();
    for words in ["no gap", "by DHCP", "no unit has failed", "silent about each of these"] {
        ensure!(said.contains(words), "the summary does not say \"{words}\": {said}");
    }
    Ok(())
}
