//! The edge as a whole, over real sockets.

mod control;
mod drain;
mod header;
mod kit;
mod property;
mod proxy;
mod retry;
mod sticky;
mod stream;
