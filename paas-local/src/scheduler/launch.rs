//! From a template to a process.

use std::collections::BTreeMap;
use std::path::Path;

use paas_core::model::{Command, InstanceId, Restart, Scope, Source, Template, Volume, Workload};
use paas_core::{Error, Result};

use super::instance::Note;
use super::{Inner, unsupported};
use crate::keeper::{ProcessSpec, Restart as Again};

/// Everything that the instances of a workload have in common.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    command: Command,
    template: Template,
    secrets: BTreeMap<String, String>,
}

/// Variables that programs expect and that say nothing about the platform.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"];

impl Launch {
    /// Finds what to run and reads its secrets.
    pub(super) async fn resolve(inner: &Inner, scope: &Scope, workload: &Workload) -> Result<Self> {
        let template = &workload.template;
        let program = template.sources.iter().find_map(|source| match source {
            Source::Run(command) => Some(command),
            _ => None,
        });
        let program = program.ok_or_else(|| unsupported(workload))?;
        let command = template.command.as_ref().unwrap_or(program).clone();
        let mut secrets = BTreeMap::new();
        // Nothing is started where nothing is wanted.
        let wanted = if workload.replicas == Some(0) { &[][..] } else { &template.secrets[..] };
        for secret in wanted {
            let tenant = &workload.key.tenant;
            let value = inner.secrets.get(scope, tenant, &secret.name, secret.version).await?;
            let text = std::str::from_utf8(value.expose()).map_err(|_| {
                Error::invalid("a program's environment holds text only; the secret is not UTF-8")
                    .with("secret", &secret.name)
            })?;
            secrets.insert(secret.name.to_string(), text.to_owned());
        }
        Ok(Self { command, template: template.clone(), secrets })
    }

    /// The environment of one instance, without secrets.
    fn env(&self, inner: &Inner, note: &Note, id: &InstanceId) -> Result<BTreeMap<String, String>> {
        let inherited =
            INHERITED.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
        let mut env: BTreeMap<String, String> = inherited.collect();
        env.extend(self.template.env.clone());
        if let Some(port) = note.port {
            env.insert("PORT".to_owned(), port.to_string());
        }
        for mount in &self.template.mounts {
            let (tenant, environment) = (note.key.tenant.clone(), note.key.environment.clone());
            let (service, name) = (note.key.service.clone(), mount.name.clone());
            let volume = Volume::new(tenant, environment, service, name, note.ordinal, mount.size)?;
            let path = inner.volumes.path(&volume.tenant, &volume.id);
            let name = mount.name.as_str().to_ascii_uppercase().replace('-', "_");
            env.insert(format!("VOLUME_{name}"), path.display().to_string());
        }
        env.insert("PAAS_INSTANCE_ID".to_owned(), id.to_string());
        Ok(env)
    }

    /// The process of one instance.
    pub(super) fn spec(
        &self,
        inner: &Inner,
        note: &Note,
        id: &InstanceId,
        generation: u64,
    ) -> Result<ProcessSpec> {
        let env = self.env(inner, note, id)?;
        let mut known = env.clone();
        known.extend(self.secrets.clone());
        let arguments = self.command.expand(&known)?;
        let words = serde_json::to_string(note)
            .map_err(|cause| Error::internal("an instance's note cannot be written").with_source(cause))?;
        let restart = match note.restart {
            Restart::Always => Again::Always,
            Restart::Never => Again::Never,
        };
        let mut spec = ProcessSpec::new(id.as_str(), arguments, inner.work_dir(id))
            .generation(generation)
            .restart(restart)
            .grace(note.grace())
            .note(words);
        spec.env = env;
        spec.secrets.clone_from(&self.secrets);
        Ok(spec)
    }

    /// The environment of one instance, whole.
    fn whole_env(&self, inner: &Inner, note: &Note, id: &InstanceId) -> Result<BTreeMap<String, String>> {
        let mut env = self.env(inner, note, id)?;
        env.extend(self.secrets.clone());
        Ok(env)
    }

    /// What runs a command beside an instance, in its environment, with its arguments as they are.
    pub(super) fn exec(
        &self,
        inner: &Inner,
        note: &Note,
        id: &InstanceId,
        command: &Command,
    ) -> Result<tokio::process::Command> {
        let env = self.whole_env(inner, note, id)?;
        Ok(inner.beside(id, command.arguments(), env))
    }

    /// What runs a command beside an instance, in its environment.
    pub(super) fn beside(
        &self,
        inner: &Inner,
        note: &Note,
        id: &InstanceId,
        command: &Command,
    ) -> Result<tokio::process::Command> {
        let env = self.whole_env(inner, note, id)?;
        let arguments = command.expand(&env)?;
        Ok(inner.beside(id, &arguments, env))
    }

    pub(super) fn template(&self) -> &Template {
        &self.template
    }
}

impl Inner {
    pub(super) fn work_dir(&self, id: &InstanceId) -> std::path::PathBuf {
        Path::new(&self.work).join(id.as_str())
    }

    /// Nothing of the platform's own environment gets there.
    fn beside(
        &self,
        id: &InstanceId,
        arguments: &[String],
        env: BTreeMap<String, String>,
    ) -> tokio::process::Command {
        let mut beside = tokio::process::Command::new(&arguments[0]);
        beside.args(&arguments[1..]).env_clear().envs(env).current_dir(self.work_dir(id));
        beside
    }
}
