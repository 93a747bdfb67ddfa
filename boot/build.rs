//! Links the image by its own script, as a position-independent executable.

fn main() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let script = format!("{root}/linker/stasis.ld");
    println!("cargo::rerun-if-changed={script}");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        for argument in [
            "-pie",
            "--no-dynamic-linker",
            "-Bsymbolic",
            "-z",
            "notext",
            "-z",
            "max-page-size=4096",
            // Functions of the same instructions are one. Nothing compares their addresses.
            "--icf=all",
            // A bit for each address in a constant, where it was 24 bytes.
            "--pack-dyn-relocs=relr",
        ] {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
        println!("cargo::rustc-link-arg-bins=-T{script}");
    }
}
