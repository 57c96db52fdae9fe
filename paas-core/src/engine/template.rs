//! From a service's spec to what its instances are.

use std::collections::BTreeMap;

use super::record::{AppRecord, Build, ServiceState};
use crate::model::app::need_variables;
use crate::model::service::Kind;
use crate::model::{Mount, Restart, Revision, RevisionNumber, SecretRef, ServiceName, ServiceSpec, Template};

/// The revisions that an app's record points at.
pub(crate) type Revisions = BTreeMap<RevisionNumber, std::sync::Arc<Revision>>;

/// The spec of a service in a revision.
pub(crate) fn spec<'a>(
    revisions: &'a Revisions,
    build: Build,
    service: &ServiceName,
) -> Option<&'a ServiceSpec> {
    revisions.get(&build.revision)?.spec.services.get(service)
}

/// What an instance of this build is; `None` while the address of something it needs is not known, or where the
/// revision has no such service.
pub(crate) fn template(
    app: &AppRecord,
    revisions: &Revisions,
    name: &ServiceName,
    build: Build,
) -> Option<Template> {
    let revision = revisions.get(&build.revision)?;
    let spec = revision.spec.services.get(name)?;
    let mut template = Template::new(spec.sources());
    template.env = spec.env.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect();
    for need in &spec.needs {
        let needed = revision.spec.services.get(need)?;
        if needed.port.is_none() {
            continue;
        }
        let address = app.services.get(need)?.address.as_ref()?;
        let values = [address.host.clone(), address.port.to_string(), address.url()];
        template.env.extend(need_variables(need).into_iter().zip(values));
    }
    template.env.extend([
        ("PAAS_APP".to_owned(), app.name.to_string()),
        ("PAAS_SERVICE".to_owned(), name.to_string()),
        ("PAAS_ENVIRONMENT".to_owned(), app.environment_name.to_string()),
    ]);
    for secret in &spec.secrets {
        let version = *revision.secrets.get(secret)?;
        template.secrets.push(SecretRef { name: secret.clone(), version });
    }
    template.port = spec.port;
    template.protocol = spec.protocol;
    template.ready = spec.ready.clone();
    template.live = spec.live.clone();
    template.limits = spec.limits;
    let mount = |(name, volume): (&crate::model::VolumeName, &crate::model::VolumeSpec)| {
        Mount::new(name.clone(), volume.path.clone(), volume.size)
    };
    template.mounts = spec.volumes.iter().map(mount).collect();
    template.grace = spec.grace;
    template.restart = if spec.kind == Kind::Task { Restart::Never } else { Restart::Always };
    template.incarnation = build.incarnation;
    Some(template)
}

/// The task that runs before a build is released, if there is one: the service's own program where the service is a
/// task, else its `before_release` command in the service's environment, without port, probes or volumes.
pub(crate) fn task(
    app: &AppRecord,
    revisions: &Revisions,
    name: &ServiceName,
    build: Build,
) -> Option<Template> {
    let spec = spec(revisions, build, name)?;
    let mut template = template(app, revisions, name, build)?;
    if spec.kind == Kind::Service {
        template.command = Some(spec.before_release.clone()?);
    }
    template.port = None;
    template.ready = None;
    template.live = None;
    template.mounts = Vec::new();
    template.restart = Restart::Never;
    Some(template)
}

/// Whether a service that is at `current` need not change to be at `goal`.
pub(crate) fn same(
    app: &AppRecord,
    revisions: &Revisions,
    name: &ServiceName,
    current: Build,
    goal: Build,
) -> bool {
    if current == goal {
        return true;
    }
    let (Some(a), Some(b)) = (spec(revisions, current, name), spec(revisions, goal, name)) else {
        return false;
    };
    if a.domain != b.domain || a.before_release != b.before_release {
        // Domains and tasks are not part of the template, but a change of them is a change of the service.
        return false;
    }
    match (template(app, revisions, name, current), template(app, revisions, name, goal)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

impl ServiceState {
    /// The build that leads to a revision, with the restarts that people asked for.
    pub(crate) fn build(&self, revision: RevisionNumber) -> Build {
        Build { revision, incarnation: self.incarnation }
    }
}
