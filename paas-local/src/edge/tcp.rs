//! Plain TCP: a connection to a service's own listener becomes one to an instance.

use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;

use super::balance::Pick;
use super::connection::{ClientSocket, Entry, drive};
use super::state::State;
use super::traffic::Exchange;
use super::tunnel;
use super::upstream;
use super::usage::{Endpoint, Kind, Lease};

/// The most endpoints tried for one connection.
const MAX_ATTEMPTS: usize = 3;

/// Serves one connection to its end. Without an instance to connect to, it is reset.
pub(crate) async fn serve(core: Arc<State>, listener: Arc<str>, stream: TcpStream, entry: Entry) {
    let busy = entry.client.busy();
    let client = entry.client.clone();
    let whole = async {
        let mut socket = ClientSocket::new(stream, client.clone());
        let Some((instance, lease, exchange)) = connect(&core, &listener).await else {
            return client.broken();
        };
        if let Err(error) = tunnel::join(&mut socket, instance, core.config.tunnel_idle).await {
            client.broken();
            tracing::debug!(%error, "a connection broke");
        }
        drop((lease, exchange));
    };
    drive(tunnel::Cuttable(Box::pin(whole)), &entry.client, &core.clients, &core.config).await;
    drop(busy);
}

async fn connect(core: &State, listener: &str) -> Option<(TcpStream, Lease, Exchange)> {
    let started = Instant::now();
    let find = || core.tables.with(|table| table.by_listener(listener).cloned());
    let mut service = find()?;
    let mut choice = service.choose(None)?;
    let mut slot = choice.slot();
    let mut tried: Vec<Arc<Endpoint>> = Vec::new();
    let mut exchange: Option<Exchange> = None;
    loop {
        let lease = match service.slots[slot].lease(Kind::Connection, &tried) {
            Pick::Lease(lease) => lease,
            Pick::Stale => {
                service = find()?;
                choice = service.choose(None)?;
                slot = choice.slot();
                continue;
            }
            Pick::Empty => {
                exchange.iter_mut().for_each(Exchange::failed);
                slot = service.fallback(choice, &tried).filter(|other| *other != slot)?;
                continue;
            }
        };
        let traffic = &service.slots[slot].traffic;
        let mut current = match exchange.take() {
            Some(exchange) if exchange.belongs_to(traffic) => {
                exchange.retried();
                exchange
            }
            _ => traffic.begin(started),
        };
        match upstream::dial(&lease, &core.config).await {
            Ok(stream) => {
                lease.endpoint().forgive();
                current.answered(false);
                return Some((stream, lease, current));
            }
            Err(error) => {
                let endpoint = lease.endpoint().clone();
                tracing::debug!(service = &*endpoint.service, endpoint = &*endpoint.id, %error, "cannot reach");
                endpoint.penalise();
                tried.push(endpoint);
                if tried.len() >= MAX_ATTEMPTS {
                    current.failed();
                    return None;
                }
                exchange = Some(current);
            }
        }
    }
}
