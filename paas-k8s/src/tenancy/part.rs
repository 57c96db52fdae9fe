//! The objects of a room as the cluster has them, held against what they should be.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem, Namespace, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use kube::api::{ObjectMeta, PartialObjectMeta};
use paas_core::model::{Digest, EnvironmentId, TenantId};
use serde::Serialize;

use super::TenancyConfig;
use super::room::{ACCESS, ALLOW_OUT, AMOUNTS, CLOSED, CLUSTERS_ACCOUNT, DENY_ALL, Place};
use crate::policy::ACCOUNT;
use crate::{label, quantity};

/// Whose room an object is of.
pub(super) type Home = (TenantId, EnvironmentId);

/// One of the objects that make a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Namespace,
    Access,
    DenyAll,
    AllowOut,
    Quota,
    Limits,
    Account,
    ClustersAccount,
}

impl Part {
    /// Those within the namespace.
    pub(super) const INNER: [Self; 7] = [
        Self::Access,
        Self::DenyAll,
        Self::AllowOut,
        Self::Quota,
        Self::Limits,
        Self::Account,
        Self::ClustersAccount,
    ];
}

/// A kind of object that rooms are made of. A whole one, where metadata do not tell: that somebody has taken a field away
/// leaves no trace in them.
pub(super) trait Piece: Serialize {
    /// The parts that are of this kind.
    const PARTS: &'static [Part];

    fn meta(&self) -> &ObjectMeta;

    /// Which part has this name.
    fn part(name: &str) -> Option<Part>;

    /// Whether all that the platform decides of it is so, its labels aside.
    fn holds(&self, part: Part, place: &Place, wanted: &Wanted) -> bool;
}

/// What rooms are held against: what a company has decided, and which namespace is the platform's own.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) config: TenancyConfig,
    pub(super) own: String,
}

/// An object of a room.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) part: Part,
    pub(super) home: Home,
    pub(super) uid: String,
    /// What it is instead of what it should be; `None` where it is whole.
    pub(super) off: Option<Digest>,
    pub(super) is_ending: bool,
    /// Of a namespace: it is to go, and nothing may come into it.
    pub(super) is_closed: bool,
    /// Who else wrote to it last.
    pub(super) hand: Option<String>,
}

impl Seen {
    /// `None` for what is no room's, or is not where its labels say that it belongs.
    pub(super) fn of<P: Piece>(object: &P, platform: &str, wanted: &Wanted) -> Option<Self> {
        let meta = object.meta();
        let labels = meta.labels.as_ref()?;
        let tenant = TenantId::new(labels.get(label::TENANT)?).ok()?;
        let environment = EnvironmentId::new(labels.get(label::ENVIRONMENT)?).ok()?;
        let part = P::part(meta.name.as_deref()?)?;
        let place = Place::new(platform, &tenant, &environment);
        let namespace = if part == Part::Namespace { &meta.name } else { &meta.namespace };
        if namespace.as_deref() != Some(&place.namespace) {
            return None;
        }
        let is_marked = place.labels.iter().all(|(key, value)| labels.get(key) == Some(value));
        let is_whole = is_marked && object.holds(part, &place, wanted);
        Some(Self {
            part,
            off: (!is_whole).then(|| stands(object)),
            home: (tenant, environment),
            uid: meta.uid.clone()?,
            is_ending: meta.deletion_timestamp.is_some(),
            is_closed: meta.annotations.as_ref().is_some_and(|notes| notes.contains_key(CLOSED)),
            hand: hand(meta),
        })
    }
}

/// Another one whenever the object is changed, its status aside.
fn stands(object: &impl Piece) -> Digest {
    let value = serde_json::to_value(object).unwrap_or_default();
    let fields = ["spec", "automountServiceAccountToken", "subjects", "roleRef"].map(|field| &value[field]);
    Digest::of(&(&object.meta().labels, fields))
}

fn hand(meta: &ObjectMeta) -> Option<String> {
    let all = meta.managed_fields.iter().flatten().filter(|entry| entry.subresource.is_none());
    let others = all.filter(|entry| entry.manager.as_deref() != Some(label::MANAGER));
    others.max_by_key(|entry| entry.time.clone())?.manager.clone()
}

impl Piece for PartialObjectMeta<Namespace> {
    const PARTS: &'static [Part] = &[Part::Namespace];

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    /// What it is called follows from whose it is.
    fn part(_: &str) -> Option<Part> {
        Some(Part::Namespace)
    }

