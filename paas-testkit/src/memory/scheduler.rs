//! The scheduler, whose templates name their behaviour in a variable.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use paas_core::Result;
use paas_core::memory::{Behaviour, MemoryScheduler};
use paas_core::model::{
    ByteSize, Clock, InstanceId, Mount, Restart, Source, Template, Timestamp, VolumeName,
};
use paas_core::port::{Scheduler, SchedulerCapabilities};

use crate::Fixture;
use crate::suite::scheduler::SchedulerFixture;

/// [`MemoryScheduler`] with all or some of its capabilities.
#[derive(Debug)]
pub struct Schedulers {
    backend: MemoryScheduler,
    capabilities: SchedulerCapabilities,
}

impl Default for Schedulers {
    fn default() -> Self {
        let mut capabilities = SchedulerCapabilities::new(&["run", "image"]);
        capabilities.volumes = true;
        capabilities.fenced = true;
        capabilities.limits = true;
        Self { backend: MemoryScheduler::new(Clock::runtime(Timestamp::default())), capabilities }
    }
}

impl Schedulers {
    /// A scheduler that can do nothing more than run images.
    #[must_use]
    pub fn plain() -> Self {
        let capabilities = SchedulerCapabilities::new(&["image"]);
        let clock = Clock::runtime(Timestamp::default());
        let backend = MemoryScheduler::with_capabilities(clock, capabilities.clone());
        Self { backend, capabilities }
    }

    /// A scheduler that can do everything and rolls by itself.
    #[must_use]
    pub fn native() -> Self {
        let mut capabilities = Self::default().capabilities;
        capabilities.native_rolling = true;
        let clock = Clock::runtime(Timestamp::default());
        let backend = MemoryScheduler::with_capabilities(clock, capabilities.clone());
        Self { backend, capabilities }
    }

    /// A template that the behaviour is tied to by its name.
    fn template(&self, name: &str, behaviour: Behaviour) -> Template {
        let mut template = Template::new(vec![Source::Image("conformance".into())]);
        template.port = Some(8080);
        template.env.insert("BEHAVIOUR".into(), name.into());
        let name = name.to_owned();
        self.backend
            .behave_where(move |workload| workload.template.env.get("BEHAVIOUR") == Some(&name), behaviour);
        template
    }
}

impl Fixture for Schedulers {
    type Port = dyn Scheduler;
    type Capabilities = SchedulerCapabilities;

    fn capabilities(&self) -> SchedulerCapabilities {
        self.capabilities.clone()
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Scheduler>>> {
        let backend: Arc<dyn Scheduler> = Arc::new(self.backend.clone());
        Box::pin(async move { Ok(backend) })
    }
}

impl SchedulerFixture for Schedulers {
    fn serving(&self) -> Template {
        self.template("serving", Behaviour::healthy())
    }

    fn never_ready(&self) -> Template {
        self.template("never ready", Behaviour::never_ready())
    }

    fn exiting(&self, code: i32) -> Template {
        let behaviour = Behaviour::exits(code).with_last_lines(["last words"]);
        self.template(&format!("exits {code}"), behaviour)
    }

    fn stubborn(&self) -> Template {
        let behaviour = Behaviour::healthy().with_stop(Duration::from_secs(3_600));
        let mut template = self.template("stubborn", behaviour);
        template.grace = Duration::from_secs(1);
        template
    }

    fn task(&self, code: i32) -> Template {
        let mut template = self.template(&format!("task {code}"), Behaviour::exits(code));
        template.restart = Restart::Never;
        template
    }

    fn with_volume(&self) -> Template {
        let slow = Behaviour::healthy().with_stop(Duration::from_millis(50));
        let mut template = self.template("with volume", slow);
        if let Ok(name) = VolumeName::new("data") {
            template.mounts.push(Mount::new(name, Some("/data".into()), ByteSize(1024 * 1024)));
        }
        template
    }

    fn kill<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<()>> {
        let outcome = self.backend.crash(instance, 137);
        Box::pin(async { outcome })
    }

    fn volume_conflicts(&self) -> usize {
        self.backend.volume_conflicts().len()
    }
}
