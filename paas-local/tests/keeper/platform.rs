//! A platform to be killed: this binary again, which opens a keeper, follows its spool and says so.

use std::io::Write;
use std::process::ExitCode;

use futures_util::StreamExt;
use paas_local::keeper::{Keeper, KeeperOptions, ProcessSpec};

/// The directory of the platform to be.
pub(crate) const PLATFORM_ENV: &str = "KEEPER_TEST_PLATFORM";

pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let dir = std::env::var_os(PLATFORM_ENV)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = std::path::PathBuf::from(dir);
        let keeper = Keeper::open(&dir, KeeperOptions::default()).await.unwrap();
        let script = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.001; done";
        let spec = ProcessSpec::new("count", ["sh", "-c", script], &dir);
        keeper.spawn(&spec.env("PATH", "/usr/bin:/bin")).await.unwrap();
        let mut spool = keeper.spool(None);
        while let Some(item) = spool.next().await {
            item.unwrap();
            std::io::stdout().write_all(b"serving\n").unwrap();
        }
    });
    Some(ExitCode::SUCCESS)
}
