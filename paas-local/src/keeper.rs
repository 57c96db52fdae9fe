//! The keeper: the small supervisor that holds processes, their output and listening sockets while the platform is away.
//!
//! It is a role of the company's own binary ([`run_if_asked`]), started by [`Keeper::open`], one per data directory.
//! It has no async runtime and one thread. What it promises:
//!
//! - a process is started at most once per (id, generation), and its intent is on disk before it starts;
//! - what crashes is started again with exponential back-off, whether or not anybody is connected;
//! - output is drained into a bounded [spool](SpoolItem) in memory, which followers read by descriptor. When it is full
//!   the oldest output is dropped and followers see a counted [`SpoolItem::Gap`];
//! - `kill -9` of the platform costs nothing; `kill -9` of the keeper costs no process and no line of a process that is
//!   still running. A new keeper finds them by their marks and goes on.
//!
//! What dies while there is no keeper at all (at most a second while a platform is connected) loses its exit code
//! ([`Exit::Unknown`]) and what stood unread in its pipe.

mod client;
mod connection;
mod entry;
mod follow;
mod frame;
mod intent;
mod journal;
mod kin;
mod link;
mod model;
mod process;
mod record;
mod role;
mod server;
mod settle;
mod socket;
mod spool;
mod table;
mod wire;

pub use client::{Keeper, KeeperOptions};
pub(crate) use kin::signal_group;
pub use model::{
    Backoff, Ended, Exit, KEEPER_MARK, KeeperEvent, PROCESS_MARK, Phase, ProcessSpec, ProcessState, Restart,
};
pub(crate) use record::LIFE_SHIFT;
pub use record::{RecordKind, SpoolItem, SpoolOffset, SpoolRecord, Started};
pub use role::{ROLE_ENV, run_if_asked};
