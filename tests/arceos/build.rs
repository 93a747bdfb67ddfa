//! Links with the script that the build of ArceOS's `axhal` leaves beside the build folders.

use std::path::Path;

fn main() {
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let profile = Path::new(&out).join("../../..");
    let script = profile.join("linker_aarch64-qemu-virt.lds");
    println!("cargo:rustc-link-arg=-T{}", script.display());
    println!("cargo:rustc-link-arg=-no-pie");
    println!("cargo:rustc-link-arg=-znostart-stop-gc");
    println!("cargo:rerun-if-changed=build.rs");
}
