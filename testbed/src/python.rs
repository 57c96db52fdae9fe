//! Programs that come in Python packages.

use std::path::PathBuf;
use std::process::Command;

use crate::command::run;
use crate::step::step;
use crate::{Result, cache};

/// Installs a package once, beside what the machine has; where its program is.
pub(crate) fn program(package: &str, version: &str, program: &str) -> Result<PathBuf> {
    let wanted = format!("{package}=={version}");
    let folder = cache::built(&format!("{package}-{version}"), &wanted, |folder| {
        step(&format!("install {wanted}"), || {
            let mut pip = Command::new("pip3");
            pip.args(["install", "--quiet", "--no-deps", "--upgrade", "--target"]).arg(folder).arg(&wanted);
            run(&mut pip)
        })
    })?;
    Ok(folder.join("bin").join(program))
}
