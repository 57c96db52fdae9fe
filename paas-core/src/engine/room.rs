//! Tenants' room that somebody else has changed, and how a leader has it put back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, FuturesUnordered, SelectAll, StreamExt};
use tokio::time::Instant;

use super::queue::{Item, Queue};
use super::store::{ENVIRONMENT, Store, tenant_key};
use crate::Result;
use crate::model::{Environment, EnvironmentId, Epoch, Resource, Scope, Tenant, TenantId};
use crate::port::Tenancy;

/// How soon after it was last put back a room is put back again: whoever keeps changing it is answered within a second,
/// and is no load.
const PAUSE: Duration = Duration::from_millis(500);

/// A room of a tenant: the backend that has it, by its place, and the environment unless it is all of them.
pub(super) type Room = (usize, Option<EnvironmentId>);

/// What was put back.
type Repair = Result<Option<Resource>>;

/// What is heard of rooms.
pub(super) enum Word {
    /// One of this backend is not as it was applied.
    Changed(usize, Resource),
    /// The backend tells nothing any more.
    Deaf(usize),
}

/// The rooms that are not as they were applied, in one term. What is unchanged is neither told nor asked for.
pub(super) struct Rooms {
    tenancies: Vec<Arc<dyn Tenancy>>,
    store: Store,
    scope: Scope,
    epoch: Epoch,
    queue: Queue<Room>,
    /// When each was put back last, for as long as that counts.
    mended: BTreeMap<Item<Room>, Instant>,
    pub(super) words: SelectAll<BoxStream<'static, Word>>,
    pub(super) repairs: FuturesUnordered<BoxFuture<'static, (Item<Room>, Repair)>>,
    /// The backends that are not heard.
    deaf: Vec<usize>,
}

impl Rooms {
    pub(super) fn new(tenancies: Vec<Arc<dyn Tenancy>>, store: Store, scope: Scope, epoch: Epoch) -> Self {
        Self {
            deaf: (0..tenancies.len()).collect(),
            tenancies,
            store,
            scope,
            epoch,
            queue: Queue::default(),
            mended: BTreeMap::new(),
            words: SelectAll::new(),
            repairs: FuturesUnordered::new(),
        }
    }

    /// Listens to every backend that is not heard, beside whatever else goes on: one that takes its time must not keep the
    /// leader from leading, and one that cannot be heard is tried again the next time.
    pub(super) fn listen(&mut self) {
        for place in std::mem::take(&mut self.deaf) {
            let (tenancy, scope) = (Arc::clone(&self.tenancies[place]), self.scope.clone());
            let opened = stream::once(async move { tenancy.watch(&scope).await });
            let words = opened.flat_map(move |opened| match opened {
                Ok(changed) => changed.map(move |resource| Word::Changed(place, resource)).boxed(),
                Err(error) => {
                    tracing::warn!(?error, "cannot watch the room of tenants");
                    stream::empty().boxed()
                }
            });
            let ended = stream::once(std::future::ready(Word::Deaf(place)));
            self.words.push(words.chain(ended).boxed());
        }
    }

    pub(super) fn hear(&mut self, word: Word) {
        match word {
            Word::Changed(place, Resource::Tenant(tenant)) => self.put((tenant, (place, None))),
            Word::Changed(place, Resource::Environment(tenant, environment)) => {
                self.put((tenant, (place, Some(environment))));
            }
            Word::Changed(_, other) => tracing::warn!(%other, "a backend tells of room that is no tenant's"),
            Word::Deaf(place) => self.deaf.push(place),
        }
    }

    fn put(&mut self, item: Item<Room>) {
        let now = Instant::now();
        self.mended.retain(|_, at| *at + PAUSE > now);
        match self.mended.get(&item) {
            Some(at) => self.queue.put_at(item, *at + PAUSE),
            None => self.queue.put_anew(item),
        }
    }

    /// When the next one becomes due by itself.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.next_due()
    }

    pub(super) fn fill(&mut self, concurrency: usize) {
        while self.repairs.len() < concurrency {
            let Some(item) = self.queue.take(Instant::now()) else { break };
            let tenancy = Arc::clone(&self.tenancies[item.1.0]);
            let (store, epoch) = (self.store.clone(), self.epoch);
            self.repairs.push(Box::pin(async move {
                let outcome = repair(&*tenancy, &store, epoch, &item.0, item.1.1.as_ref()).await;
                (item, outcome)
            }));
        }
    }

    /// Takes in how a repair has ended, and gives what was put back.
    pub(super) fn finish(&mut self, item: &Item<Room>, outcome: Repair) -> Option<Resource> {
        match outcome {
            Ok(mended) => {
                self.mended.insert(item.clone(), Instant::now());
                self.queue.done(item);
                mended
            }
            Err(error) => {
                tracing::warn!(tenant = %item.0, ?error, "a tenant's room cannot be put back yet");
                self.queue.failed(item, error.retry_after(), Instant::now());
                None
            }
        }
    }
}

/// Applies a tenant's room again, and gives what that is. A tenant or an environment without a record has none.
async fn repair(
    tenancy: &dyn Tenancy,
    store: &Store,
    epoch: Epoch,
    id: &TenantId,
    environment: Option<&EnvironmentId>,
) -> Repair {
    let Some(tenant) = store.get::<Tenant>(&tenant_key(id)?).await? else { return Ok(None) };
    let mut environments: Vec<Environment> = store.list(ENVIRONMENT, Some(id.clone())).await?;
    environments.retain(|own| environment.is_none_or(|told| *told == own.id));
    if environment.is_some() && environments.is_empty() {
        return Ok(None);
    }
    let scope = Scope::engine(Resource::Tenant(id.clone()), epoch);
    tenancy.apply(&scope, &tenant.value, &environments).await?;
    tracing::info!(tenant = %id, ?environment, "a tenant's room was put back");
    Ok(Some(match environment {
        Some(environment) => Resource::Environment(id.clone(), environment.clone()),
        None => Resource::Tenant(id.clone()),
    }))
}
