//! The boards that QEMU can emulate for Stasis.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use stasis_tool::suggest::nearest;

use crate::workspace::Workspace;
use crate::{report, setup};

/// A board that QEMU emulates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Board {
    /// QEMU's own `virt`, with any number of cores and a virtio disk.
    #[default]
    Virt,
    /// The Raspberry Pi 4, with four cores, 2 GiB and an SD card.
    Raspi4 {
        /// The path of the board's device tree, which QEMU does not make itself.
        device_tree: PathBuf,
    },
}

/// The names of the boards on the command line.
pub const NAMES: [&str; 2] = ["virt", "raspi4"];

impl Board {
    /// Returns the board of this name, or `virt` if there is none. Fetches what the board needs.
    pub fn find(workspace: &Workspace, name: Option<&str>) -> Result<Self> {
        match name {
            None | Some("virt") => Ok(Self::Virt),
            Some("raspi4") => Self::raspi4(workspace),
            Some(other) => {
                let near = nearest(other, NAMES);
                bail!("there is no board \"{other}\"{near}; there are virt and raspi4")
            }
        }
    }

    /// Returns the Raspberry Pi 4. Fetches its device tree.
    pub fn raspi4(workspace: &Workspace) -> Result<Self> {
        Ok(Self::Raspi4 { device_tree: setup::boards::raspi4_device_tree(workspace)? })
    }

    /// Returns whether the board has a fixed number of cores and a fixed memory; a person may
    /// choose those of `virt`.
    pub fn is_fixed(&self) -> bool {
        *self != Self::Virt
    }

    /// Returns whether the board has a clock with the wall time.
    pub fn has_clock(&self) -> bool {
        *self == Self::Virt
    }

    /// Checks that a disk image can be the board's disk.
    pub fn check_disk(&self, disk: &Path) -> Result<()> {
        let Ok(file) = std::fs::metadata(disk) else {
            bail!("there is no disk {}; `cargo xtask disk` makes one", disk.display());
        };
        ensure!(
            !self.is_fixed() || file.len().is_power_of_two(),
            "{} has {}: QEMU takes a card only if its size is a power of two",
            disk.display(),
            report::size(file.len())
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_that_is_none_is_answered_with_those_that_there_are() {
        let workspace = Workspace::find().unwrap();
        let error = Board::find(&workspace, Some("raspi9")).unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no board \"raspi9\", did you mean \"raspi4\"?; there are virt and raspi4"
        );
        assert_eq!(Board::find(&workspace, None).unwrap(), Board::Virt);
    }

    #[test]
    fn a_cards_size_must_be_a_power_of_two() {
        let path = std::env::temp_dir().join(format!("stasis-card-{}.img", std::process::id()));
        let board = Board::Raspi4 { device_tree: PathBuf::new() };
        assert!(board.check_disk(&path).unwrap_err().to_string().contains("there is no disk"));
        std::fs::write(&path, [0; 1536]).unwrap();
        let error = board.check_disk(&path).unwrap_err().to_string();
        assert!(error.contains("1.5 KiB") && error.contains("power of two"), "{error}");
        Board::Virt.check_disk(&path).unwrap();
        std::fs::write(&path, [0; 2048]).unwrap();
        board.check_disk(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
