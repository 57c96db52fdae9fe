//! Documents that are compared as a whole with what was agreed on.

use std::path::Path;

use serde_json::Value;

/// Fails where these objects are not those of the file, which is below `src`. `PAAS_BLESS=1 cargo test -p paas-k8s --lib`
/// writes what is made now; look at the difference.
#[track_caller]
pub(crate) fn check(file: &str, objects: &[Value]) {
    check_text(file, &(serde_json::to_string_pretty(objects).unwrap() + "\n"));
}

/// The same of a text.
#[track_caller]
pub(crate) fn check_text(file: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    if std::env::var_os("PAAS_BLESS").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let agreed = std::fs::read_to_string(&path).unwrap();
    assert!(made == agreed, "PAAS_BLESS=1 writes {} anew; what is made now:\n{made}", path.display());
}
