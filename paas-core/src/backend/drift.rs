//! Tells watchers what is not as it should be: whoever is slow, or comes later, misses nothing that still is so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;

/// What is not as it should be. Its size is that of what is noted and not settled; its streams end when it is dropped.
#[derive(Debug)]
pub struct Drift<T> {
    noted: Arc<Mutex<Noted<T>>>,
    news: watch::Sender<()>,
}

/// Each with the number of the note that it was noted by last.
#[derive(Debug)]
struct Noted<T> {
    last: u64,
    items: BTreeMap<T, u64>,
}

impl<T> Default for Drift<T> {
    fn default() -> Self {
        let noted = Noted { last: 0, items: BTreeMap::new() };
        Self { noted: Arc::new(Mutex::new(noted)), news: watch::Sender::new(()) }
    }
}

fn lock<T>(noted: &Mutex<T>) -> MutexGuard<'_, T> {
    noted.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Clone + Ord + Send + 'static> Drift<T> {
    /// Says that something is not as it should be, or is so in another way than before.
    pub fn note(&self, item: T) {
        {
            let mut noted = lock(&self.noted);
            noted.last += 1;
            let number = noted.last;
            noted.items.insert(item, number);
        }
        self.news.send_replace(());
    }

    /// Says that it is as it should be again.
    pub fn settle(&self, item: &T) {
        lock(&self.noted).items.remove(item);
    }

    /// What is noted now and not settled by the time it is read, in the order of the notes, then what is noted from now
    /// on. What is noted twice before it is read is told once.
    #[must_use]
    pub fn watch(&self) -> BoxStream<'static, T> {
        let begin = (Arc::clone(&self.noted), self.news.subscribe(), 0);
        stream::unfold(begin, |(noted, mut news, told)| async move {
            loop {
                let next = lock(&noted).after(told);
                if let Some((item, number)) = next {
                    return Some((item, (noted, news, number)));
                }
                news.changed().await.ok()?;
            }
        })
        .boxed()
    }
}

impl<T: Clone> Noted<T> {
    /// What was noted first after this number.
    fn after(&self, told: u64) -> Option<(T, u64)> {
        let later = self.items.iter().filter(|(_, number)| **number > told);
        later.min_by_key(|(_, number)| **number).map(|(item, number)| (item.clone(), *number))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_is_so_already_is_told_first_and_each_note_once() {
        let drift = Drift::default();
        drift.note("a");
        drift.note("b");
        drift.settle(&"a");
        let mut watch = drift.watch();
        assert_eq!(watch.next().await, Some("b"));
        assert_eq!(watch.next().now_or_never(), None);
        (0..3).for_each(|_| drift.note("b"));
        drift.note("a");
        assert_eq!((watch.next().await, watch.next().await), (Some("b"), Some("a")));
        assert_eq!(watch.next().now_or_never(), None);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_and_the_stream_ends_with_what_it_is_of() {
        let drift = Drift::default();
        let mut watch = drift.watch();
        let reader = tokio::spawn(async move { (watch.next().await, watch.next().await) });
        tokio::task::yield_now().await;
        drift.note(1);
        tokio::task::yield_now().await;
        drop(drift);
        assert_eq!(reader.await.unwrap(), (Some(1), None));
    }
}
