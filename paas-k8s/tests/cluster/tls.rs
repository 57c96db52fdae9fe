//! Domains over TLS: on a Gateway's listener for HTTPS, and by Ingress.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use paas_core::model::{Role, Route, Slot, WorkloadKey};
use paas_core::port::Router;
use paas_core::{Error, Result};
use paas_k8s::{GatewayRouter, RouterConfig};
use paas_testkit::suite::router::RouterFixture;
use paas_testkit::{Fixture, World};
use rcgen::CertifiedKey;
use serde_json::json;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::cases;
use crate::fixture::connect;
use crate::fixture::http::Connection;
use crate::fixture::rooms::{broken, client, namespace};
use crate::fixture::router::{GATEWAY, Routers, gateway};

cases![
    a_domain_is_served_on_the_listener_that_is_named,
    a_domain_by_ingress_is_served_with_the_certificate_that_is_named,
];

/// A certificate of a company's own.
struct Certificate {
    secrets: Api<Secret>,
    /// The name of its secret.
    name: String,
    der: CertificateDer<'static>,
}

impl Certificate {
    async fn new(namespace: &str, name: String, host: &str) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]);
        let CertifiedKey { cert, signing_key } =
            made.map_err(|e| Error::internal("no key").with_source(e))?;
        let secrets: Api<Secret> = Api::namespaced(client().await?, namespace);
        let part = |name: &str, text: String| (name.to_owned(), ByteString(text.into_bytes()));
        let secret = Secret {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            type_: Some("kubernetes.io/tls".into()),
            data: Some([part("tls.crt", cert.pem()), part("tls.key", signing_key.serialize_pem())].into()),
            ..Secret::default()
        };
        secrets.create(&PostParams::default(), &secret).await.map_err(broken)?;
        Ok(Self { secrets, name, der: cert.der().clone() })
    }

    /// Who answers for a host over TLS, with this certificate and no other.
    async fn ask(&self, to: SocketAddr, host: &str) -> std::io::Result<u16> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
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

    /// Asks until it is served, but not for ever.
    async fn served(&self, to: SocketAddr, host: &str, within: Duration) -> Result<(), String> {
        let until = Instant::now() + within;
        loop {
            match self.ask(to, host).await {
                Ok(200) => return Ok(()),
                answer if Instant::now() >= until => return Err(format!("{answer:?}")),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn end(self) -> Result<()> {
        self.secrets.delete(&self.name, &DeleteParams::default()).await.map_err(broken).map(drop)
    }
}

/// A Gateway of a company with a certificate of its own, and a listener without.
struct Edge {
    gateways: Api<DynamicObject>,
    certificate: Certificate,
}

impl Edge {
    async fn new(name: String, host: &str) -> Result<Self> {
        let kind =
            ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "Gateway"));
        let gateways: Api<DynamicObject> = Api::namespaced_with(client().await?, GATEWAY.0, &kind);
        let certificate = Certificate::new(GATEWAY.0, name.clone(), host).await?;
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
        Ok(Self { gateways, certificate })
    }

    async fn end(self) -> Result<()> {
        self.gateways.delete(&self.certificate.name, &DeleteParams::default()).await.map_err(broken)?;
        self.certificate.end().await
    }
}

/// A route of one domain to an instance that answers.
async fn published(fixture: &Routers, world: &World) -> Result<Route> {
    let mut route = world.route();
    route.hosts = vec![world.host().parse()?];
    let Route { tenant, environment, app, service, .. } = route.clone();
    let key = WorkloadKey::new(tenant, environment, app, service, Role::Slot(Slot::Blue));
    route.slots = vec![world.slot(Slot::Blue, 1, fixture.endpoints(&key, 1).await?)];
    Ok(route)
}

async fn a_domain_is_served_on_the_listener_that_is_named() -> Result<()> {
    let (fixture, world) = (Routers::default(), World::new());
    let host = world.host();
    let edge = Edge::new(format!("edge-{}", world.app), &host).await?;
    let route = published(&fixture, &world).await?;
    let config =
        RouterConfig::default().gateway(GATEWAY.0, edge.certificate.name.as_str()).listener("secure");
    let router = GatewayRouter::open(connect().await?, config).await?;
    router.apply(&world.scope(), &route).await?;
    let plain = gateway().await?;
    let secure = SocketAddr::new(plain.ip(), 443);
    assert_eq!(edge.certificate.served(secure, &host, fixture.deadline()).await, Ok(()));
    // The route is known there by now, and the other listener has none of it.
    let mut connection = Connection::open(plain).await.unwrap();
    assert_eq!(connection.get(&host, "/", &[]).await.unwrap().status, 404);
    router.remove(&world.scope(), &route.resource()).await?;
    fixture.close().await;
    edge.end().await
}

async fn a_domain_by_ingress_is_served_with_the_certificate_that_is_named() -> Result<()> {
    let (fixture, world) = (Routers::ingress(), World::new());
    let host = world.host();
    let route = published(&fixture, &world).await?;
    let found = namespace(&client().await?, &route.tenant, &route.environment).await?;
    let home = found.unwrap().name_any();
    let certificate = Certificate::new(&home, "company".into(), &host).await?;
    let config = RouterConfig::default().ingress(GATEWAY.0, GATEWAY.1).ingress_tls(certificate.name.as_str());
    let router = GatewayRouter::open(connect().await?, config).await?;
    router.apply(&world.scope(), &route).await?;
    let secure = SocketAddr::new(gateway().await?.ip(), 443);
    assert_eq!(certificate.served(secure, &host, fixture.deadline()).await, Ok(()));
    // It is that certificate and not whatever else is served there, as for hosts that nobody publishes.
    let other = certificate.ask(secure, &format!("other-{host}")).await.unwrap_err();
    assert!(other.to_string().contains("certificate"), "{other}");
    // The certificate is the company's to change, and the router reads none.
    certificate.end().await?;
    let renewed = Certificate::new(&home, "company".into(), &host).await?;
    assert_eq!(renewed.served(secure, &host, fixture.deadline()).await, Ok(()));
    router.remove(&world.scope(), &route.resource()).await?;
    renewed.end().await?;
    fixture.close().await;
    Ok(())
}
