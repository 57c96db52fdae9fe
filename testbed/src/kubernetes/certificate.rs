//! One authority, and a certificate for each who speaks or listens.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use super::node::{FIRST, SECOND};
use super::{API_ADDRESS, NODE_ADDRESS};
use crate::Result;

/// The name of a file, the common name, the groups, and the names it answers to.
type Holder = (&'static str, &'static str, Option<&'static str>, &'static [&'static str]);

const HOLDERS: [Holder; 13] = [
    (
        "apiserver",
        "kube-apiserver",
        None,
        &[
            "127.0.0.1",
            API_ADDRESS,
            NODE_ADDRESS,
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
        ],
    ),
    ("apiserver-kubelet", "kube-apiserver-kubelet-client", Some("system:masters"), &[]),
    ("admin", "admin", Some("system:masters"), &[]),
    ("controller-manager", "system:kube-controller-manager", None, &[]),
    ("scheduler", "system:kube-scheduler", None, &[]),
    ("proxy", "system:kube-proxy", None, &[]),
    ("dns", "coredns", None, &[]),
    ("gateway", "traefik", None, &[]),
    ("kwok", "kwok", None, &[]),
    ("kubelet-node-1", "system:node:node-1", Some("system:nodes"), &[]),
    ("kubelet-node-2", "system:node:node-2", Some("system:nodes"), &[]),
    ("server-node-1", FIRST.name, None, &[FIRST.address, FIRST.name]),
    ("server-node-2", SECOND.name, None, &[SECOND.address, SECOND.name]),
];

fn subject(name: &str, group: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    if let Some(group) = group {
        subject.push(DnType::OrganizationName, group);
    }
    subject
}

/// Writes `ca`, one pair for each holder, and the key pair of service accounts.
pub(crate) fn write(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let now = OffsetDateTime::now_utc();
    let dated = |mut params: CertificateParams| {
        // A clock that is set back a little must not make them invalid.
        params.not_before = now - Duration::hours(1);
        params.not_after = now + Duration::days(30);
        params
    };
    let mut authority = dated(CertificateParams::new(Vec::new())?);
    authority.distinguished_name = subject("testbed", None);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    fs::write(folder.join("ca.crt"), authority.self_signed(&key)?.pem())?;
    fs::write(folder.join("ca.key"), key.serialize_pem())?;
    let issuer = Issuer::new(authority, key);
    for (file, name, group, names) in HOLDERS {
        let mut params =
            dated(CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?);
        params.distinguished_name = subject(name, group);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let key = KeyPair::generate()?;
        fs::write(folder.join(format!("{file}.crt")), params.signed_by(&key, &issuer)?.pem())?;
        fs::write(folder.join(format!("{file}.key")), key.serialize_pem())?;
    }
    let accounts = KeyPair::generate()?;
    fs::write(folder.join("accounts.key"), accounts.serialize_pem())?;
    fs::write(folder.join("accounts.pub"), accounts.public_key_pem())?;
    Ok(())
}
