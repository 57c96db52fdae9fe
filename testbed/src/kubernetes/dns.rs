//! The cluster's names: CoreDNS, beside the pods.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use super::API_ADDRESS;
use super::config::may;
use super::inside::{Cluster, sh};
use crate::Result;
use crate::golang::Module;

/// Where pods ask. It is an address of the node, so that no service has to point there. The API server gives the first
/// addresses of the services' range only to who asks for one by name.
pub(super) const DNS_ADDRESS: &str = "10.96.0.10";
pub(super) const DOMAIN: &str = "cluster.local";

/// Only what is needed: with all of its plugins it takes many times as long to build.
const PLUGINS: &str = "package main

import (
\t\"github.com/coredns/coredns/coremain\"

\t_ \"github.com/coredns/coredns/plugin/bind\"
\t_ \"github.com/coredns/coredns/plugin/errors\"
\t_ \"github.com/coredns/coredns/plugin/kubernetes\"
\t_ \"github.com/coredns/coredns/plugin/template\"
)

func main() { coremain.Run() }
";

/// Builds it once.
pub(super) fn program() -> Result<PathBuf> {
    let module = Module {
        path: "github.com/coredns/coredns",
        version: "v1.15.0",
        programs: &[("build/coredns", "coredns")],
        sources: &[("coredns/main.go", PLUGINS)],
        linked: "",
        staging: None,
    };
    Ok(module.build()?.join("coredns"))
}

impl Cluster {
    /// Starts it, and waits until it knows the cluster.
    pub(super) fn dns(&mut self) -> Result<()> {
        sh("ip", &["address", "add", &format!("{DNS_ADDRESS}/32"), "dev", "lo"])?;
        let seen = ["endpoints", "services", "pods", "namespaces", "endpointslices"];
        self.create("dns", &may("coredns", &[(&["", "discovery.k8s.io"], &seen, &["list", "watch"])]))?;
        let file = self.file("config/Corefile");
        fs::write(&file, corefile(&self.file("config/dns.kubeconfig")))?;
        self.start("coredns", &program()?, &["-conf".into(), file])?;
        let api: Ipv4Addr = API_ADDRESS.parse()?;
        self.wait("coredns", "cluster DNS", |_| {
            Ok(ask(&format!("kubernetes.default.svc.{DOMAIN}")) == Some(api))
        })
    }
}

/// There is nobody to ask for names outside the cluster: they do not exist, which is known at once.
fn corefile(kubeconfig: &str) -> String {
    format!(
        "{DOMAIN} in-addr.arpa {{
    bind {DNS_ADDRESS}
    errors
    kubernetes {{
        kubeconfig {kubeconfig}
    }}
}}
. {{
    bind {DNS_ADDRESS}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"
    )
}

/// The address of a name, as a pod would be told.
fn ask(name: &str) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((DNS_ADDRESS, 53)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    socket.send(&question(name)).ok()?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).ok()?;
    told(&answer[..length])
}

/// One question for an address.
fn question(name: &str) -> Vec<u8> {
    let mut question = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        // A label has at most 63 bytes.
        question.push(u8::try_from(label.len()).unwrap_or(0));
        question.extend(label.bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    question
}

/// The address at the end of an answer, which has one record and nothing after it.
fn told(answer: &[u8]) -> Option<Ipv4Addr> {
    let has_one = answer.get(6..12)? == [0, 1, 0, 0, 0, 0];
    let address: &[u8; 4] = answer.last_chunk()?;
    has_one.then(|| Ipv4Addr::from(*address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_and_read() {
        let mut answer = question("a.example");
        assert_eq!(answer[12..], *b"\x01a\x07example\0\0\x01\0\x01");
        assert_eq!(told(&answer), None, "a question is no answer");
        answer[7] = 1;
        answer.extend(*b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x0a\x60\0\x01");
        assert_eq!(told(&answer), Some(Ipv4Addr::new(10, 96, 0, 1)));
        assert_eq!(told(&[]), None);
    }
}
