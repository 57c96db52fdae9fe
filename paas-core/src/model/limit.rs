//! Every bound of the model in one place. What exceeds one is refused with an error that names it.

/// Longest name of a tenant, environment, app, service, volume or secret, in bytes.
pub const NAME: usize = 40;
/// Largest app file, in bytes.
pub const APP_FILE: usize = 128 * 1024;
/// Deepest nesting in an app file.
pub const APP_FILE_DEPTH: usize = 16;
/// Most nodes (scalars, lists and maps) in an app file.
pub const APP_FILE_NODES: usize = 50_000;
/// Most findings that are reported about an app file at once.
pub const APP_FILE_FINDINGS: usize = 20;
/// Most services in an app.
pub const SERVICES: usize = 100;
/// Most environments with an overlay in an app file.
pub const ENVIRONMENTS: usize = 20;
/// Most replicas of a service.
pub const REPLICAS: u32 = 1_000;
/// Most services that one service needs directly.
pub const NEEDS: usize = 50;
/// Most environment variables of a service.
pub const ENV_VARS: usize = 500;
/// Longest name of an environment variable, in bytes.
pub const ENV_NAME: usize = 200;
/// Longest value of an environment variable, in bytes.
pub const ENV_VALUE: usize = 32 * 1024;
/// Most arguments of a command.
pub const ARGS: usize = 200;
/// Longest argument of a command, in bytes.
pub const ARG: usize = 8 * 1024;
/// Most volumes of a service.
pub const VOLUMES: usize = 10;
/// Most domains of a service.
pub const DOMAINS: usize = 50;
/// Most steps of a canary release.
pub const CANARY_STEPS: usize = 20;
/// Most abort rules of a release.
pub const ABORT_RULES: usize = 10;
/// Largest value in a state store, in bytes.
pub const STATE_VALUE: usize = 256 * 1024;
/// Largest secret, in bytes.
pub const SECRET: usize = 64 * 1024;
/// Longest time of a command that somebody runs in an instance.
pub const EXEC: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);
/// Most revisions kept for an app; older ones that nothing refers to are removed.
pub const REVISIONS: usize = 20;
/// Most events kept in an operation's record; the oldest in the middle go first.
pub const OPERATION_EVENTS: usize = 200;
/// Longest text of an event that repeats what a backend said, in characters.
pub const OPERATION_EVENT: usize = 1_000;
/// Longest message of a workload's or an instance's status that repeats what a backend said, in characters.
pub const MESSAGE: usize = 1_000;
/// Most log rules of one kind, of an app or a service.
pub const LOG_RULES: usize = 50;
/// Longest value of a field that a log rule adds, in bytes.
pub const LOG_FIELD: usize = 1_000;
/// Most credentials for log lines of an app, and most collectors of a platform.
pub const LOG_CREDENTIALS: usize = 100;
/// Longest query for log lines, in bytes.
pub const QUERY: usize = 4 * 1024;
/// Most things that a query looks for, groups and negations included.
pub const QUERY_TERMS: usize = 200;
/// Deepest nesting of a query.
pub const QUERY_DEPTH: usize = 20;
/// Longest name of a field of a log line, in bytes.
pub const FIELD_NAME: usize = 128;
