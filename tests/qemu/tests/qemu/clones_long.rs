//! Many clones, which take minutes.

use anyhow::Result;
use stasis_qemu_tests::lab::Lab;

use crate::clones::linux_with_clones;

/// The original and fifteen clones have 4 GiB together.
pub fn sixteen_linux_fit_in_1_gib(lab: &Lab) -> Result<()> {
    linux_with_clones(lab, 15)?.quit()
}