    fn holds(&self, _: Part, place: &Place, wanted: &Wanted) -> bool {
        let labels = place.security(&wanted.config);
        labels.iter().all(|(key, value)| self.labels().get(key) == Some(value))
    }
}

impl Piece for RoleBinding {
    const PARTS: &'static [Part] = &[Part::Access];

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn part(name: &str) -> Option<Part> {
        (name == ACCESS).then_some(Part::Access)
    }

    fn holds(&self, _: Part, place: &Place, wanted: &Wanted) -> bool {
        let access = place.access(&wanted.own);
        (&self.role_ref, &self.subjects) == (&access.role_ref, &access.subjects)
    }
}

impl Piece for NetworkPolicy {
    const PARTS: &'static [Part] = &[Part::DenyAll, Part::AllowOut];

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn part(name: &str) -> Option<Part> {
        match name {
            DENY_ALL => Some(Part::DenyAll),
            ALLOW_OUT => Some(Part::AllowOut),
            _ => None,
        }
    }

    fn holds(&self, part: Part, place: &Place, wanted: &Wanted) -> bool {
        let all = part == Part::DenyAll;
        let policy = if all { place.deny_all() } else { place.allow_out(&wanted.config) };
        plain(self.spec.as_ref()) == plain(policy.spec.as_ref())
    }
}

/// The cluster says nothing where there is no rule.
fn plain(spec: Option<&NetworkPolicySpec>) -> Option<NetworkPolicySpec> {
    let mut spec = spec?.clone();
    spec.ingress = spec.ingress.filter(|rules| !rules.is_empty());
    spec.egress = spec.egress.filter(|rules| !rules.is_empty());
    Some(spec)
}

impl Piece for ResourceQuota {
    const PARTS: &'static [Part] = &[Part::Quota];

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn part(name: &str) -> Option<Part> {
        (name == AMOUNTS).then_some(Part::Quota)
    }

    fn holds(&self, _: Part, place: &Place, wanted: &Wanted) -> bool {
        let (Some(own), Some(wanted)) = (&self.spec, place.quota(&wanted.config).spec) else { return false };
        same(own.hard.as_ref(), wanted.hard.as_ref())
            && own.scopes.as_ref().is_none_or(Vec::is_empty)
            && own.scope_selector.is_none()
    }
}

impl Piece for LimitRange {
    const PARTS: &'static [Part] = &[Part::Limits];

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn part(name: &str) -> Option<Part> {
        (name == AMOUNTS).then_some(Part::Limits)
    }

    fn holds(&self, _: Part, place: &Place, wanted: &Wanted) -> bool {
        let (Some(own), Some(wanted)) = (&self.spec, place.limits(&wanted.config).spec) else { return false };
        let alike = |(a, b): (&LimitRangeItem, &LimitRangeItem)| {
            a.type_ == b.type_
                && same(a.default.as_ref(), b.default.as_ref())
                && same(a.default_request.as_ref(), b.default_request.as_ref())
                && same(a.max.as_ref(), b.max.as_ref())
                && same(a.min.as_ref(), b.min.as_ref())
                && same(a.max_limit_request_ratio.as_ref(), b.max_limit_request_ratio.as_ref())
        };
        own.limits.len() == wanted.limits.len() && own.limits.iter().zip(&wanted.limits).all(alike)
    }
}

impl Piece for ServiceAccount {
    const PARTS: &'static [Part] = &[Part::Account, Part::ClustersAccount];

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn part(name: &str) -> Option<Part> {
        match name {
            ACCOUNT => Some(Part::Account),
            CLUSTERS_ACCOUNT => Some(Part::ClustersAccount),
            _ => None,
        }
    }

    fn holds(&self, _: Part, _: &Place, _: &Wanted) -> bool {
        self.automount_service_account_token == Some(false)
    }
}

type Amounts = BTreeMap<String, Quantity>;

/// Whether amounts are the same, in whatever way each is written.
fn same(a: Option<&Amounts>, b: Option<&Amounts>) -> bool {
    let none = Amounts::new();
    let (a, b) = (a.unwrap_or(&none), b.unwrap_or(&none));
    let alike = |key: &str, a: &Quantity, b: &Quantity| {
        if key.ends_with("cpu") {
            quantity::cpu(a).is_some_and(|a| quantity::cpu(b) == Some(a))
        } else {
            quantity::size(a).is_some_and(|a| quantity::size(b) == Some(a))
        }
    };
    a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| alike(key, a, b)))
}
