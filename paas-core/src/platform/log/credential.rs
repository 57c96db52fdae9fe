//! Who may send lines in: made, told and revoked.

use super::sender::{LENGTH, PREFIX, digest};
use crate::engine::store::{LOG_CREDENTIAL, decode, log_credential_key};
use crate::model::{
    Action, Key, LogCredential, LogCredentialId, LogQuarantine, LogSender, Principal, Resource, Secret,
    ServiceName, Version, limit,
};
use crate::platform::app::known;
use crate::platform::{AppHandle, Inner, Platform};
use crate::port::Expected;
use crate::{Error, ErrorKind, Result};

impl AppHandle {
    /// Makes a credential with which log lines are sent in as those of a service, whatever they say of themselves. The token
    /// is told here and never again.
    ///
    /// # Errors
    /// `NotFound` where it has no such service; `Invalid` where the name is none, or the app has
    /// [`limit::LOG_CREDENTIALS`] already; `Denied` unless the principal may write secrets of the app.
    pub async fn create_log_credential(
        &self,
        service: &ServiceName,
        name: &str,
    ) -> Result<(LogCredential, Secret)> {
        let inner = self.inner();
        let summary = format!("make a credential for log lines of {service}");
        let principal = &self.environment.principal;
        let permit = inner.permit(principal, Action::WriteSecrets, self.resource(), summary).await?;
        let make = async {
            let mut record = self.record().await?;
            let id = known(&mut record, service)?.id.clone();
            let none = || Error::internal("a service is no service");
            let sender = LogSender::service(&record.service_resource(&id)).ok_or_else(none)?;
            inner.make_log_credential(name, sender, &self.resource()).await
        };
        permit.finish(make.await).await
    }

    /// The credentials for log lines of its services, the oldest first.
    ///
    /// # Errors
    /// `Denied` unless the principal may see the app.
    pub async fn log_credentials(&self) -> Result<Vec<LogCredential>> {
        let inner = self.inner();
        inner.allow(&self.environment.principal, Action::Read, self.resource()).await?;
        inner.log_credentials(&self.resource()).await
    }

    /// Revokes a credential for log lines: within seconds nothing is taken in with it any more. Idempotent.
    ///
    /// # Errors
    /// `Denied` unless the principal may write secrets of the app.
    pub async fn revoke_log_credential(&self, id: &LogCredentialId) -> Result<()> {
        let inner = self.inner();
        let summary = format!("revoke the credential {id} for log lines");
        let principal = &self.environment.principal;
        let permit = inner.permit(principal, Action::WriteSecrets, self.resource(), summary).await?;
        permit.finish(inner.revoke_log_credential(id, &self.resource()).await).await
    }
}

impl Platform {
    /// Makes a credential for a collector, which sends lines of instances all over the platform. The token is told here and
    /// never again.
    ///
    /// # Errors
    /// `Invalid` where the name is none, or there are [`limit::LOG_CREDENTIALS`] already; `Denied` unless the principal may
    /// write secrets of the whole platform.
    pub async fn create_log_collector(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<(LogCredential, Secret)> {
        let summary = "make a credential for a collector of log lines".to_owned();
        let permit = self.0.permit(principal, Action::WriteSecrets, Resource::Platform, summary).await?;
        let made = self.0.make_log_credential(name, LogSender::Collector, &Resource::Platform).await;
        permit.finish(made).await
    }

    /// The credentials of collectors, the oldest first.
    ///
    /// # Errors
    /// `Denied` unless the principal may read the whole platform.
    pub async fn log_collectors(&self, principal: &Principal) -> Result<Vec<LogCredential>> {
        self.0.allow(principal, Action::Read, Resource::Platform).await?;
        self.0.log_credentials(&Resource::Platform).await
    }

    /// Revokes the credential of a collector: within seconds nothing is taken in with it any more. Idempotent.
    ///
    /// # Errors
    /// `Denied` unless the principal may write secrets of the whole platform.
    pub async fn revoke_log_collector(&self, principal: &Principal, id: &LogCredentialId) -> Result<()> {
        let summary = format!("revoke the credential {id} of a collector of log lines");
        let permit = self.0.permit(principal, Action::WriteSecrets, Resource::Platform, summary).await?;
        permit.finish(self.0.revoke_log_credential(id, &Resource::Platform).await).await
    }

    /// What collectors sent to this replica since it was started, and what went nowhere.
    ///
    /// # Errors
    /// `Denied` unless the principal may read the whole platform; `Unsupported` without a log pipeline.
    pub async fn log_quarantine(&self, principal: &Principal) -> Result<Vec<LogQuarantine>> {
        let scope = self.0.allow(principal, Action::Read, Resource::Platform).await?;
        let pipeline = self.0.log_pipeline.as_ref().ok_or_else(|| Error::unsupported("log_quarantine"))?;
        pipeline.quarantine(&scope).await
    }
}

/// Whether a credential belongs to an app, or to the platform itself.
fn belongs(credential: &LogCredential, owner: &Resource) -> bool {
    match (&credential.sender, owner) {
        (LogSender::Collector, Resource::Platform) => true,
        (LogSender::Collector, _) | (_, Resource::Platform) => false,
        (sender, owner) => owner.contains(&sender.resource()),
    }
}

impl Inner {
    /// The records of an app, or of the platform's collectors.
    async fn kept_log_credentials(&self, owner: &Resource) -> Result<Vec<(Key, Version, LogCredential)>> {
        let mut own = Vec::new();
        for record in self.state().list(&self.store.scope, LOG_CREDENTIAL, None).await? {
            let credential: LogCredential = decode(&record)?;
            if belongs(&credential, owner) {
                own.push((record.key, record.version, credential));
            }
        }
        own.sort_by(|(.., a), (.., b)| a.id.cmp(&b.id));
        Ok(own)
    }

    async fn log_credentials(&self, owner: &Resource) -> Result<Vec<LogCredential>> {
        let kept = self.kept_log_credentials(owner).await?;
        Ok(kept.into_iter().map(|(.., credential)| credential).collect())
    }

    async fn make_log_credential(
        &self,
        name: &str,
        sender: LogSender,
        owner: &Resource,
    ) -> Result<(LogCredential, Secret)> {
        let id = LogCredentialId::generate(&self.ids);
        let credential = LogCredential::new(id, name, sender, self.clock.now())?;
        if self.kept_log_credentials(owner).await?.len() >= limit::LOG_CREDENTIALS {
            let text = "too many credentials for log lines; revoke those that nobody uses";
            return Err(Error::invalid(text).with("most", limit::LOG_CREDENTIALS));
        }
        let token = token()?;
        let digest = digest(&token).ok_or_else(|| Error::internal("a token is none"))?;
        self.store.put(&log_credential_key(&digest)?, &credential, Expected::Absent).await?;
        Ok((credential, token))
    }

    async fn revoke_log_credential(&self, id: &LogCredentialId, owner: &Resource) -> Result<()> {
        for (key, version, credential) in self.kept_log_credentials(owner).await? {
            if credential.id == *id {
                self.store.delete_version(&key, version).await?;
            }
        }
        self.log_directory.senders.forget();
        Ok(())
    }
}

/// 256 bits that nobody can guess.
fn token() -> Result<Secret> {
    let mut random = zeroize::Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *random).map_err(|cause| {
        Error::new(ErrorKind::Unavailable, "the system gives no random bytes").with_source(cause)
    })?;
    let mut text = zeroize::Zeroizing::new(Vec::with_capacity(LENGTH));
    text.extend_from_slice(PREFIX.as_bytes());
    for byte in *random {
        text.extend([byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
    }
    Secret::new(text.to_vec())
}
