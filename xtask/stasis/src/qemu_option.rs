//! What stands in options of QEMU's, wherever a command line is made.

use std::path::Path;

/// The options of a `-drive` that make QEMU report errors of the host to the machine. Without them,
/// QEMU stops the machine silently if the host's file system is full.
pub const ON_ERROR: &str = "werror=report,rerror=report";

/// Returns a path as the value of an option, with each comma doubled.
pub fn value(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}
