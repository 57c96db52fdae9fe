//! What a company decides about the way to its services.

use paas_core::port::{RouterCapabilities, Tls};
use paas_core::{Error, Result};

/// How services are published.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RouterConfig {
    /// The Gateway that domains are published on: its namespace and its name. It must let routes of all namespaces
    /// attach, and what answers for it runs in its namespace: nothing else may reach instances from outside their app.
    /// Without one and without [`ingress`](Self::ingress), a service with a domain is refused.
    pub gateway: Option<(String, String)>,
    /// The listeners of the Gateway that domains are published on, like its one for HTTPS, whose certificate is the
    /// company's. Without any, on all of its listeners that let them.
    pub listeners: Vec<String>,
    /// The class of the Ingresses that domains are published by, where there is no Gateway API. Either this or a Gateway.
    pub ingress: Option<IngressClass>,
    /// The name of a secret with the certificate of every domain, in the namespace of each tenant's environment: whoever
    /// answers for the Ingress reads it there, and the company puts it there. The platform neither reads nor writes it.
    pub ingress_tls: Option<String>,
    /// Where a gateway that is a Traefik tells its metrics, like `traefik-metrics.traefik.svc:9100`: plain HTTP, at
    /// `/metrics`, labelled by service (`--metrics.prometheus.addServicesLabels`, which is its default). A name must
    /// stand for all of its replicas, as that of a headless Service does: each counts for itself. With it, requests that
    /// come through the gateway are counted by slot. Latencies are as fine as the buckets that it was given
    /// (`--metrics.prometheus.buckets`; finest for us are 0.001, 0.002, 0.004, …), and count as the lower bound of theirs.
    pub metrics: Option<String>,
}

impl RouterConfig {
    /// Publishes domains on this Gateway.
    #[must_use]
    pub fn gateway(mut self, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        self.gateway = Some((namespace.into(), name.into()));
        self
    }

    /// Publishes domains on this listener of the Gateway, and on others that are named so.
    #[must_use]
    pub fn listener(mut self, name: impl Into<String>) -> Self {
        self.listeners.push(name.into());
        self
    }

    /// Publishes domains by Ingresses of this class. Whoever answers for them runs in this namespace.
    #[must_use]
    pub fn ingress(mut self, namespace: impl Into<String>, class: impl Into<String>) -> Self {
        self.ingress = Some(IngressClass { namespace: namespace.into(), name: class.into() });
        self
    }

    /// Names the secret of the domains' certificates, which whoever answers for the Ingresses reads.
    #[must_use]
    pub fn ingress_tls(mut self, secret: impl Into<String>) -> Self {
        self.ingress_tls = Some(secret.into());
        self
    }

    /// Counts requests by what the Traefik behind the Gateway tells here: a host and a port.
    #[must_use]
    pub fn metrics(mut self, address: impl Into<String>) -> Self {
        self.metrics = Some(address.into());
        self
    }

    /// Refuses what contradicts itself.
    pub(crate) fn check(&self) -> Result<()> {
        match () {
            () if self.gateway.is_some() && self.ingress.is_some() => {
                Err(Error::invalid("domains are published on a Gateway or by Ingresses: name one of them"))
            }
            () if self.gateway.is_none() && self.metrics.is_some() => {
                Err(Error::invalid("metrics are those of a gateway: name it, too"))
            }
            () if self.gateway.is_none() && !self.listeners.is_empty() => {
                Err(Error::invalid("listeners are those of a Gateway: name it, too"))
            }
            () if self.ingress.is_none() && self.ingress_tls.is_some() => {
                Err(Error::invalid("the secret is that of Ingresses: name their class, too"))
            }
            () => Ok(()),
        }
    }

    /// Who publishes domains.
    pub(crate) fn edge(&self) -> Option<Edge<'_>> {
        let gateway = self.gateway.as_ref().map(Edge::Gateway);
        gateway.or(self.ingress.as_ref().map(Edge::Ingress))
    }

    /// What a router that is configured so can do. Whether the Gateway has a listener for HTTPS is the company's affair.
    pub(crate) fn capabilities(&self) -> RouterCapabilities {
        let mut capabilities = RouterCapabilities::none();
        capabilities.weights = self.gateway.is_some();
        capabilities.headers = self.gateway.is_some();
        capabilities.traffic = self.metrics.is_some();
        capabilities.fenced = true;
        if self.gateway.is_some() || self.ingress_tls.is_some() {
            capabilities.tls = Tls::Existing;
        }
        capabilities
    }
}

/// A class of Ingresses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IngressClass {
    /// Where whoever answers for them runs: nothing else may reach instances from outside their app.
    pub namespace: String,
    /// The name of the IngressClass.
    pub name: String,
}

/// Who publishes domains.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Edge<'a> {
    /// A Gateway, by its namespace and its name.
    Gateway(&'a (String, String)),
    Ingress(&'a IngressClass),
}

impl<'a> Edge<'a> {
    /// Where requests come from.
    pub(super) fn namespace(self) -> &'a str {
        match self {
            Self::Gateway((namespace, _)) => namespace,
            Self::Ingress(class) => &class.namespace,
        }
    }
}
