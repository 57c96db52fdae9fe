//! What a platform must be allowed to do on its cluster.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use kube::api::ObjectMeta;
use paas_core::{Error, Result};
use serde::Serialize;

use crate::{BackendsConfig, ConnectionConfig, label, yaml};

mod rule;

/// The group of roles and bindings.
const GROUP: &str = "rbac.authorization.k8s.io";
/// The account that a platform acts as, in its own namespace.
const ACCOUNT: &str = "paas-platform";

/// The account that a platform acts as, and what that account may do: no more than the backends call for, and no `*`.
///
/// There are three roles. One holds in the platform's own namespace: its records and secrets. One holds in each environment's
/// namespace, and in no other: whatever runs there is written by it, Secrets are, and logs and commands go by it. The platform
/// gives itself that role in each namespace it makes, for which it may bind it and no other. The third holds in all
/// namespaces: it makes and removes namespaces, lists and watches what runs, and sees and drains nodes. It reads no Secret.
///
/// A platform that acts as another account than [`Rbac::account`] is given the environments' role by whoever runs it.
///
/// An operator applies it once, before the platform starts:
///
/// ```
/// use paas_k8s::{BackendsConfig, ConnectionConfig, Rbac};
///
/// let access = Rbac::new(&ConnectionConfig::default(), &BackendsConfig::default())?;
/// let yaml = access.to_yaml()?; // for `kubectl apply -f -`
/// assert!(yaml.contains("kind: ClusterRole\n") && !yaml.contains('*'));
/// # Ok::<(), paas_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Rbac {
    /// The platform's own namespace.
    pub namespace: Namespace,
    /// The account, in that namespace: what a pod of the platform names as its `serviceAccountName`.
    pub account: ServiceAccount,
    /// What the account may do in that namespace.
    pub role: Role,
    /// Gives the account that role.
    pub role_binding: RoleBinding,
    /// What the account may do in all namespaces.
    pub cluster_role: ClusterRole,
    /// Gives the account that role.
    pub cluster_role_binding: ClusterRoleBinding,
    /// What the account may do in the namespace of each environment, where the platform binds it.
    pub environment_role: ClusterRole,
}

/// The environments' role of a platform.
fn environment_role(platform: &str) -> String {
    format!("{ACCOUNT}-{platform}-environment")
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: GROUP.into(), kind: kind.into(), name: name.into() }
}

/// The account, in the platform's own namespace.
fn subjects(own: &str) -> Option<Vec<Subject>> {
    let (kind, name) = ("ServiceAccount".into(), ACCOUNT.into());
    Some(vec![Subject { kind, name, namespace: Some(own.into()), ..Subject::default() }])
}

/// Gives the account of the platform, whose own namespace this is, the environments' role in another one.
pub(crate) fn binding(metadata: ObjectMeta, platform: &str, own: &str) -> RoleBinding {
    let role_ref = role_ref("ClusterRole", &environment_role(platform));
    RoleBinding { metadata, role_ref, subjects: subjects(own) }
}

impl Rbac {
    /// What a platform needs whose backends are configured like this.
    ///
    /// # Errors
    /// `Invalid` where the platform or its namespace has a name that no cluster takes.
    pub fn new(connection: &ConnectionConfig, config: &BackendsConfig) -> Result<Self> {
        let (platform, namespace) = (&connection.platform, &connection.namespace);
        label::check_dns_label("platform", platform)?;
        label::check_dns_label("namespace", namespace)?;
        let meta = |name: &str, namespace: Option<&String>| ObjectMeta {
            name: Some(name.to_owned()),
            namespace: namespace.cloned(),
            labels: Some(label::ours(platform)),
            ..ObjectMeta::default()
        };
        let within = |name: &str| meta(name, Some(namespace));
        // Roles of the cluster have no namespace to tell those of two platforms apart.
        let everywhere = format!("{ACCOUNT}-{platform}");
        Ok(Self {
            namespace: Namespace { metadata: meta(namespace, None), ..Namespace::default() },
            account: ServiceAccount { metadata: within(ACCOUNT), ..ServiceAccount::default() },
            role: Role { metadata: within(ACCOUNT), rules: Some(rule::own()) },
            role_binding: RoleBinding {
                metadata: within(ACCOUNT),
                role_ref: role_ref("Role", ACCOUNT),
                subjects: subjects(namespace),
            },
            cluster_role: ClusterRole {
                metadata: meta(&everywhere, None),
                rules: Some(rule::everywhere(config, &environment_role(platform))),
                ..ClusterRole::default()
            },
            cluster_role_binding: ClusterRoleBinding {
                metadata: meta(&everywhere, None),
                role_ref: role_ref("ClusterRole", &everywhere),
                subjects: subjects(namespace),
            },
            environment_role: ClusterRole {
                metadata: meta(&environment_role(platform), None),
                rules: Some(rule::environment(config)),
                ..ClusterRole::default()
            },
        })
    }

