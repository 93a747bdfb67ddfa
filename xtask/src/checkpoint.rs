//! `cargo xtask checkpoint`: the checkpoints of a disk image or a card, without a hypervisor.

use anyhow::{Context, Result, bail};

use crate::cli::{nearest, next_value};
use crate::workspace::{Workspace, read, write};
use crate::{disk, report};

/// What a person reads about it.
pub const DETAILS: &str = "\
DISK is a disk image, or the device of a card. WHICH is a checkpoint's number, or the name of the newest one.

  list DISK                  every checkpoint, and what is free
  get DISK WHICH FILE        write a checkpoint to a file
  put DISK FILE NAME         add the checkpoint in a file to the disk
  verify DISK [WHICH]        read every byte and check it
  delete DISK WHICH          delete a checkpoint, for good";

const ACTIONS: [&str; 5] = ["list", "get", "put", "verify", "delete"];

/// Runs the command.
pub fn main(_: &Workspace, mut parser: lexopt::Parser) -> Result<()> {
    let _ = (
        &mut parser,
        ACTIONS,
        nearest("", []),
        next_value as fn(_, _) -> _,
        read,
        write,
    );
    let _ = report::size(0);
    let _ = disk::store;
    let nothing: Option<()> = None;
    nothing.context("not yet")?;
    bail!("not yet")
}
