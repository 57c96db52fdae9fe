//! The words of the field as plain data: validated, serialisable, without I/O.

pub mod address;
pub mod app;
pub mod audit;
pub mod command;
pub mod environment;
pub mod exec;
pub mod file;
pub mod filter;
mod form;
pub mod id;
pub mod limit;
pub mod log;
pub mod name;
pub mod node;
pub mod notification;
pub mod operation;
pub mod principal;
pub mod probe;
pub mod quantity;
pub mod record;
pub mod release;
pub mod revision;
pub mod route;
mod schema;
pub mod scope;
pub mod search;
pub mod secret;
pub mod service;
pub mod source;
pub mod tenant;
pub mod time;
pub mod volume;
pub mod workload;

pub use address::{Address, Endpoint, Protocol};
pub use app::{App, AppSpec};
pub use audit::{AuditEntry, AuditId, AuditOutcome, AuditQuery, AuditRecord};
pub use command::Command;
pub use environment::{Environment, EnvironmentOverlay, ServiceOverlay};
pub use exec::{ExecInput, ExecOutput, ExecRequest, TerminalSize};
pub use file::{AppFile, AppFileError, Diagnostic};
pub use filter::{
    CaptureRoom, Comparison, FieldName, FieldTest, Level, LogEvent, LogFilter, LogMatcher, Pattern,
    PatternFinder, QueryError, TextTest, WordNeed, Words, field, is_word, pairs, put_pair, unescaped,
};
pub use id::{
    AppId, AuditEntryId, EnvironmentId, IdSource, InstanceId, LogCredentialId, OperationId, ServiceId,
    TenantId, VolumeId,
};
pub use log::{
    AlertScope, LogAddition, LogAlert, LogBatch, LogCredential, LogFields, LogFormat, LogItem, LogJoin,
    LogLine, LogOrigin, LogPairs, LogPlaces, LogPosition, LogQuarantine, LogQuarantineReason, LogRoute,
    LogRuleCount, LogRuleKind, LogRules, LogSample, LogSelector, LogSender, LogStream, LogTail, LogTrial,
    Redaction, TailItem, TailLines, WhenFull,
};
pub use name::{AppName, EnvironmentName, LogGroup, SecretName, ServiceName, TenantName, VolumeName};
pub use node::{Blocked, Drain, Node, NodeName, NodeResources, Occupant};
pub use notification::{Alert, AlertKey, AlertLine, Notification};
pub use operation::{Failure, Operation, OperationEvent, OperationKind, OperationState, Signal};
pub use principal::Principal;
pub use probe::{Check, Probe};
pub use quantity::{ByteSize, CpuQuantity, Percent};
pub use record::{Key, Record, RecordChange, RecordKind, Version};
pub use release::{AbortRule, HeaderMatch, Release, Strategy};
pub use revision::{Digest, Revision, RevisionNumber};
pub use route::{EndpointUse, LatencyHistogram, Route, RouteHost, RouteSlot, RouteStatus, SlotTraffic};
pub use scope::{Action, Epoch, Resource, Scope};
pub use search::{LogBucket, LogCount, LogEntry, LogKey, LogOrder, LogPage, LogQuery, StoredLine};
pub use secret::{Secret, SecretVersion};
pub use service::{Domain, Kind, Limits, Scalar, Service, ServiceSpec};
pub use source::Source;
pub use tenant::Tenant;
pub use time::{Clock, Timestamp};
pub use volume::{Confirmation, Volume, VolumeSpec, VolumeStatus};
pub use workload::{
    Exit, InstanceState, InstanceStatus, Mount, Restart, Role, SecretRef, Slot, Template, Workload,
    WorkloadKey, WorkloadLabels, WorkloadStatus,
};
