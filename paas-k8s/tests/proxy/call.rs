//! What a request to an API server asks for, as its authoriser sees it.

use hyper::{Method, Uri};
use tokio::time::Instant;

/// The verbs that change something.
const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

/// A call, in the words of the cluster's access rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    /// Empty where it is about no resource.
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// What was answered to the caller; 0 where nothing was.
    pub(crate) status: u16,
    /// When it came.
    pub(crate) at: Option<Instant>,
}

impl Call {
    pub(crate) fn of(method: &Method, uri: &Uri) -> Self {
        let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let (group, rest) = match *parts.as_slice() {
            ["api", _, ref rest @ ..] => ("", rest),
            ["apis", group, _, ref rest @ ..] => (group, rest),
            _ => return Self { verb: "get", ..Self::default() },
        };
        let (namespace, rest) = match *rest {
            // A namespace itself is an object of the cluster.
            ["namespaces", namespace, resource, ref rest @ ..]
                if !matches!(resource, "status" | "finalize") =>
            {
                (namespace, [&[resource], rest].concat())
            }
            _ => ("", rest.to_vec()),
        };
        let at = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
        let watches = uri.query().unwrap_or_default().split('&').any(|pair| pair == "watch=true");
        Self {
            verb: verb(method, rest.len() > 1, watches),
            group: group.to_owned(),
            resource: at(0),
            subresource: at(2),
            namespace: namespace.to_owned(),
            name: at(1),
            status: 0,
            at: Some(Instant::now()),
        }
    }

    pub(crate) fn is_write(&self) -> bool {
        WRITES.contains(&self.verb)
    }

    /// A leader that stays one writes its lease as time goes by, whatever else happens.
    pub(crate) fn is_beat(&self) -> bool {
        self.resource == "leases"
    }
}

fn verb(method: &Method, named: bool, watches: bool) -> &'static str {
    match *method {
        Method::GET if watches => "watch",
        Method::GET if named => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => "unknown",
    }
}
