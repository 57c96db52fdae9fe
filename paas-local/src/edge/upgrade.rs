//! Upgraded connections: after a 101 both sides speak what they like.

use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::Outgoing;
use super::connection::{Busy, drive};
use super::http::Peer;
use super::refusal::Refusal;
use super::traffic::Exchange;
use super::tunnel;
use super::upstream::Held;

/// Passes a 101 on and joins the two connections once both have switched.
pub(crate) fn answer(
    peer: &Arc<Peer>,
    client: OnUpgrade,
    response: Response<Incoming>,
    held: Held,
    exchange: Exchange,
    busy: Busy,
) -> Response<Outgoing> {
    let (mut parts, _) = response.into_parts();
    let Some(instance) = parts.extensions.remove::<OnUpgrade>() else {
        return Refusal::Garbled.into_response(busy);
    };
    parts.extensions.clear();
    let lease = held.into_lease().into_tunnel();
    let entry = peer.core.clients.enter();
    let core = peer.core.clone();
    tokio::spawn(async move {
        let busy = entry.client.busy();
        let tunnel = async {
            let (Ok(client), Ok(instance)) = futures_util::join!(client, instance) else { return };
            join(TokioIo::new(client), TokioIo::new(instance), core.config.tunnel_idle).await;
        };
        drive(tunnel::Cuttable(Box::pin(tunnel)), &entry.client, &core.clients, &core.config).await;
        drop((lease, exchange, busy));
    });
    Response::from_parts(parts, Outgoing::text(bytes::Bytes::new(), busy))
}

async fn join(
    client: impl AsyncRead + AsyncWrite + Unpin,
    instance: impl AsyncRead + AsyncWrite + Unpin,
    idle: Duration,
) {
    if let Err(error) = tunnel::join(client, instance, idle).await {
        tracing::debug!(%error, "a tunnel broke");
    }
}
