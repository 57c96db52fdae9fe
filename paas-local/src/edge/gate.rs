//! `Expect: 100-continue`, end to end: a body that waits for the instance's word.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use hyper::{Request, StatusCode};
use tokio::time::{Sleep, sleep};

/// How long an instance that ignores the expectation holds the body back.
const PATIENCE: Duration = Duration::from_secs(1);

const WAITING: u8 = 0;
const OPEN: u8 = 1;
const SHUT: u8 = 2;

#[derive(Debug, Default)]
struct Word {
    state: AtomicU8,
    waker: AtomicWaker,
}

impl Word {
    fn say(&self, state: u8) {
        let _ = self.state.compare_exchange(WAITING, state, Ordering::AcqRel, Ordering::Acquire);
        self.waker.wake();
    }
}

/// Holds a body back until the instance asks for it.
#[derive(Debug)]
pub(crate) struct Gate {
    word: Arc<Word>,
    patience: Option<Pin<Box<Sleep>>>,
}

/// Shuts the gate when the final answer came first.
#[derive(Debug)]
pub(crate) struct Latch(Arc<Word>);

impl Gate {
    pub(crate) fn new() -> (Self, Latch) {
        let word = Arc::<Word>::default();
        (Self { word: word.clone(), patience: None }, Latch(word))
    }

    /// Ready with whether the body may go.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.word.waker.register(cx.waker());
        match self.word.state.load(Ordering::Acquire) {
            WAITING => {
                let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
                patience.as_mut().poll(cx).map(|()| true)
            }
            state => Poll::Ready(state == OPEN),
        }
    }
}

impl Latch {
    /// Opens the gate when the request is answered with a 100.
    pub(crate) fn watch<B>(&self, request: &mut Request<B>) {
        let word = self.0.clone();
        hyper::ext::on_informational(request, move |interim| {
            if interim.status() == StatusCode::CONTINUE {
                word.say(OPEN);
            }
        });
    }

    pub(crate) fn shut(&self) {
        self.0.say(SHUT);
    }
}
