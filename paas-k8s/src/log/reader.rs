//! One reader: follows which instances there are, and merges what they write.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use paas_core::Result;
use paas_core::model::{InstanceId, LogItem, LogPosition, LogSelector, LogStream};
use paas_core::port::Hints;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Shared;
use super::instance::{Instance, View};
use crate::scheduler::{Output, Writer};

/// How many items wait for a reader that is behind; then nothing more is read.
const ITEMS: usize = 8;

/// Everything that is there now.
pub(super) fn existing(shared: &Arc<Shared>, selector: &LogSelector) -> BoxStream<'static, Result<LogItem>> {
    let (sender, items) = mpsc::channel(ITEMS);
    let mut tasks = JoinSet::new();
    for writer in shared.outputs.within(&selector.resource, selector.instance.as_ref()) {
        if writer.output == Output::None {
            continue;
        }
        let position = position(selector, &writer.origin.instance);
        let view = watch::Sender::new(View::Here(writer.output)).subscribe();
        let instance = Instance::new(Arc::clone(shared), writer, view, sender.clone(), position);
        tasks.spawn(instance.read());
    }
    received(items, tasks)
}

/// Everything, and what comes.
pub(super) fn follow(
    shared: &Arc<Shared>,
    selector: LogSelector,
    hints: Hints,
) -> BoxStream<'static, Result<LogItem>> {
    let (sender, items) = mpsc::channel(ITEMS);
    let mut tasks = JoinSet::new();
    let crowd = Crowd {
        closed: shared.closed.subscribe(),
        shared: Arc::downgrade(shared),
        selector,
        items: sender,
        views: HashMap::new(),
        tasks: JoinSet::new(),
    };
    tasks.spawn(crowd.keep(hints));
    received(items, tasks)
}

/// The tasks end with the stream.
fn received(
    items: mpsc::Receiver<Result<LogItem>>,
    tasks: JoinSet<()>,
) -> BoxStream<'static, Result<LogItem>> {
    stream::unfold((items, tasks), |(mut items, tasks)| async move {
        let item = items.recv().await?;
        Some((item, (items, tasks)))
    })
    .boxed()
}

fn position(selector: &LogSelector, instance: &InstanceId) -> Option<LogPosition> {
    let own = |(of, stream, _): &&(InstanceId, LogStream, LogPosition)| {
        of == instance && *stream == LogStream::Combined
    };
    selector.after.iter().find(own).map(|(.., position)| *position)
}

/// The instances of a reader that follows.
struct Crowd {
    /// It does not keep the source alive.
    shared: Weak<Shared>,
    closed: watch::Receiver<()>,
    selector: LogSelector,
    items: mpsc::Sender<Result<LogItem>>,
    views: HashMap<InstanceId, watch::Sender<View>>,
    tasks: JoinSet<()>,
}

impl Crowd {
    async fn keep(mut self, mut hints: Hints) {
        while self.look().is_some() {
            // Many hints are worth one look.
            tokio::select! {
                hint = hints.next() => if hint.is_none() { return },
                _ = self.closed.changed() => return,
            }
            while let Some(Some(_)) = hints.next().now_or_never() {}
            while self.tasks.try_join_next().is_some() {}
        }
    }

    /// Takes in which instances there are; `None` once the source is gone.
    fn look(&mut self) -> Option<()> {
        let shared = self.shared.upgrade()?;
        let mut writers: HashMap<InstanceId, Writer> = shared
            .outputs
            .within(&self.selector.resource, self.selector.instance.as_ref())
            .into_iter()
            .map(|writer| (writer.origin.instance.clone(), writer))
            .collect();
        self.views.retain(|instance, view| {
            let Some(writer) = writers.remove(instance) else {
                view.send_replace(View::Gone);
                return false;
            };
            view.send_if_modified(|known| {
                let new = View::Here(writer.output);
                std::mem::replace(known, new.clone()) != new
            });
            true
        });
        for (instance, writer) in writers {
            // Until something runs, what it will be is not sure.
            if writer.output != Output::None {
                self.begin(&shared, instance, writer);
            }
        }
        Some(())
    }

    fn begin(&mut self, shared: &Arc<Shared>, instance: InstanceId, writer: Writer) {
        let view = watch::Sender::new(View::Here(writer.output));
        let position = position(&self.selector, &instance);
        let items = self.items.clone();
        let own = Instance::new(Arc::clone(shared), writer, view.subscribe(), items, position);
        self.views.insert(instance, view);
        self.tasks.spawn(own.follow());
    }
}
