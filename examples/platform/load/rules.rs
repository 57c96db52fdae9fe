//! What is asked, what an answer may be, and what may go wrong.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::report::Apart;

/// A service whose revisions are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Api,
    Web,
}

impl Service {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Web => "web",
        }
    }
}

/// Where requests go.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// The public name that is asked for.
    pub(crate) host: String,
    /// The service that is released by canaries.
    pub(crate) canary: Service,
    /// The pause of a connection that has just failed, so that a closed port is not hammered.
    pub(crate) pause: Duration,
}

/// What an answer may be at the moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// The revisions of `api` that may answer.
    pub(crate) api: BTreeSet<String>,
    /// Those of `web`.
    pub(crate) web: BTreeSet<String>,
    /// The deliberately bad revision of the canary's service: its errors are counted apart.
    pub(crate) bad: Option<String>,
    /// What else is counted apart.
    pub(crate) trouble: Trouble,
}

impl Rules {
    /// The revisions of a service that may answer.
    pub(crate) fn of(&mut self, service: Service) -> &mut BTreeSet<String> {
        match service {
            Service::Api => &mut self.api,
            Service::Web => &mut self.web,
        }
    }
}

/// What may go wrong, since the tour is doing it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trouble {
    #[default]
    None,
    /// An instance is killed: the POSTs that it had are lost.
    Instance,
    /// The edge or the keeper is killed: whatever breaks, as long as the gap is short.
    Gap,
    /// The route is deleted: the gateway knows no such host.
    Unrouted,
    /// Services are stopped: 502 and 503 say so.
    Stopped,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    /// Orders; the token says which order it is.
    Order(u64),
    /// Reads an order back.
    Read(u64),
    Products,
    Page,
}

impl Request {
    pub(super) fn write(self, host: &str, out: &mut Vec<u8>) {
        let tail = format!(" HTTP/1.1\r\nhost: {host}\r\n");
        out.clear();
        let text = match self {
            Self::Order(token) => {
                let body = format!("{{\"token\":{token}}}");
                let length = body.len();
                format!(
                    "POST /api/orders{tail}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
                )
            }
            Self::Read(id) => format!("GET /api/orders/{id}{tail}\r\n"),
            Self::Products => format!("GET /api/products{tail}\r\n"),
            Self::Page => format!("GET /{tail}\r\n"),
        };
        out.extend_from_slice(text.as_bytes());
    }

    pub(super) fn is_post(self) -> bool {
        matches!(self, Self::Order(_))
    }
}

/// How a failure is counted that the tour is the cause of.
pub(super) fn apart(request: Request, status: u16, trouble: Trouble) -> Option<Apart> {
    match (trouble, status) {
        (Trouble::Instance, 502) if request.is_post() => Some(Apart::LostPost),
        (Trouble::Gap, 0 | 502..=504) => Some(Apart::Gap),
        (Trouble::Unrouted, 404) => Some(Apart::Gap),
        (Trouble::Stopped, 502 | 503) => Some(Apart::Stopped),
        _ => None,
    }
}
