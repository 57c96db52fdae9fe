//! A way to the API server that can be cut.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use kube::Config;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::*;

/// Connections through it live until the next cut.
#[derive(Debug)]
pub(super) struct Proxy {
    listener: Arc<TcpListener>,
    cut: watch::Sender<()>,
    cuts: Arc<AtomicUsize>,
}

impl Proxy {
    pub(super) async fn start() -> Self {
        let listener = Arc::new(TcpListener::bind(("127.0.0.1", 0)).await.unwrap());
        Self { listener, cut: watch::Sender::new(()), cuts: Arc::default() }
    }

    /// The way to the cluster of a configuration, through this; from now on it forwards.
    pub(super) fn config(&self, config: Config) -> Config {
        let server = config.cluster_url.authority().unwrap().clone();
        let to: SocketAddr = server.as_str().parse().unwrap();
        let (listener, cut) = (Arc::clone(&self.listener), self.cut.subscribe());
        let cuts = Arc::clone(&self.cuts);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, to, cut.clone(), Arc::clone(&cuts)));
            }
        });
        let port = self.listener.local_addr().unwrap().port();
        let mut config = config;
        config.tls_server_name = Some(server.host().to_owned());
        config.cluster_url = format!("https://127.0.0.1:{port}").parse().unwrap();
        config
    }

    /// Cuts all connections there are.
    pub(super) fn cut(&self) {
        self.cut.send_replace(());
    }

    /// How many connections were cut so far.
    pub(super) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

async fn forward(
    mut client: TcpStream,
    to: SocketAddr,
    mut cut: watch::Receiver<()>,
    cuts: Arc<AtomicUsize>,
) {
    cut.mark_unchanged();
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = cut.changed() => drop(cuts.fetch_add(1, Ordering::Relaxed)),
    }
}
