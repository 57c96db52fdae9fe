//! Group commit: many callers hand in work, one thread does all that waits at once, and one sync serves them all.

use std::thread::JoinHandle;

use paas_core::{Error, Result};
use tokio::sync::{mpsc, oneshot};

/// Work that may wait; more makes its callers wait.
const QUEUE: usize = 1_024;
/// Most work done in one batch.
const BATCH: usize = 512;

/// A thread that works in batches. Dropping it finishes what was handed in and waits for that, so whoever opens the
/// same files next finds them free.
#[derive(Debug)]
pub(crate) struct Batcher<T> {
    queue: Option<mpsc::Sender<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Batcher<T> {
    /// Starts the thread; `work` must empty the batch.
    pub(crate) fn start(name: &str, mut work: impl FnMut(&mut Vec<T>) + Send + 'static) -> Result<Self> {
        let (queue, mut waiting) = mpsc::channel(QUEUE);
        let run = move || {
            let mut batch = Vec::new();
            while waiting.blocking_recv_many(&mut batch, BATCH) > 0 {
                work(&mut batch);
                batch.clear();
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|cause| {
            Error::unavailable("no thread for a store").with("thread", name).with_source(cause)
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Hands in work and waits for its answer. A caller that stops waiting does not stop the work.
    pub(crate) async fn run<A>(&self, work: impl FnOnce(Answer<A>) -> T) -> Result<A> {
        let stopped = || Error::internal("the thread of the store has stopped: open the store again");
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.send(work(Answer(answer))).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// Whether the thread still works.
    pub(crate) fn alive(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| !queue.is_closed())
    }
}

impl<T> Drop for Batcher<T> {
    fn drop(&mut self) {
        self.queue.take();
        if let Some(thread) = self.thread.take() {
            // A panic was reported by the thread itself.
            let _ = thread.join();
        }
    }
}

/// Where the answer to one piece of work goes.
#[derive(Debug)]
pub(crate) struct Answer<A>(oneshot::Sender<Result<A>>);

impl<A> Answer<A> {
    /// Answers; nobody may be waiting any more.
    pub(crate) fn send(self, answer: Result<A>) {
        let _ = self.0.send(answer);
    }
}
