//! The arguments of `stasis-kvm run`.

use std::path::PathBuf;

use clap::Args;

/// The arguments of `run`.
#[derive(Args, Debug)]
pub struct Run {
    /// A checkpoint's file, as `stasis checkpoint get --disks` writes it, with the images of the
    /// guest's disks beside it
    pub checkpoint: PathBuf,
    /// The file that a checkpoint is written to [default: NAME-kvm.stasis, with the guest's name]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
