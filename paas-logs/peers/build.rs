//! Links Hyperscan where it is installed.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(hyperscan)");
    if pkg_config::probe_library("libhs").is_ok() {
        println!("cargo::rustc-cfg=hyperscan");
    }
}
