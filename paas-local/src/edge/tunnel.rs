//! Two connections joined into one: bytes both ways, each direction with an end of its own.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::clock;
use super::connection::Served;

const BUFFER: usize = 16 * 1024;

/// Copies until both directions have ended, one has failed, or neither moved for `idle`.
pub(crate) async fn join(
    left: impl AsyncRead + AsyncWrite + Unpin,
    right: impl AsyncRead + AsyncWrite + Unpin,
    idle: Duration,
) -> io::Result<()> {
    let moved = AtomicU64::new(clock::now());
    let (left_read, left_write) = tokio::io::split(left);
    let (right_read, right_write) = tokio::io::split(right);
    let both = async {
        tokio::try_join!(copy(left_read, right_write, &moved), copy(right_read, left_write, &moved)).map(drop)
    };
    let mut both = pin!(both);
    let mut left_ms = idle.as_millis() as u64;
    loop {
        match tokio::time::timeout(Duration::from_millis(left_ms), both.as_mut()).await {
            Ok(result) => return result,
            Err(_) => {
                let silent = clock::now().saturating_sub(moved.load(Ordering::Relaxed));
                left_ms = (idle.as_millis() as u64).saturating_sub(silent);
                if left_ms == 0 {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the tunnel was silent for too long",
                    ));
                }
            }
        }
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        moved.store(clock::now(), Ordering::Relaxed);
        to.write_all(&buffer[..count]).await?;
        moved.store(clock::now(), Ordering::Relaxed);
    }
}

/// A tunnel as the driver sees it: it has no requests between which it could end.
pub(crate) struct Cuttable<F>(pub(crate) Pin<Box<F>>);

impl<F: Future> Future for Cuttable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<F: Future> Served for Cuttable<F> {
    fn finish(self: Pin<&mut Self>) {}
}
