//! Whose the lines of a request are: as the platform knows it, whatever they say.

use std::collections::BTreeMap;

use paas_core::Result;
use paas_core::model::{
    InstanceId, LogCredential, LogOrigin, LogQuarantineReason, LogSender, LogStream, RevisionNumber,
};

use super::Intake;
use super::answer::Refusal;
use super::claims::Claims;
use super::draft::Draft;
use super::sorted::Sorted;

/// Lines of outputs, and those that nobody could be found for.
type Attributed = (Vec<(LogOrigin, Draft)>, Vec<(Claims, LogQuarantineReason, Draft)>);

impl Intake {
    /// Whether whoever sends with it sends lines of instances all over the platform.
    pub(super) fn is_collector(&self, credential: &LogCredential) -> bool {
        matches!(credential.sender, LogSender::Collector)
    }

    /// Finds out whose the records of a request are.
    pub(super) async fn attribute(
        &self,
        credential: &LogCredential,
        sorted: Sorted,
    ) -> Result<Attributed, Refusal> {
        let (mut drafts, mut quarantined) = (BTreeMap::<LogOrigin, Draft>::new(), Vec::new());
        for (claims, stream, draft) in sorted.into_groups() {
            let found = match &credential.sender {
                LogSender::Service(..) => own(credential, stream.unwrap_or(LogStream::Stdout)),
                LogSender::Collector => self.claimed(&claims, stream.unwrap_or(LogStream::Combined)).await,
                // A kind that a later version knows may send nothing here.
                _ => Ok(Err(LogQuarantineReason::Unknown)),
            };
            let found = found.map_err(|error| {
                tracing::warn!(?error, "nobody can tell whose lines are that were sent");
                let pause = error.retry_after().unwrap_or(std::time::Duration::from_secs(1));
                Refusal::busy("instances cannot be looked up now", pause)
            })?;
            match found {
                Ok(origin) => drafts.entry(origin).or_default().append(draft),
                Err(reason) => quarantined.push((claims, reason, draft)),
            }
        }
        Ok((drafts.into_iter().collect(), quarantined))
    }

    /// The output of the one instance that is claimed.
    async fn claimed(
        &self,
        claims: &Claims,
        stream: LogStream,
    ) -> Result<Result<LogOrigin, LogQuarantineReason>> {
        let (mut found, mut is_nameless): (Option<LogOrigin>, _) = (None, true);
        for name in claims.instances() {
            is_nameless = false;
            let Some(origin) = self.commit.ports.directory.instance(name).await? else { continue };
            if found.as_ref().is_some_and(|known| *known != origin) {
                return Ok(Err(LogQuarantineReason::Contradictory));
            }
            found = Some(origin);
        }
        Ok(match found {
            Some(_) if self.reads_instances => Err(LogQuarantineReason::CollectedAlready),
            Some(mut origin) => {
                origin.stream = stream;
                Ok(origin)
            }
            None if is_nameless => Err(LogQuarantineReason::Nameless),
            None => Err(LogQuarantineReason::Unknown),
        })
    }
}

/// What a service sends is an output of its own, beside those of its instances.
fn own(credential: &LogCredential, stream: LogStream) -> Result<Result<LogOrigin, LogQuarantineReason>> {
    let instance = InstanceId::new(credential.id.as_str())?;
    let origin = LogOrigin::new(&credential.sender.resource(), RevisionNumber(0), instance, stream);
    Ok(origin.ok_or(LogQuarantineReason::Unknown))
}
