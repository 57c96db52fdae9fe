//! Records of rules go when nobody needs them any more.

use std::time::Duration;

use super::{ALERT, Alerts, Raised, key};
use crate::Result;
use crate::engine::store::Versioned;
use crate::model::AlertKey;

/// Between two looks at all records.
const PAUSE: Duration = Duration::from_secs(60 * 60);
/// So many are looked at, and then there is a break.
const PIECE: usize = 100;
const BREAK: Duration = Duration::from_secs(10);
/// The longest cool-down is seven days; lines may come a little later than they were written.
const OVER: Duration = Duration::from_secs(8 * 24 * 60 * 60);

impl Alerts {
    pub(super) async fn sweep(&self) {
        let mut after = None;
        loop {
            after = self.sweep_some(after).await.unwrap_or_else(|error| {
                tracing::warn!(?error, "records of alerts are not looked through");
                None
            });
            tokio::time::sleep(if after.is_some() { BREAK } else { PAUSE }).await;
        }
    }

    /// Looks at the first records of which no alert waits, after the one of a rule. Gives the last of these rules, unless there
    /// are no others.
    pub(in crate::platform) async fn sweep_some(&self, after: Option<AlertKey>) -> Result<Option<AlertKey>> {
        let mut settled = self.settled().await?;
        settled.retain(|known| after.as_ref().is_none_or(|after| known.value.key > *after));
        settled.sort_by(|one, other| one.value.key.cmp(&other.value.key));
        let has_more = settled.len() > PIECE;
        settled.truncate(PIECE);
        for known in &settled {
            if self.is_over(&known.value).await? {
                self.forget(known).await?;
            }
        }
        Ok(settled.pop().filter(|_| has_more).map(|last| last.value.key))
    }

    /// Records of which no alert waits.
    pub(in crate::platform) async fn settled(&self) -> Result<Vec<Versioned<Raised>>> {
        let (mut all, _) = self.store.list_readable::<Raised>(ALERT).await?;
        all.retain(|known| known.value.waiting.is_empty());
        Ok(all)
    }

    /// Whether what is stored of a rule changes nothing any more: the next alert of it is told with and without.
    async fn is_over(&self, raised: &Raised) -> Result<bool> {
        if self.clock.now().since(raised.last.at) > OVER {
            return Ok(true);
        }
        Ok(self.store.app(&raised.key.tenant, &raised.key.app).await?.is_none())
    }

    /// Removes what is stored of a rule, unless somebody has written to it since.
    pub(in crate::platform) async fn forget(&self, known: &Versioned<Raised>) -> Result<()> {
        self.store.delete_unchanged(&key(&known.value.key)?, known.version).await
    }

    /// Removes what is stored of a rule whose app is gone.
    pub(super) async fn forget_gone(&self, of: &AlertKey) -> Result<()> {
        match self.store.get::<Raised>(&key(of)?).await? {
            Some(known) => self.forget(&known).await,
            None => Ok(()),
        }
    }
}
