//! Links Hyperscan where it is installed.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(hyperscan)");
    if pkg_config::probe_library("libhs").is_ok() {
        println!("cargo::rustc-cfg=hyperscan");
    } else {
        // A file that is never there: looks again with the next build, since it may be installed by then.
        println!("cargo::rerun-if-changed=not-there");
    }
}
