//! What a pod must not do.

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, EphemeralContainer, LifecycleHandler, PodSecurityContext, PodSpec, Probe,
    SELinuxOptions, SeccompProfile, Volume, WindowsSecurityContextOptions,
};
use serde::Deserialize;

use super::{ACCOUNT, Finding};

/// Settings of the kernel that are a pod's own, and no danger to others.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];
/// The types that containers have by themselves.
const SELINUX_TYPES: [&str; 5] =
    ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
/// Where AppArmor profiles stood before they had a field; a kubelet heeds it still.
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const NOT_CONFINED: &str = "its system calls are not confined";
const NO_APP_ARMOR: &str = "it leaves AppArmor's confinement";
const OWN_SELINUX: &str = "it takes SELinux options of its own";
const NODE_PROCESS: &str = "it is a process of the node";
const MAY_BE_ROOT: &str = "it may run as root";
const IS_ROOT: &str = "it runs as root";

/// Looks at a pod's template.
pub(super) fn check<'a>(
    title: &str,
    spec: &PodSpec,
    annotations: impl Iterator<Item = (&'a str, &'a str)>,
    findings: &mut Vec<Finding>,
) {
    let mut found = |says| findings.push(Finding { object: title.to_owned(), says });
    let volumes: Vec<&Volume> = spec.volumes.iter().flatten().collect();
    let defaults = spec.security_context.clone().unwrap_or_default();
    let mut profiles = annotations.filter_map(|(key, value)| key.starts_with(APP_ARMOR).then_some(value));
    let is_app_armor_kept = is_app_armor_kept(defaults.app_armor_profile.as_ref())
        && profiles.all(|it| it.is_empty() || it == "runtime/default" || it.starts_with("localhost/"));
    for (kept, says) in [
        (spec.host_network != Some(true), "it shares the node's network"),
        (spec.host_pid != Some(true), "it sees the node's processes"),
        (spec.host_ipc != Some(true), "it shares the node's memory segments"),
        (!volumes.iter().any(|volume| volume.host_path.is_some()), "it mounts a directory of the node"),
        (volumes.iter().all(|volume| harmless(volume)), "it mounts a kind of volume that is not allowed"),
        (!volumes.iter().any(|volume| has_token(volume)), "it mounts a token of the API server"),
        (
            spec.automount_service_account_token == Some(false),
            "it does not say that it wants no token of the API server",
        ),
        (
            spec.service_account_name.as_deref() == Some(ACCOUNT),
            "it runs as another account than that of apps",
        ),
        (spec.ephemeral_containers.iter().flatten().next().is_none(), "it brings a debugging container"),
        (!spec.containers.is_empty(), "it has no container"),
        (defaults.run_as_non_root != Some(false), MAY_BE_ROOT),
        (defaults.run_as_user != Some(0), IS_ROOT),
        (defaults.seccomp_profile.as_ref().is_none_or(is_confined), NOT_CONFINED),
        (is_app_armor_kept, NO_APP_ARMOR),
        (is_selinux_kept(defaults.se_linux_options.as_ref()), OWN_SELINUX),
        (!is_of_the_node(defaults.windows_options.as_ref()), NODE_PROCESS),
        (
            defaults.sysctls.iter().flatten().all(|own| SAFE_SYSCTLS.contains(&own.name.as_str())),
            "it changes what is not its own of the kernel",
        ),
    ] {
        if !kept {
            found(says);
        }
    }
    let debugging = spec.ephemeral_containers.iter().flatten().filter_map(plain);
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten()).cloned().chain(debugging);
    for container in all {
        let object = format!("{title} container {}", container.name);
        let says = check_container(&container, &defaults);
        findings.extend(says.into_iter().map(|says| Finding { object: object.clone(), says }));
    }
}

/// A debugging container is a container with a field more.
fn plain(container: &EphemeralContainer) -> Option<Container> {
    Container::deserialize(serde_json::to_value(container).ok()?).ok()
}

/// What the restricted standard allows to mount, and nothing that it does not know.
fn harmless(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.csi.is_some()
        || volume.downward_api.is_some()
        || volume.empty_dir.is_some()
        || volume.ephemeral.is_some()
        || volume.image.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.projected.is_some()
        || volume.secret.is_some()
}

