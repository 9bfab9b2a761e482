//! Links the program as a position-independent flat image (trust label: TOOL).

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../el1/image.ld");
    println!("cargo:rerun-if-changed={script}");
    for argument in ["-pie", "--no-dynamic-linker", "-znotext", "-zmax-page-size=4096"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-T{script}");
}
