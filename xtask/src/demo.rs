//! `cargo xtask demo`.
use crate::cli::Options;
use crate::workspace::Workspace;
use anyhow::{Result, bail};
/// Runs it.
pub fn main(_: &Workspace, _: Options) -> Result<()> {
    bail!("not yet")
}
