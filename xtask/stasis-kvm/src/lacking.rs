//! What a machine lacks that cannot run a guest: each in a line that says what to do.

use std::io;

use anyhow::{Error, Result, anyhow, ensure};
use nix::errno::Errno;

/// Returns why there is no KVM, when /dev/kvm can't be opened for this reason.
pub fn kvm(reason: i32) -> Error {
    match Errno::from_raw(reason) {
        Errno::ENOENT | Errno::ENXIO | Errno::ENODEV => anyhow!(
            "there is no /dev/kvm: Linux must have KVM, and be started in EL2 by its firmware; `dmesg | grep -i kvm` tells more"
        ),
        Errno::EACCES | Errno::EPERM => anyhow!(
            "/dev/kvm is not yours to open: run this as root, or as a user in the group that `ls -l /dev/kvm` shows"
        ),
        _ => anyhow!("cannot open /dev/kvm: {}", io::Error::from_raw_os_error(reason)),
    }
}

/// Checks that a KVM which gives a machine `most` vCPUs has enough for a guest.
///
/// # Errors
///
/// The guest has more.
pub fn vcpus(guest: usize, most: usize) -> Result<()> {
    ensure!(
        guest <= most,
        "the guest has {guest} vCPUs, and this KVM gives a machine {most} at the most: run it on another machine"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kvm_that_cannot_be_opened_is_answered_with_what_to_do() {
        let said = |reason: Errno| kvm(reason as i32).to_string();
        assert!(said(Errno::ENOENT).contains("there is no /dev/kvm: Linux must have KVM"));
        assert!(said(Errno::EACCES).contains("run this as root, or as a user in the group"));
        assert!(said(Errno::EMFILE).starts_with("cannot open /dev/kvm: Too many open files"));
    }

    #[test]
    fn a_guest_with_more_vcpus_than_kvm_has_is_refused_by_both_numbers() {
        assert!(vcpus(8, 8).is_ok());
        let error = vcpus(8, 4).unwrap_err().to_string();
        assert!(error.contains("the guest has 8 vCPUs, and this KVM gives a machine 4"), "{error}");
    }
}
