//! The edge as a whole, over real sockets.

mod drain;
mod kit;
mod proxy;
