//! What people do.

use paas_core::model::{AppName, AppSpec, OperationState, RevisionNumber, ServiceName, Signal};
use paas_core::platform::{AppHandle, AppStatus, EnvironmentHandle};
use paas_core::{Error, ErrorKind, Platform, Result};

use super::app::Author;
use super::oracle::Oracle;
use super::rng::Rng;
use super::rule::{Rule, Violation};

/// People, and the platform they talk to.
pub(super) struct People {
    rng: Rng,
    author: Author,
    environment: EnvironmentHandle,
    oracle: Oracle,
    deploys: u64,
    _platform: Platform,
}

fn unexpected(error: &Error) -> Violation {
    Violation::new(Rule::Rest, format!("people are told: {error:?}"))
}

/// What people may not do now, they are told; everything else is a defect.
fn accepted<T>(outcome: Result<T>) -> Result<Option<T>, Violation> {
    match outcome {
        Ok(done) => Ok(Some(done)),
        Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(unexpected(&error)),
    }
}

impl People {
    pub(super) fn new(
        rng: Rng,
        author: Author,
        platform: Platform,
        environment: EnvironmentHandle,
        oracle: Oracle,
    ) -> Self {
        Self { rng, author, environment, oracle, deploys: 0, _platform: platform }
    }

    pub(super) fn deploys(&self) -> u64 {
        self.deploys
    }

    async fn app(&self) -> Result<AppHandle> {
        self.environment.app(&AppName::new("shop")?).await
    }

    /// The first release.
    pub(super) async fn begin(&mut self) -> Result<(), Violation> {
        let first = self.author.first().map_err(|error| unexpected(&error))?;
        self.deploy(&first).await.map(drop).map_err(|error| unexpected(&error))
    }

    async fn deploy(&mut self, app: &AppSpec) -> Result<Option<RevisionNumber>> {
        self.deploys += 1;
        let operation = self.environment.deploy(app).await?.state().await?;
        let revision = operation.kind.revision();
        self.oracle.tell(|| format!("people: {} {:?}", operation.kind, app.services));
        Ok(revision)
    }

    /// Something.
    pub(super) async fn act(&mut self) -> Result<(), Violation> {
        accepted(self.try_act().await).map(drop)
    }

    async fn try_act(&mut self) -> Result<()> {
        let service = ServiceName::new(*self.rng.pick(&["a", "b", "c", "d", "e"]))?;
        match self.rng.below(16) {
            0..=4 => {
                let bad = self.rng.chance(400);
                let app = self.author.next(bad)?;
                self.deploy(&app).await.map(drop)
            }
            5 => {
                let known = self.app().await?.revisions().await?;
                if known.is_empty() {
                    return Ok(());
                }
                let number = self.rng.pick(&known).number;
                self.oracle.tell(|| format!("people: roll back to {number}"));
                self.app().await?.rollback(number).await.map(drop)
            }
            6 => {
                let count = u32::try_from(self.rng.below(5)).unwrap_or(1);
                self.oracle.tell(|| format!("people: scale {service} to {count}"));
                self.app().await?.scale(&service, count).await
            }
            7 => {
                self.oracle.tell(|| format!("people: restart {service}"));
                self.app().await?.restart(&service).await
            }
            8 => {
                self.oracle.tell(|| "people: stop".to_owned());
                self.app().await?.stop().await.map(drop)
            }
            9 | 10 => {
                self.oracle.tell(|| "people: start".to_owned());
                self.app().await?.start().await.map(drop)
            }
            11 => {
                let signal = *self.rng.pick(&[Signal::Approve, Signal::Abort, Signal::Pause, Signal::Resume]);
                self.oracle.tell(|| format!("people: {signal:?}"));
                self.signal(signal).await
            }
            12 => {
                self.oracle.tell(|| "people: the scheduler is started again".to_owned());
                self.oracle.backends.scheduler.restart();
                Ok(())
            }
            _ => self.crash(),
        }
    }

    fn crash(&mut self) -> Result<()> {
        let living = self.oracle.backends.scheduler.instances();
        if living.is_empty() {
            return Ok(());
        }
        let victim = self.rng.pick(&living).1.id.clone();
        self.oracle.tell(|| format!("people: {victim} crashes"));
        self.oracle.crashed(victim.clone());
        self.oracle.backends.scheduler.crash(&victim, 137)
    }

    async fn signal(&self, signal: Signal) -> Result<()> {
        let app = self.app().await?;
        match app.status().await?.operation {
            Some(operation) => app.operation(operation.id).signal(signal).await,
            None => Ok(()),
        }
    }

    /// What waits for people goes on.
    pub(super) async fn let_go_on(&self) {
        // Where nothing waits, they are told so.
        drop(self.signal(Signal::Resume).await);
        drop(self.signal(Signal::Approve).await);
    }

    /// Starts the app if it is stopped, and asks for a release without flaws.
    pub(super) async fn release_soundly(&mut self) -> Result<RevisionNumber, Violation> {
        let release = async {
            if !self.status_now().await?.running {
                let started = self.app().await?.start().await?.finished().await;
                // Where something flawed was promoted without being asked to run, it cannot start; the release mends it.
                if let Err(error) = started
                    && error.kind() != ErrorKind::Failed
                {
                    return Err(error);
                }
            }
            let app = self.author.sound()?;
            self.deploy(&app).await
        };
        let revision = release.await.map_err(|error| unexpected(&error))?;
        revision.ok_or_else(|| Violation::new(Rule::Rest, "a release has no revision"))
    }

    async fn status_now(&self) -> Result<AppStatus> {
        self.app().await?.status().await
    }

    pub(super) async fn status(&self) -> Result<AppStatus, Violation> {
        self.status_now().await.map_err(|error| unexpected(&error))
    }

    /// What the platform says is wrong, and how the last operations went.
    pub(super) async fn explain(&self) -> String {
        let explain = async {
            let app = self.app().await?;
            let mut text = app.explain().await?.to_string();
            for operation in app.operations().await?.iter().take(3) {
                text += &format!("\n{} {:?} {:?}", operation.kind, operation.state, operation.failure);
                if operation.state != OperationState::Superseded {
                    operation.events.iter().for_each(|event| {
                        let service = event.service.as_ref().map_or("", ServiceName::as_str);
                        text += &format!("\n    {} {service} {}", event.at, event.text);
                    });
                }
            }
            Ok(text)
        };
        explain.await.unwrap_or_else(|error: Error| error.to_string())
    }
}