    /// All of it as YAML documents, in the order in which they can be applied.
    ///
    /// # Errors
    /// `Internal` where an object cannot be written as YAML.
    pub fn to_yaml(&self) -> Result<String> {
        Ok([
            document(&self.namespace)?,
            document(&self.account)?,
            document(&self.role)?,
            document(&self.role_binding)?,
            document(&self.cluster_role)?,
            document(&self.cluster_role_binding)?,
            document(&self.environment_role)?,
        ]
        .join("---\n"))
    }

    /// All rules: those of the platform's namespace, those of environments' namespaces, and those of all namespaces.
    pub fn rules(&self) -> impl Iterator<Item = &PolicyRule> {
        [&self.role.rules, &self.environment_role.rules, &self.cluster_role.rules]
            .into_iter()
            .flatten()
            .flatten()
    }
}

fn document(object: &impl Serialize) -> Result<String> {
    let unwritable = |cause| Error::internal("an object cannot be written as YAML").with_source(cause);
    let mut text = String::new();
    yaml::write(&serde_json::to_value(object).map_err(unwritable)?, &mut text);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_rule_has_a_star_and_each_names_one_kind_of_object() {
        let mut config = BackendsConfig::default();
        config.router = config.router.gateway("default", "main");
        let access = Rbac::new(&ConnectionConfig::default(), &config).unwrap();
        for rule in access.rules() {
            let text = json!(rule).to_string();
            assert!(!text.contains('*') && rule.non_resource_urls.is_none(), "{text}");
            assert_eq!(rule.resources.as_ref().map(Vec::len), Some(1), "{text}");
        }
        let about = |access: &Rbac, kind: &str| {
            access.rules().filter(|rule| rule.resources == Some(vec![kind.into()])).count()
        };
        let without = Rbac::new(&ConnectionConfig::default(), &BackendsConfig::default()).unwrap();
        let mut config = BackendsConfig::default();
        config.router = config.router.ingress("default", "main");
        let by_ingress = Rbac::new(&ConnectionConfig::default(), &config).unwrap();
        let all = |kind| [&access, &by_ingress, &without].map(|access| about(access, kind));
        assert_eq!(all("httproutes"), [2, 0, 0], "only what is used is asked for");
        assert_eq!(all("ingresses"), [0, 2, 0], "only what is used is asked for");
        assert_eq!(all("endpointslices"), [1, 1, 0], "only what is used is asked for");
    }

    #[test]
    fn nothing_that_shows_or_makes_what_is_in_a_namespace_is_allowed_in_all_of_them() {
        let mut config = BackendsConfig::default();
        config.router = config.router.gateway("default", "main");
        let access = Rbac::new(&ConnectionConfig::default(), &config).unwrap();
        let everywhere: Vec<(String, String)> = access
            .cluster_role
            .rules
            .iter()
            .flatten()
            .flat_map(|rule| {
                let kind = rule.resources.clone().unwrap_or_default().concat();
                rule.verbs.iter().map(move |verb| (kind.clone(), verb.clone()))
            })
            .collect();
        let bind = access.cluster_role.rules.iter().flatten().find(|rule| rule.verbs == ["bind"]).unwrap();
        assert_eq!(
            bind.resource_names.as_deref(),
            access.environment_role.metadata.name.as_ref().map(std::slice::from_ref)
        );
        for (kind, verb) in &everywhere {
            assert!(
                !["secrets", "pods/exec", "pods/log", "configmaps"].contains(&kind.as_str()),
                "{verb} {kind}"
            );
            let is_of_the_cluster = ["namespaces", "nodes", "pods/eviction", "rolebindings", "clusterroles"]
                .contains(&kind.as_str());
            assert!(is_of_the_cluster || ["list", "watch"].contains(&verb.as_str()), "{verb} {kind}");
        }
    }

    #[test]
    fn two_platforms_on_a_cluster_have_two_roles() {
        let of = |name: &str| {
            let connection = ConnectionConfig::default().platform(name);
            Rbac::new(&connection, &BackendsConfig::default()).unwrap().cluster_role.metadata.name
        };
        assert_ne!(of("one"), of("two"));
        let wrong = ConnectionConfig::default().platform("No Name");
        assert!(Rbac::new(&wrong, &BackendsConfig::default()).is_err());
    }
}
