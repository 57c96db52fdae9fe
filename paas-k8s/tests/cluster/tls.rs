//! Domains on a Gateway's listener for HTTPS.

use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ObjectMeta, PostParams};
use paas_core::model::{Role, Slot, WorkloadKey};
use paas_core::port::Router;
use paas_core::{Error, Result};
use paas_k8s::{GatewayRouter, RouterConfig};
use paas_testkit::suite::router::RouterFixture;
use paas_testkit::{Fixture, World};
use rcgen::CertifiedKey;
use serde_json::json;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::cases;
use crate::fixture::connect;
use crate::fixture::http::Connection;
use crate::fixture::rooms::{broken, client};
use crate::fixture::router::{GATEWAY, Routers, gateway};

cases![a_domain_is_served_on_the_listener_that_is_named];

/// A Gateway of a company with a certificate of its own, and a listener without.
struct Edge {
    gateways: Api<DynamicObject>,
    secrets: Api<Secret>,
    name: String,
    certificate: CertificateDer<'static>,
}

impl Edge {
    async fn new(name: String, host: &str) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]);
        let CertifiedKey { cert, signing_key } =
            made.map_err(|e| Error::internal("no key").with_source(e))?;
        let client = client().await?;
        let secrets: Api<Secret> = Api::namespaced(client.clone(), GATEWAY.0);
        let kind =
            ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "Gateway"));
        let gateways: Api<DynamicObject> = Api::namespaced_with(client, GATEWAY.0, &kind);
        let part = |name: &str, text: String| (name.to_owned(), ByteString(text.into_bytes()));
        let secret = Secret {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            type_: Some("kubernetes.io/tls".into()),
            data: Some([part("tls.crt", cert.pem()), part("tls.key", signing_key.serialize_pem())].into()),
            ..Secret::default()
        };
        secrets.create(&PostParams::default(), &secret).await.map_err(broken)?;
        let all = json!({ "namespaces": { "from": "All" } });
        let gateway = json!({
            "metadata": { "name": name },
            "spec": { "gatewayClassName": GATEWAY.1, "listeners": [
                { "name": "plain", "protocol": "HTTP", "port": 80, "allowedRoutes": all },
                {
                    "name": "secure", "protocol": "HTTPS", "port": 443, "allowedRoutes": all,
                    "tls": { "certificateRefs": [{ "name": name }] },
                },
            ] },
        });
        let mut gateway: DynamicObject = serde_json::from_value(gateway).unwrap();
        gateway.types = Some(kube::core::TypeMeta { api_version: kind.api_version, kind: kind.kind });
        gateways.create(&PostParams::default(), &gateway).await.map_err(broken)?;
        Ok(Self { gateways, secrets, name, certificate: cert.der().clone() })
    }

    /// Who answers for a host over TLS, with the company's certificate and no other.
    async fn ask(&self, to: SocketAddr, host: &str) -> std::io::Result<u16> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let mut connection = Connection::secure(to, &connector, name).await?;
        Ok(connection.get(host, "/", &[]).await?.status)
    }

    async fn end(self) -> Result<()> {
        self.gateways.delete(&self.name, &DeleteParams::default()).await.map_err(broken)?;
        self.secrets.delete(&self.name, &DeleteParams::default()).await.map_err(broken).map(drop)
    }
}

async fn a_domain_is_served_on_the_listener_that_is_named() -> Result<()> {
    let (fixture, world) = (Routers::default(), World::new());
    let host = world.host();
    let edge = Edge::new(format!("edge-{}", world.app), &host).await?;
    let mut route = world.route();
    route.hosts = vec![host.parse()?];
    let paas_core::model::Route { tenant, environment, app, service, .. } = route.clone();
    let key = WorkloadKey::new(tenant, environment, app, service, Role::Slot(Slot::Blue));
    route.slots = vec![world.slot(Slot::Blue, 1, fixture.endpoints(&key, 1).await?)];
    let config = RouterConfig::default().gateway(GATEWAY.0, edge.name.as_str()).listener("secure");
    let router = GatewayRouter::open(connect().await?, config).await?;
    router.apply(&world.scope(), &route).await?;
    let plain = gateway().await?;
    let secure = SocketAddr::new(plain.ip(), 443);
    let mut answer = edge.ask(secure, &host).await;
    let until = tokio::time::Instant::now() + fixture.deadline();
    while !matches!(answer, Ok(200)) && tokio::time::Instant::now() < until {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        answer = edge.ask(secure, &host).await;
    }
    assert_eq!(answer.map_err(|error| error.to_string()), Ok(200));
    // The route is known there by now, and the other listener has none of it.
    let mut connection = Connection::open(plain).await.unwrap();
    assert_eq!(connection.get(&host, "/", &[]).await.unwrap().status, 404);
    router.remove(&world.scope(), &route.resource()).await?;
    fixture.close().await;
    edge.end().await
}
