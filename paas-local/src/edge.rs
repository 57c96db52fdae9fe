//! The edge: the proxy in front of all instances of one machine, as a process of its own.
//!
//! It gets its listening sockets from whoever holds them ([`ListenerSource`]) and its routes over a control socket
//! ([`Edge`]). It keeps the routes in a file that it can start from alone, so killing it costs no more than the time
//! it takes to start.
//!
//! What callers can rely on:
//! - After [`Edge::apply`] returned, no new request goes to an endpoint that the route does not name or that it gives
//!   no traffic; requests that are open go on, and [`Event::Drained`] says when the last one ended. That is
//!   conclusive: an endpoint's count and its being closed change in one atomic word.
//! - A request is sent to another endpoint only if nothing of it was sent, or if it is idempotent and can be repeated
//!   as a whole.
//! - An answer that breaks off in the middle breaks the client's connection; it never looks complete.

mod balance;
mod body;
mod client;
mod clock;
mod config;
mod connection;
mod control;
mod gate;
mod header;
mod host;
mod http;
mod ledger;
mod listener;
mod pool;
mod refusal;
mod role;
mod route;
mod socket;
mod state;
mod table;
mod tcp;
mod traffic;
mod tunnel;
mod upgrade;
mod upstream;
mod usage;
mod wire;

pub use client::Edge;
pub use config::EdgeConfig;
pub use ledger::Stamp;
pub use listener::ListenerSource;
pub use role::{Running, run};
pub use route::{
    EndpointRule, HeaderRule, HostRule, MAX_DOMAIN, MAX_ENDPOINTS, MAX_HOSTS, MAX_LISTENERS, MAX_NAME,
    MAX_PATH, MAX_ROUTES, MAX_WEIGHT, PUBLIC, Protocol, Route, SlotName, SlotRule,
};
pub use state::ServiceUsage;
pub use traffic::{BUCKETS, Histogram, ServiceTraffic, SlotUsage, Traffic, bucket_floor, bucket_of};
pub use usage::{EndpointUsage, Event};
pub use wire::Hello;

#[cfg(test)]
mod tests;
