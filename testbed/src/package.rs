//! Debian packages.

use std::process::Command;

use crate::command::run;
use crate::machine::CONSENT;
use crate::step::step;
use crate::{Result, command};

/// Installs what is missing of these packages, each named with a program of its own by which it is known.
pub(crate) fn install(packages: &[(&str, &str)], consent: bool) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|(_, program)| !command::is_there(program)).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !consent {
        return Err(format!(
            "needs the packages {}; say {CONSENT} to have them installed",
            missing.join(", ")
        )
        .into());
    }
    add(&missing)
}

/// Installs packages.
pub(crate) fn add(missing: &[&str]) -> Result<()> {
    step(&format!("install {}", missing.join(", ")), || {
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        let mut install = Command::new("apt-get");
        install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(missing);
        run(install.env("DEBIAN_FRONTEND", "noninteractive"))?;
        // Debian starts what it has just installed; the testbed starts its own. What was there before goes on.
        for (package, service) in [("containerd", "containerd"), ("etcd-server", "etcd")] {
            if missing.contains(&package) {
                // Where no services are managed, none was started.
                drop(run(Command::new("service").args([service, "stop"])));
            }
        }
        Ok(())
    })
}
