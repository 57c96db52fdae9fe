//! Every suite on the memory backends: plain, through the guard, through faults that do not strike, and on backends
//! that can do as little as possible.

use std::process::ExitCode;
use std::sync::Arc;

use paas_testkit::memory::{
    AuditLogs, Authorizers, Clusters, Execs, LogQueues, LogSources, LogStores, Notifiers, Routers,
    Schedulers, SecretStores, StateStores, Tenancies, VolumeStores,
};
use paas_testkit::{Conformance, Faults, Faulty, Suite, memory, suite};

/// A port's suite behind the guard and behind faults that do not strike.
macro_rules! around {
    ($($port:ident $fixture:expr),* $(,)?) => {
        [$(
            suite::$port::guarded("memory", $fixture),
            suite::$port::decorated("memory", "faults", $fixture, |port| {
                Arc::new(Faulty::new(Arc::new(Faults::none()), port))
            }),
        )*]
    };
}

fn main() -> ExitCode {
    let around: [Suite; 28] = around![
        audit_log AuditLogs::default,
        authorizer Authorizers::default,
        cluster Clusters::default,
        exec Execs::default,
        log_queue LogQueues::default,
        log_source LogSources::default,
        log_store LogStores::default,
        notifier Notifiers::default,
        router Routers::default,
        scheduler Schedulers::default,
        secret_store SecretStores::default,
        state_store StateStores::default,
        tenancy Tenancies::default,
        volume_store VolumeStores::default,
    ];
    let plain = [
        suite::log_queue::suite("memory+drop", LogQueues::drop_oldest),
        suite::router::suite("memory+plain", Routers::plain),
        suite::scheduler::suite("memory+plain", Schedulers::plain),
        suite::scheduler::suite("memory+native", Schedulers::native),
    ];
    Conformance::new(memory::suites().into_iter().chain(around).chain(plain))
        .with_table(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"))
        .run()
}
