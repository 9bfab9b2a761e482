//! Hands the linker script to the linker. Trust label: TOOL.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    println!("cargo:rustc-link-arg=-T{directory}/link.ld");
    println!("cargo:rerun-if-changed=link.ld");
}
