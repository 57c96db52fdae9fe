//! What this machine can provide.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::command::is_there;

/// The flag by which a person allows that packages are installed.
pub(crate) const CONSENT: &str = "--change-this-machine";

/// Why no cluster can be had here, if none can.
pub(crate) fn lacks_for_kubernetes() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    if let Some(program) =
        ["unshare", "nsenter", "ip", "mount", "go", "cargo"].iter().find(|name| !is_there(name))
    {
        return Some(format!("needs the program `{program}`"));
    }
    if !may_unshare() {
        return Some("may not make namespaces of its own".to_owned());
    }
    if !Path::new("/sys/fs/cgroup/memory/tasks").exists() {
        return Some(
            "needs the memory controller of cgroup v1, which this release of the kubelet is set up for"
                .to_owned(),
        );
    }
    let overlay = fs::read_to_string("/proc/filesystems").is_ok_and(|known| known.contains("overlay"));
    (!overlay).then(|| "needs the file system overlay".to_owned())
}

fn may_unshare() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount", "--net", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
