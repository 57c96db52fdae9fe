//! Asks for the output of a container.

use std::time::Duration;

use futures_util::io::AsyncBufRead;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::LogParams;
use paas_core::{Error, Result};
use tokio::time::timeout;

use crate::Connection;
use crate::error::failed;
use crate::scheduler::Writer;

/// How long the answer may take to begin.
const ANSWER: Duration = Duration::from_secs(30);

/// Which container's output, of those that ran one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The one that runs, or ran last.
    Newest,
    /// The one before it, which has ended.
    Previous,
}

/// The output from this second since 1970 on, each line after its stamp; `None` where there is none, or none yet.
pub(super) async fn open(
    connection: &Connection,
    writer: &Writer,
    which: Which,
    since: Option<u64>,
    follow: bool,
) -> Result<Option<impl AsyncBufRead + Unpin + Send + use<>>> {
    let params = LogParams {
        container: Some(writer.container.to_owned()),
        follow,
        previous: which == Which::Previous,
        since_time: since.and_then(|second| Timestamp::from_second(i64::try_from(second).ok()?).ok()),
        timestamps: true,
        ..LogParams::default()
    };
    let pods = connection.within::<Pod>(&writer.namespace);
    let late = |_| Error::unavailable("the API server gives no output in time").with("pod", &writer.pod);
    match timeout(ANSWER, pods.log_stream(&writer.pod, &params)).await.map_err(late)? {
        Ok(stream) => Ok(Some(Box::pin(stream))),
        // No such pod, or no such container: it waits to be started, or has never been restarted.
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404) => Ok(None),
        Err(cause) => Err(failed(cause, "read output").with("pod", &writer.pod)),
    }
}
