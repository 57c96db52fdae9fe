//! The numbers of a secret's versions: each is given once, whatever is deleted.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::PostParams;
use paas_core::{Error, ErrorKind, Result};

use super::Place;
use crate::error::failed;

/// The kind of a counter, as its label says.
const KIND: &str = "secret-counter";
/// The number that was given last.
const NEWEST: &str = "newest";
/// How often others may be faster.
const ATTEMPTS: u32 = 32;

/// Takes the next number of a secret. A number that was taken and not used is skipped.
pub(super) async fn next(counters: &Api<ConfigMap>, place: &Place) -> Result<u64> {
    let name = place.title();
    for _ in 0..ATTEMPTS {
        let found = counters.get_opt(&name).await;
        let found = found.map_err(|cause| failed(cause, "read the counter of a secret"))?;
        let next = found.as_ref().map_or(Ok(0), newest)? + 1;
        let mut counter = ConfigMap { metadata: place.meta(name.clone(), KIND), ..ConfigMap::default() };
        counter.data = Some(BTreeMap::from([(NEWEST.to_owned(), next.to_string())]));
        let written = match found {
            None => counters.create(&PostParams::default(), &counter).await,
            Some(found) => {
                counter.metadata.resource_version = found.metadata.resource_version;
                counters.replace(&name, &PostParams::default(), &counter).await
            }
        };
        match written.map_err(|cause| failed(cause, "move the counter of a secret")) {
            Ok(_) => return Ok(next),
            // Somebody took this number; or the counter is gone, and the next look tells.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::unavailable("many put this secret at once; put again"))
}

/// The number that a counter gave last.
fn newest(counter: &ConfigMap) -> Result<u64> {
    let text = counter.data.as_ref().and_then(|data| data.get(NEWEST));
    // The largest is left, so that there is always a next one.
    let number = text.and_then(|text| text.parse().ok()).filter(|number| *number < u64::MAX);
    number.ok_or_else(|| {
        Error::internal("the counter of a secret holds no number; put it right in its object")
            .with("object", counter.metadata.name.as_deref().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_holds_no_number_is_never_taken_for_a_new_one() {
        let of = |text: Option<&str>| {
            let data = text.map(|text| BTreeMap::from([(NEWEST.to_owned(), text.to_owned())]));
            newest(&ConfigMap { data, ..ConfigMap::default() })
        };
        assert_eq!(of(Some("7")).unwrap(), 7);
        for broken in [None, Some(""), Some("-1"), Some("18446744073709551615")] {
            assert_eq!(of(broken).unwrap_err().kind(), ErrorKind::Internal);
        }
    }
}