fn has_token(volume: &Volume) -> bool {
    let sources = volume.projected.as_ref().and_then(|projected| projected.sources.as_ref());
    sources.into_iter().flatten().any(|source| source.service_account_token.is_some())
}

fn is_confined(profile: &SeccompProfile) -> bool {
    ["RuntimeDefault", "Localhost"].contains(&profile.type_.as_str())
}

fn is_app_armor_kept(profile: Option<&AppArmorProfile>) -> bool {
    profile.is_none_or(|profile| ["RuntimeDefault", "Localhost"].contains(&profile.type_.as_str()))
}

fn is_selinux_kept(options: Option<&SELinuxOptions>) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    options.is_none_or(|own| {
        text(&own.user).is_empty()
            && text(&own.role).is_empty()
            && SELINUX_TYPES.contains(&text(&own.type_).as_str())
    })
}

fn is_of_the_node(options: Option<&WindowsSecurityContextOptions>) -> bool {
    options.is_some_and(|options| options.host_process == Some(true))
}

/// Whether a probe or a hook names a host of its own: the kubelet would ask it, from the node.
fn asks_elsewhere(container: &Container) -> bool {
    let host = |http: Option<&Option<String>>, tcp: Option<&Option<String>>| {
        [http, tcp].into_iter().flatten().flatten().any(|host| !host.is_empty())
    };
    let of_probe = |probe: &Probe| {
        host(probe.http_get.as_ref().map(|it| &it.host), probe.tcp_socket.as_ref().map(|it| &it.host))
    };
    let of_hook = |hook: &LifecycleHandler| {
        host(hook.http_get.as_ref().map(|it| &it.host), hook.tcp_socket.as_ref().map(|it| &it.host))
    };
    let probes = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
    let lifecycle = container.lifecycle.as_ref();
    let hooks =
        [lifecycle.and_then(|it| it.post_start.as_ref()), lifecycle.and_then(|it| it.pre_stop.as_ref())];
    probes.into_iter().flatten().any(of_probe) || hooks.into_iter().flatten().any(of_hook)
}

fn check_container(container: &Container, pod: &PodSecurityContext) -> Vec<&'static str> {
    let own = container.security_context.clone().unwrap_or_default();
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let drops_all = capabilities.drop.iter().flatten().any(|name| name == "ALL");
    let adds_none = capabilities.add.iter().flatten().all(|name| name == "NET_BIND_SERVICE");
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let limited = |what: &str| limits.is_some_and(|limits| limits.contains_key(what));
    let host_ports =
        container.ports.iter().flatten().any(|port| port.host_port.is_some_and(|port| port != 0));
    // What the pod says wrong is said of the pod; here it counts whether somebody says it at all.
    let is_never_root = own.run_as_non_root.or(pod.run_as_non_root.map(|_| true)) == Some(true);
    let is_seccomp_kept = own.seccomp_profile.as_ref().map_or(pod.seccomp_profile.is_some(), is_confined);
    let rules = [
        (is_never_root, MAY_BE_ROOT),
        (own.run_as_user != Some(0), IS_ROOT),
        (own.allow_privilege_escalation == Some(false), "it may gain privileges"),
        (own.privileged != Some(true), "it is privileged"),
        (drops_all, "it does not drop all capabilities"),
        (adds_none, "it adds a capability"),
        (is_seccomp_kept, NOT_CONFINED),
        (is_app_armor_kept(own.app_armor_profile.as_ref()), NO_APP_ARMOR),
        (is_selinux_kept(own.se_linux_options.as_ref()), OWN_SELINUX),
        (!is_of_the_node(own.windows_options.as_ref()), NODE_PROCESS),
        (own.proc_mount.as_deref().is_none_or(|mount| mount == "Default"), "it sees more of /proc"),
        (limited("cpu"), "its processor time is not limited"),
        (limited("memory"), "its memory is not limited"),
        (!host_ports, "it takes a port of the node"),
        (!asks_elsewhere(container), "a probe or hook of it asks another host"),
    ];
    rules.into_iter().filter(|(kept, _)| !kept).map(|(_, says)| says).collect()
}
