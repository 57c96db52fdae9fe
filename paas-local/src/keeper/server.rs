//! The keeper's loop: one thread, woken only when there is something to do.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use paas_core::ErrorKind;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::pipe::PipeFlags;

use super::connection::{Bell, Connection};
use super::entry::{Asker, Effect, Token};
use super::frame::Frame;
use super::record::RecordKind;
use super::socket::Sockets;
use super::table::Table;
use super::wire::{Answer, Ask, Note, PROTOCOL, Refusal, Request};

const MAX_CONNECTIONS: usize = 64;

/// Everything the loop needs.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) table: Table,
    pub(crate) sockets: Sockets,
    pub(crate) socket: OwnedFd,
    /// Readable after SIGCHLD.
    pub(crate) child_ended: OwnedFd,
    /// Readable after SIGTERM or SIGINT.
    pub(crate) asked: OwnedFd,
    /// As process 1, a signal ends what we keep; else it ends only us.
    pub(crate) stop_on_signal: bool,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    /// Who waits for everything to be stopped.
    ending: Option<Option<Asker>>,
    done: bool,
}

impl Server {
    pub(crate) fn new(
        mut table: Table,
        sockets: Sockets,
        socket: OwnedFd,
        [child_ended, asked]: [OwnedFd; 2],
    ) -> Self {
        table.core.watch(&socket, Token::Socket);
        table.core.watch(&child_ended, Token::ChildEnded);
        table.core.watch(&asked, Token::Asked);
        Self {
            table,
            sockets,
            socket,
            child_ended,
            asked,
            stop_on_signal: std::process::id() == 1,
            connections: BTreeMap::new(),
            next_connection: 1,
            ending: None,
            done: false,
        }
    }

    /// Runs until told to shut down.
    pub(crate) fn run(mut self) -> rustix::io::Result<()> {
        let mut events = Vec::with_capacity(256);
        // Children may have ended, and effects come from adoption, before the first wait.
        self.table.child_ended();
        loop {
            self.table.on_time(Instant::now());
            self.check_end();
            self.send();
            if self.done {
                return Ok(());
            }
            let timeout =
                self.table.next_due().map(|due| timespec(due.saturating_duration_since(Instant::now())));
            match epoll::wait(&self.table.core.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            }
            let mut tokens: Vec<_> =
                events.drain(..).filter_map(|event| Some((Token::parse(event.data)?, event.flags))).collect();
            // Output before exits, requests of known clients before new clients.
            tokens.sort_by_key(|(token, _)| match token {
                Token::Out(_) | Token::Err(_) => 0,
                Token::Watch(_) => 1,
                Token::ChildEnded | Token::Asked => 2,
                Token::Connection(_) => 3,
                Token::Socket => 4,
            });
            for (token, _) in tokens {
                self.woken(token);
            }
        }
    }

    fn woken(&mut self, token: Token) {
        if self.table.core.spool.has_fresh() {
            self.announce();
        }
        match token {
            Token::Out(slot) => drop(self.table.pump(slot, RecordKind::Out)),
            Token::Err(slot) => drop(self.table.pump(slot, RecordKind::Err)),
            Token::Watch(slot) => self.table.ended(slot),
            Token::ChildEnded => {
                empty(&self.child_ended);
                self.table.child_ended();
            }
            Token::Asked => {
                empty(&self.asked);
                if self.stop_on_signal { self.stop_all(None) } else { self.done = true }
            }
            Token::Connection(number) => self.listen_to(number),
            Token::Socket => self.accept(),
        }
    }

    fn accept(&mut self) {
        while let Ok(socket) =
            rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        {
            // What a platform that died has asked for comes before what its successor asks.
            for number in self.connections.keys().copied().collect::<Vec<_>>() {
                self.listen_to(number);
            }
            if self.connections.len() >= MAX_CONNECTIONS {
                self.table.core.journal.note("refuses a connection", "too many");
                continue;
            }
            let number = self.next_connection;
            self.next_connection += 1;
            self.table.core.watch(&socket, Token::Connection(number));
            self.connections.insert(number, Connection::new(socket));
        }
    }

