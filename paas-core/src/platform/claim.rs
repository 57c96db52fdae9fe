//! What a deploy claims before there is a record: the app's name, and its domains.

use std::collections::BTreeSet;

use super::EnvironmentHandle;
use crate::engine::record::Desired;
use crate::engine::store::{DomainClaim, Renewal, app_name_key, domain_key};
use crate::model::{AppId, Key, Revision, Version};
use crate::{Error, ErrorKind, Result};

impl EnvironmentHandle {
    /// The id behind the app's name.
    pub(super) async fn claim_app(&self, revision: &Revision) -> Result<AppId> {
        let store = &self.inner().store;
        let key = app_name_key(&self.tenant.id, &self.environment.id, &revision.spec.app)?;
        store.claim(&key, AppId::generate(&self.inner().ids)).await
    }

    /// Claims the domains that a revision names, and notes the claims that nobody had made before.
    pub(super) async fn claim_domains(
        &self,
        app: &AppId,
        revision: &Revision,
        made: &mut Vec<(Key, Version)>,
    ) -> Result<()> {
        let wanted = DomainClaim { tenant: self.tenant.id.clone(), app: app.clone() };
        for domain in revision.spec.services.values().flat_map(|service| &service.domain) {
            let key = domain_key(domain)?;
            // The claim may be an old one, about to be collected.
            match self.inner().store.renew(&key, &wanted).await? {
                Renewal::Made(version) => made.push((key, version)),
                Renewal::Renewed => {}
                Renewal::Taken => {
                    return Err(Error::conflict("the domain belongs to another app").with("domain", domain));
                }
            }
        }
        Ok(())
    }

    /// Takes back claims that were made for a deploy that was refused. One that another deploy of the app has renewed since
    /// has another version, and stays; so does what the record names, should the answer of a write have been lost.
    pub(super) async fn give_back(&self, app: &AppId, made: Vec<(Key, Version)>) -> Result<()> {
        if made.is_empty() {
            return Ok(());
        }
        let store = &self.inner().store;
        let record = store.app(&self.tenant.id, app).await?.map(|stored| stored.value);
        let kept = record.filter(|record| record.desired != Desired::Removed);
        let named = kept.iter().flat_map(|record| &record.revisions).flat_map(|known| &known.domains);
        let named = named.map(domain_key).collect::<Result<BTreeSet<Key>>>()?;
        for (key, version) in made.into_iter().filter(|(key, _)| !named.contains(key)) {
            store.delete_unchanged(&key, version).await?;
        }
        Ok(())
    }

    /// Gives up what an app claims that is no more.
    pub(super) async fn release_domains(&self, app: &AppId, revision: &Revision) -> Result<()> {
        for domain in revision.spec.services.values().flat_map(|service| &service.domain) {
            let own = |claim: &DomainClaim| claim.app == *app;
            match self.inner().store.delete_where(&domain_key(domain)?, own).await {
                // Another that is as late has claimed it once more, and gives it up itself.
                Err(error) if error.kind() != ErrorKind::Conflict => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
