//! What a pod must not do.

use k8s_openapi::api::core::v1::{Container, PodSecurityContext, PodSpec, SeccompProfile, Volume};

use super::{ACCOUNT, Finding};

/// Looks at a pod's template.
pub(crate) fn check(title: &str, spec: &PodSpec, findings: &mut Vec<Finding>) {
    let mut found = |says| findings.push(Finding { object: title.to_owned(), says });
    let volumes: Vec<&Volume> = spec.volumes.iter().flatten().collect();
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
    ] {
        if !kept {
            found(says);
        }
    }
    let defaults = spec.security_context.clone().unwrap_or_default();
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let object = format!("{title} container {}", container.name);
        let says = check_container(container, &defaults);
        findings.extend(says.into_iter().map(|says| Finding { object: object.clone(), says }));
    }
}

/// What the restricted standard allows to mount, and nothing that it does not know.
fn harmless(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.csi.is_some()
        || volume.downward_api.is_some()
        || volume.empty_dir.is_some()
        || volume.ephemeral.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.projected.is_some()
        || volume.secret.is_some()
}

fn has_token(volume: &Volume) -> bool {
    let sources = volume.projected.as_ref().and_then(|projected| projected.sources.as_ref());
    sources.into_iter().flatten().any(|source| source.service_account_token.is_some())
}

fn check_container(container: &Container, pod: &PodSecurityContext) -> Vec<&'static str> {
    let own = container.security_context.clone().unwrap_or_default();
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let drops_all = capabilities.drop.iter().flatten().any(|name| name == "ALL");
    let adds_none = capabilities.add.iter().flatten().all(|name| name == "NET_BIND_SERVICE");
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let limited = |what: &str| limits.is_some_and(|limits| limits.contains_key(what));
    let confined = |profile: Option<&SeccompProfile>| {
        profile.is_some_and(|profile| ["RuntimeDefault", "Localhost"].contains(&profile.type_.as_str()))
    };
    let host_ports =
        container.ports.iter().flatten().any(|port| port.host_port.is_some_and(|port| port != 0));
    let rules = [
        (own.run_as_non_root.or(pod.run_as_non_root) == Some(true), "it may run as root"),
        (own.run_as_user.or(pod.run_as_user) != Some(0), "it runs as root"),
        (own.allow_privilege_escalation == Some(false), "it may gain privileges"),
        (own.privileged != Some(true), "it is privileged"),
        (drops_all, "it does not drop all capabilities"),
        (adds_none, "it adds a capability"),
        (
            confined(own.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref())),
            "its system calls are not confined",
        ),
        (own.proc_mount.as_deref().is_none_or(|mount| mount == "Default"), "it sees more of /proc"),
        (limited("cpu"), "its processor time is not limited"),
        (limited("memory"), "its memory is not limited"),
        (!host_ports, "it takes a port of the node"),
    ];
    rules.into_iter().filter(|(kept, _)| !kept).map(|(_, says)| says).collect()
}