    fn listen_to(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        for (request, frame) in connection.read() {
            self.serve(number, request, frame);
        }
    }

    fn serve(&mut self, number: u64, request: Request, mut frame: Frame) {
        let asker = Asker { connection: number, request: request.id };
        let welcome = self.connections.get(&number).is_some_and(|connection| connection.welcome);
        if !welcome && !matches!(request.ask, Ask::Hello { .. }) {
            let refusal = Refusal::invalid("the first request must be a greeting");
            return self.table.core.answer(asker, Err(refusal));
        }
        let table = &mut self.table;
        let answer = match request.ask {
            Ask::Hello { protocol } => Some(self.greet(number, protocol)),
            Ask::Spawn { .. } if self.ending.is_some() => {
                Some(Err(Refusal::new(ErrorKind::Unavailable, "the keeper is shutting down")))
            }
            Ask::Spawn { spec } => table.spawn(spec, asker),
            Ask::Stop { process, grace } => table.stop(&process, grace, Some(asker)),
            Ask::Forget { process } => Some(table.forget(&process)),
            Ask::List => Some(Ok(Answer::States { states: table.states() })),
            Ask::Status { process } => Some(table.slot(&process).map(|slot| Answer::States {
                states: table.entries[slot].iter().map(super::entry::Entry::state).collect(),
            })),
            Ask::Tail { process } => match table.slot(&process) {
                Ok(slot) => {
                    let tail = table.core.spool.tail(slot);
                    return self.answer_with(asker, Answer::Done, &tail, Vec::new());
                }
                Err(refusal) => Some(Err(refusal)),
            },
            Ask::Listen { name, addr } => Some(
                self.sockets.listen(&name, addr, &table.core.intents).map(|addr| Answer::Address { addr }),
            ),
            Ask::Take { name } => match self.sockets.take(&name) {
                Ok(socket) => return self.answer_with(asker, Answer::Done, &[], vec![socket]),
                Err(refusal) => Some(Err(refusal)),
            },
            Ask::Give { name } => Some(match frame.descriptors.pop() {
                Some(socket) => self.sockets.give(&name, socket).map(|()| Answer::Done),
                None => Err(Refusal::invalid("no descriptor came along").with("listener", name)),
            }),
            Ask::Unlisten { name } => {
                Some(self.sockets.unlisten(&name, &table.core.intents).map(|()| Answer::Done))
            }
            Ask::Follow => match self.follow(number) {
                Ok((answer, descriptors)) => return self.answer_with(asker, answer, &[], descriptors),
                Err(error) => Some(Err(Refusal::io("cannot share the spool", &error.into()))),
            },
            Ask::Commit { offset } => {
                table.core.spool.commit(offset);
                Some(Ok(Answer::Done))
            }
            Ask::Shutdown { stop_all: true } => {
                self.stop_all(Some(asker));
                None
            }
            Ask::Shutdown { stop_all: false } => {
                self.done = true;
                Some(Ok(Answer::Done))
            }
        };
        if let Some(answer) = answer {
            self.table.core.answer(asker, answer);
        }
    }

