//! The one error type of the SDK.
//!
//! An [`Error`] says what the caller can do about it (its [`ErrorKind`]), not which library it came from.

use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::time::Duration;

/// A boxed error of any kind, as the cause of an [`Error`].
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What every fallible call of the SDK returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, sorted by what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The thing named does not exist (or is not the caller's to see).
    NotFound,
    /// Somebody else changed it first, or it exists already: read again, then decide.
    Conflict,
    /// The request is wrong as it stands; sending it again changes nothing.
    Invalid,
    /// The caller is not known.
    Unauthenticated,
    /// The caller is known and may not do this.
    Denied,
    /// The backend cannot do this at all.
    Unsupported,
    /// Too much at once; wait for [`Error::retry_after`].
    Throttled,
    /// No answer in time: a write may or may not have happened.
    Timeout,
    /// The backend cannot be reached or is not ready.
    Unavailable,
    /// It was done as asked and did not work out; what was before is back. The message says what happened.
    Failed,
    /// A defect or corruption; needs a person.
    Internal,
}

impl ErrorKind {
    fn retryable(self) -> bool {
        matches!(self, Self::Throttled | Self::Timeout | Self::Unavailable)
    }
}

impl Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not found",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::Unsupported => "unsupported",
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
            Self::Internal => "internal",
        })
    }
}

struct Repr {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    retryable: bool,
    retry_after: Option<Duration>,
    source: Option<BoxError>,
}

/// An error: a kind, a message, context as key and value, and a cause.
///
/// `Display` prints message and context on one line and never the cause; `Debug` prints the kind, that line and the
/// chain of causes. It is one pointer wide.
///
/// ```
/// use paas_core::{Error, ErrorKind};
/// let error = Error::new(ErrorKind::NotFound, "no such service").with("service", "api").with("app", "shop");
/// assert_eq!(error.to_string(), "no such service (service: api, app: shop)");
/// assert!(!error.is_retryable());
/// ```
pub struct Error(Box<Repr>);

const _: () = assert!(size_of::<Error>() == size_of::<usize>());

impl Error {
    /// Makes an error; whether a retry helps follows from `kind`.
    ///
    /// Messages are lower case, without a full stop; values go into [`Error::with`].
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Repr {
            kind,
            message: message.into(),
            context: Vec::new(),
            retryable: kind.retryable(),
            retry_after: None,
            source: None,
        }))
    }

    /// [`ErrorKind::Invalid`] with a message.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// [`ErrorKind::NotFound`] with a message.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// [`ErrorKind::Conflict`] with a message.
    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// [`ErrorKind::Unavailable`] with a message.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// [`ErrorKind::Internal`] with a message.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The backend cannot do `op` at all.
    #[must_use]
    pub fn unsupported(op: &'static str) -> Self {
        Self::new(ErrorKind::Unsupported, "this backend does not support the operation").with("op", op)
    }

    /// Adds context; keys are short nouns. The first value of a key stays.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Display) -> Self {
        if !self.0.context.iter().any(|(known, _)| *known == key) {
            self.0.context.push((key, value.to_string()));
        }
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says when to try again, which makes the error retryable.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self.0.retryable = true;
        self
    }

    /// Says that nobody should try again, whatever the kind: a retry was already spent, or would do harm.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.0.retryable = false;
        self.0.retry_after = None;
        self
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message without context.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The value of one key of the context.
    #[must_use]
    pub fn context(&self, key: &str) -> Option<&str> {
        self.0.context.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str())
    }

    /// All of the context, in the order in which it was added.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// How long the backend asked to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        for (i, (key, value)) in self.0.context.iter().enumerate() {
            write!(f, "{}{key}: {value}", if i == 0 { " (" } else { ", " })?;
        }
        if self.0.context.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.0.kind)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, "\n  caused by: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_leaves_the_cause_to_debug() {
        let error =
            Error::unavailable("cannot read").with("path", "x").with_source(std::io::Error::other("disk"));
        assert_eq!(error.to_string(), "cannot read (path: x)");
        assert_eq!(format!("{error:?}"), "unavailable: cannot read (path: x)\n  caused by: disk");
    }

    #[test]
    fn the_first_value_of_a_key_stays() {
        let error = Error::invalid("no").with("key", 1).with("key", 2);
        assert_eq!(error.context("key"), Some("1"));
    }

    #[test]
    fn a_retry_follows_from_the_kind_unless_said_otherwise() {
        assert!(Error::unavailable("x").is_retryable());
        assert!(!Error::unavailable("x").permanent().is_retryable());
        assert!(Error::invalid("x").with_retry_after(Duration::from_secs(1)).is_retryable());
    }
}
