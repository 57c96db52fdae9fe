//! The edge as a whole, over real sockets.

mod control;
mod drain;
mod header;
mod kit;
mod lease;
mod process;
mod property;
mod proxy;
mod retry;
mod sticky;
mod stream;
