//! The proof: the scheduler's suite, plain and behind the guard. `cargo test --example own_backend` runs it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use paas::Result;
use paas::model::{ByteSize, Command, InstanceId, Mount, Restart, Source, Template, VolumeName};
use paas::port::{Scheduler, SchedulerCapabilities};
use paas_testkit::suite::scheduler::{self, SchedulerFixture};
use paas_testkit::{Fixture, Pace};

use super::instance::{Instance, function};
use super::scheduler::FunctionScheduler;

pub(crate) fn run() -> ExitCode {
    paas_testkit::run([
        scheduler::suite("functions", Functions::default),
        scheduler::guarded("functions", Functions::default),
    ])
}

/// A scheduler of functions that behave in the ways that the cases ask for.
struct Functions(FunctionScheduler);

impl Default for Functions {
    fn default() -> Self {
        Self(FunctionScheduler::new([
            ("serve", function(serve)),
            ("idle", function(|_| std::future::pending())),
            ("exit", function(exit)),
            ("stubborn", function(stubborn)),
        ]))
    }
}

async fn serve(mut instance: Instance) -> i32 {
    let Ok(_listener) = instance.listen() else { return 1 };
    instance.stopped().await;
    0
}

async fn exit(instance: Instance) -> i32 {
    instance.say("last words");
    instance.arguments.first().and_then(|code| code.parse().ok()).unwrap_or(1)
}

async fn stubborn(mut instance: Instance) -> i32 {
    let _listener = instance.listen();
    std::future::pending().await
}

fn template(command: &str) -> Template {
    let command: Command = command.parse().expect("it is a command");
    let mut template = Template::new(vec![Source::Run(command)]);
    template.port = Some(80);
    template.grace = Duration::from_millis(100);
    template
}

impl Fixture for Functions {
    type Port = dyn Scheduler;
    type Capabilities = SchedulerCapabilities;

    fn capabilities(&self) -> SchedulerCapabilities {
        self.0.capabilities()
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Scheduler>>> {
        let backend: Arc<dyn Scheduler> = Arc::new(self.0.clone());
        Box::pin(async { Ok(backend) })
    }

    fn pace(&self) -> Pace {
        Pace::Real // there are sockets
    }
}

impl SchedulerFixture for Functions {
    fn serving(&self) -> Template {
        template("serve")
    }

    fn never_ready(&self) -> Template {
        template("idle")
    }

    fn exiting(&self, code: i32) -> Template {
        template(&format!("exit {code}"))
    }

    fn stubborn(&self) -> Template {
        template("stubborn")
    }

    fn task(&self, code: i32) -> Template {
        let mut template = template(&format!("exit {code}"));
        template.restart = Restart::Never;
        template
    }

    fn with_volume(&self) -> Template {
        let mut template = template("serve");
        let name = VolumeName::new("data").expect("it is a name");
        template.mounts.push(Mount::new(name, None, ByteSize(1024)));
        template
    }

    fn kill<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { self.0.kill(instance) })
    }
}