    fn greet(&mut self, number: u64, protocol: u32) -> Result<Answer, Refusal> {
        if protocol != PROTOCOL {
            let refusal = Refusal::new(ErrorKind::Conflict, "the keeper speaks another protocol");
            return Err(refusal.with("keeper", PROTOCOL).with("protocol", protocol));
        }
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.welcome = true;
        }
        let core = &self.table.core;
        Ok(Answer::Hello {
            pid: std::process::id(),
            life: core.spool.life(),
            identity: core.identity.clone(),
        })
    }

    fn follow(&mut self, number: u64) -> rustix::io::Result<(Answer, Vec<OwnedFd>)> {
        let Some(connection) = self.connections.get_mut(&number) else { return Err(Errno::NOTCONN) };
        if connection.bell.is_none() {
            let (theirs, ours) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            connection.bell = Some(Bell { ours, theirs });
        }
        let spool = &self.table.core.spool;
        let (first, segments) = spool.segments();
        let descriptors = connection
            .bell
            .iter()
            .map(|bell| bell.theirs.as_fd())
            .chain(segments)
            .map(|descriptor| rustix::io::fcntl_dupfd_cloexec(descriptor, 3))
            .collect::<rustix::io::Result<_>>()?;
        let answer = Answer::Spool {
            life: spool.life(),
            segment_bytes: spool.segment_bytes(),
            first,
            committed: spool.committed(),
        };
        Ok((answer, descriptors))
    }

    fn answer_with(&mut self, asker: Asker, answer: Answer, body: &[u8], descriptors: Vec<OwnedFd>) {
        if let Some(connection) = self.connections.get_mut(&asker.connection) {
            connection.write(&Note::Answer { id: asker.request, answer }, body, descriptors);
        }
    }

    fn stop_all(&mut self, asker: Option<Asker>) {
        self.ending = Some(asker.or(self.ending.flatten()));
        let all: Vec<_> = self
            .table
            .entries
            .iter()
            .flatten()
            .map(|entry| (entry.spec.id.clone(), entry.spec.grace))
            .collect();
        for (id, grace) in all {
            let _no_asker = self.table.stop(&id, grace, None);
        }
    }

    fn check_end(&mut self) {
        let Some(asker) = self.ending else { return };
        if self.table.entries.iter().flatten().all(|entry| entry.run.is_none()) {
            self.done = true;
            if let Some(asker) = asker {
                self.table.core.answer(asker, Ok(Answer::Done));
            }
            for connection in self.connections.values_mut().filter(|connection| connection.welcome) {
                connection.write(&Note::Leaving, &[], Vec::new());
            }
        }
    }

    /// Tells followers of new segments and new output.
    fn announce(&mut self) {
        let Some(fresh) = self.table.core.spool.take_advance() else { return };
        for connection in self.connections.values_mut().filter(|connection| connection.bell.is_some()) {
            for index in &fresh {
                let Some(segment) = self.table.core.spool.segment(*index) else { continue };
                match rustix::io::fcntl_dupfd_cloexec(segment, 3) {
                    Ok(segment) => connection.write(&Note::Segment { index: *index }, &[], vec![segment]),
                    Err(_) => connection.broken = true,
                }
            }
            if !fresh.is_empty() {
                connection.flush();
            }
            connection.ring();
        }
    }

    /// Sends what has come up: new segments first, so that whoever is told of output can see it.
    fn send(&mut self) {
        self.announce();
        for effect in std::mem::take(&mut self.table.core.effects) {
            match effect {
                Effect::Event(event) => {
                    let note = Note::Event { event };
                    for connection in self.connections.values_mut().filter(|connection| connection.welcome) {
                        connection.write(&note, &[], Vec::new());
                    }
                }
                Effect::Answer(Asker { connection, request: id }, answer) => {
                    let note = match answer {
                        Ok(answer) => Note::Answer { id, answer },
                        Err(refusal) => Note::Refused { id, refusal },
                    };
                    if let Some(connection) = self.connections.get_mut(&connection) {
                        connection.write(&note, &[], Vec::new());
                    }
                }
            }
        }
        self.connections.retain(|number, connection| {
            let full = connection.flush();
            if connection.broken {
                let _gone = epoll::delete(&self.table.core.epoll, &connection.socket);
                return false;
            }
            if full != connection.full {
                connection.full = full;
                let flags =
                    if full { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
                let data = Token::Connection(*number).data();
                let _gone = epoll::modify(&self.table.core.epoll, &connection.socket, data, flags);
            }
            true
        });
    }
}

fn empty(pipe: &OwnedFd) {
    let mut waste = [0; 64];
    while rustix::io::read(pipe, &mut waste).is_ok_and(|bytes| bytes > 0) {}
}

fn timespec(wait: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: wait.subsec_nanos().into(),
    }
}
