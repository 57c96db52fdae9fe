//! The durable record of a change people asked for.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::id::{AppId, InstanceId, OperationId, TenantId};
use super::limit;
use super::name::ServiceName;
use super::revision::RevisionNumber;
use super::time::Timestamp;
use super::workload::Exit;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OperationKind {
    /// Release a revision.
    Deploy(RevisionNumber),
    /// Go back to a kept revision.
    Rollback(RevisionNumber),
    /// Start all services of a stopped app, with the replicas they had.
    Start,
    /// Stop all services, those that need others first.
    Stop,
    /// Stop all services and forget the app. Volumes stay.
    Remove,
}

impl OperationKind {
    /// The revision it leads to.
    #[must_use]
    pub fn revision(&self) -> Option<RevisionNumber> {
        match self {
            Self::Deploy(revision) | Self::Rollback(revision) => Some(*revision),
            Self::Start | Self::Stop | Self::Remove => None,
        }
    }
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deploy(revision) => write!(f, "deploy revision {revision}"),
            Self::Rollback(revision) => write!(f, "roll back to revision {revision}"),
            Self::Start => f.write_str("start"),
            Self::Stop => f.write_str("stop"),
            Self::Remove => f.write_str("remove"),
        }
    }
}

/// Where an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OperationState {
    /// Going on.
    Running,
    /// Failed or aborted; the last promoted revisions are coming back.
    RollingBack,
    /// Done.
    Succeeded,
    /// Failed; what was promoted before is back.
    Failed,
    /// A newer operation took its place.
    Superseded,
}

impl OperationState {
    /// Whether it has ended.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Superseded)
    }
}

/// What a person tells a running operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Signal {
    /// Go on with the next step of a release that waits for it.
    Approve,
    /// Make no further step until told to resume.
    Pause,
    /// Go on.
    Resume,
    /// Give up, and bring back what was promoted before.
    Abort,
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// The service that failed, unless a person gave up.
    pub service: Option<ServiceName>,
    /// In words.
    pub reason: String,
    /// The instance that shows it.
    pub instance: Option<InstanceId>,
    /// How that instance ended, with its last lines.
    pub exit: Option<Exit>,
}

impl Failure {
    /// A failure of one service.
    #[must_use]
    pub fn of(service: ServiceName, reason: impl Into<String>) -> Self {
        Self { service: Some(service), reason: reason.into(), instance: None, exit: None }
    }

    /// A person gave up.
    #[must_use]
    pub fn aborted(reason: impl Into<String>) -> Self {
        Self { service: None, reason: reason.into(), instance: None, exit: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(service) = &self.service {
            write!(f, "{service}: ")?;
        }
        f.write_str(&self.reason)?;
        if let Some(exit) = &self.exit {
            write!(f, ": {exit}")?;
            for line in &exit.last_lines {
                write!(f, "\n  | {}", line.escape_debug())?;
            }
        }
        Ok(())
    }
}

/// Something that happened in an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OperationEvent {
    /// Counts the operation's events from 0, so that a reader knows which it has seen.
    pub number: u32,
    /// When.
    pub at: Timestamp,
    /// In which service.
    pub service: Option<ServiceName>,
    /// In words.
    pub text: String,
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Operation {
    /// Its id; ids sort by time.
    pub id: OperationId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The app it changes.
    pub app: AppId,
    /// What was asked for.
    pub kind: OperationKind,
    /// By whom, for people.
    pub actor: String,
    /// When.
    pub created: Timestamp,
    /// Where it is.
    pub state: OperationState,
    /// Whether it makes no further step until told to.
    pub paused: bool,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// What happened, oldest first; at most [`limit::OPERATION_EVENTS`].
    pub events: Vec<OperationEvent>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

impl Operation {
    /// One that begins now.
    #[must_use]
    pub fn new(
        id: OperationId,
        tenant: TenantId,
        app: AppId,
        kind: OperationKind,
        actor: String,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            tenant,
            app,
            kind,
            actor,
            created: now,
            state: OperationState::Running,
            paused: false,
            failure: None,
            events: Vec::new(),
            ended: None,
        }
    }

    /// Notes an event. Of too many, those after the first quarter go.
    pub(crate) fn note(&mut self, at: Timestamp, service: Option<&ServiceName>, text: impl Into<String>) {
        let number = self.events.last().map_or(0, |last| last.number + 1);
        if self.events.len() >= limit::OPERATION_EVENTS {
            self.events.remove(limit::OPERATION_EVENTS / 4);
        }
        self.events.push(OperationEvent { number, at, service: service.cloned(), text: text.into() });
    }

    /// Ends it.
    pub(crate) fn end(&mut self, at: Timestamp, state: OperationState) {
        self.state = state;
        self.ended = Some(at);
    }
}
