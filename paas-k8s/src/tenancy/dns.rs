//! Where instances look up names.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use paas_core::{Error, Result};

use crate::label;

/// The cluster's DNS, as network policies see it: pods of a namespace, at a port. By default all of `kube-system`, at 53.
///
/// The port is the one that the pods listen at, not that of their Service. Where each node has a cache of its own
/// (NodeLocal DNSCache), that is no pod: add its address to [`TenancyConfig::outside`](crate::TenancyConfig::outside).
///
/// ```
/// # use paas_k8s::Dns;
/// # fn main() -> paas_core::Result<()> {
/// let kubeadm = Dns::new("kube-system")?.pods("k8s-app", "kube-dns")?;
/// let openshift = Dns::new("openshift-dns")?.port(5353)?;
/// assert!(Dns::new("Kube System").is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    namespace: String,
    pods: BTreeMap<String, String>,
    port: u16,
}

impl Default for Dns {
    fn default() -> Self {
        Self { namespace: "kube-system".into(), pods: BTreeMap::new(), port: 53 }
    }
}

impl Dns {
    /// All pods of a namespace, at port 53.
    ///
    /// # Errors
    /// `Invalid` if no namespace has such a name.
    pub fn new(namespace: impl Into<String>) -> Result<Self> {
        let namespace = namespace.into();
        label::check_dns_label("namespace", &namespace)?;
        Ok(Self { namespace, ..Self::default() })
    }

    /// Of these pods, those that have this label as well.
    ///
    /// # Errors
    /// `Invalid` if no label is written like this.
    pub fn pods(mut self, key: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        let (key, value) = (key.into(), value.into());
        if !is_key(&key) || !(value.is_empty() || is_word(&value)) {
            let broken = "a label is `name` or `example.com/name`, and each of its words 63 letters, digits, `-`, `_` and `.`";
            return Err(Error::invalid(broken).with("key", key).with("value", value));
        }
        self.pods.insert(key, value);
        Ok(self)
    }

    /// They listen at this port instead, over UDP and TCP.
    ///
    /// # Errors
    /// `Invalid` for 0, which is none.
    pub fn port(mut self, port: u16) -> Result<Self> {
        if port == 0 {
            return Err(Error::invalid("0 is no port of a DNS server"));
        }
        self.port = port;
        Ok(self)
    }

    /// What lets pods ask it.
    pub(super) fn rule(&self) -> NetworkPolicyEgressRule {
        let selector = |labels: BTreeMap<String, String>| LabelSelector {
            match_labels: Some(labels),
            ..LabelSelector::default()
        };
        let port = |protocol: &str| NetworkPolicyPort {
            port: Some(IntOrString::Int(self.port.into())),
            protocol: Some(protocol.into()),
            ..NetworkPolicyPort::default()
        };
        let namespace = [("kubernetes.io/metadata.name".to_owned(), self.namespace.clone())];
        let peer = NetworkPolicyPeer {
            namespace_selector: Some(selector(namespace.into())),
            pod_selector: (!self.pods.is_empty()).then(|| selector(self.pods.clone())),
            ..NetworkPolicyPeer::default()
        };
        NetworkPolicyEgressRule { to: Some(vec![peer]), ports: Some(vec![port("UDP"), port("TCP")]) }
    }
}

fn is_key(key: &str) -> bool {
    match key.rsplit_once('/') {
        Some((prefix, name)) => {
            let is_part = |part: &str| label::check_dns_label("prefix", part).is_ok();
            prefix.len() <= 253 && prefix.split('.').all(is_part) && is_word(name)
        }
        None => is_word(key),
    }
}

fn is_word(text: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let bytes = text.as_bytes();
    bytes.len() <= 63 && is_end(bytes.first()) && is_end(bytes.last()) && bytes.iter().all(is_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_no_cluster_takes_is_refused() {
        for namespace in ["", "Kube", "a.b", "-a", "a b"] {
            assert!(Dns::new(namespace).is_err(), "{namespace}");
        }
        let long = "a".repeat(64);
        for (key, value) in [
            ("", "a"),
            ("/a", "b"),
            ("a/", "b"),
            ("A/a", "b"),
            ("a/b/c", "d"),
            ("-a", "b"),
            ("a", "-"),
            ("a", "b c"),
        ] {
            assert!(Dns::default().pods(key, value).is_err(), "{key}={value}");
        }
        assert!(Dns::default().pods(&long, "a").is_err() && Dns::default().pods("a", &long).is_err());
        assert!(Dns::default().pods("example.com/k8s_app.x", "").is_ok());
        assert!(Dns::default().port(0).is_err());
    }

    #[test]
    fn it_is_asked_where_it_is() {
        let dns = Dns::new("openshift-dns").unwrap().pods("dns", "default").unwrap().port(5353).unwrap();
        let expected = json!({
            "to": [{
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "openshift-dns" } },
                "podSelector": { "matchLabels": { "dns": "default" } },
            }],
            "ports": [{ "port": 5353, "protocol": "UDP" }, { "port": 5353, "protocol": "TCP" }],
        });
        assert_eq!(json!(dns.rule()), expected);
    }
}
