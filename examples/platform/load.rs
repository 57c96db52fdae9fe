//! The load: 32 connections that never rest and never retry, and the judge of every answer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::http::{Answer, Connection};
use crate::report::{Failure, Tally, Watched};

mod rules;

use rules::{Request, apart};
pub(crate) use rules::{Rules, Service, Target, Trouble};

/// How many connections there are; also the most requests that can be in flight.
pub(crate) const CONNECTIONS: usize = 32;
/// All that the connections share with the tour.
#[derive(Debug)]
pub(crate) struct Load {
    target: Target,
    rules: RefCell<Rc<Rules>>,
    tally: RefCell<Tally>,
    /// When each revision last answered.
    seen: RefCell<BTreeMap<(Service, String), Instant>>,
    /// When a request last failed that is counted apart.
    last_apart: Cell<Option<Instant>>,
    /// The token of each order that was acknowledged, by its id.
    orders: RefCell<Vec<Option<u64>>>,
    /// The next order to read back, when everything is.
    reading: RefCell<Range<u64>>,
    in_flight: Cell<usize>,
    next_token: Cell<u64>,
    stopping: Cell<bool>,
    progress: Notify,
}

impl Load {
    /// Starts the connections, within the current `LocalSet`.
    pub(crate) fn start(target: Target, rules: Rules) -> Rc<Self> {
        let load = Rc::new(Self {
            target,
            rules: RefCell::new(Rc::new(rules)),
            tally: RefCell::default(),
            seen: RefCell::default(),
            last_apart: Cell::default(),
            orders: RefCell::default(),
            reading: RefCell::default(),
            in_flight: Cell::new(0),
            next_token: Cell::new(1),
            stopping: Cell::new(false),
            progress: Notify::new(),
        });
        for number in 0..CONNECTIONS {
            tokio::task::spawn_local(Rc::clone(&load).connection(number));
        }
        load
    }

    /// Ends the connections after the answers they wait for.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
    }

    pub(crate) fn rules(&self) -> Rules {
        (**self.rules.borrow()).clone()
    }

    pub(crate) fn set_rules(&self, change: impl FnOnce(&mut Rules)) {
        let mut rules = self.rules();
        change(&mut rules);
        *self.rules.borrow_mut() = Rc::new(rules);
    }

    /// Takes what was counted since the last time.
    pub(crate) fn take(&self) -> Tally {
        std::mem::take(&mut *self.tally.borrow_mut())
    }

    pub(crate) fn count(&self) -> u64 {
        self.tally.borrow().requests
    }

    pub(crate) fn peek<T>(&self, look: impl FnOnce(&Tally) -> T) -> T {
        look(&self.tally.borrow())
    }

    /// Looks for a first success.
    pub(crate) fn watch(&self, watched: Watched) {
        self.tally.borrow_mut().watched = Some(watched);
    }

    /// Notes how many requests are in flight now that something changes.
    pub(crate) fn transition(&self) {
        let now = self.in_flight.get();
        let mut tally = self.tally.borrow_mut();
        tally.least_in_flight = Some(tally.least_in_flight.map_or(now, |least| least.min(now)));
    }

    /// Waits until a condition holds, looking after each answer; false at the deadline.
    pub(crate) async fn until(&self, deadline: Instant, condition: impl Fn(&Tally) -> bool) -> bool {
        loop {
            let next = self.progress.notified();
            if condition(&self.tally.borrow()) {
                return true;
            }
            if tokio::time::timeout_at(deadline, next).await.is_err() {
                return condition(&self.tally.borrow());
            }
        }
    }

    /// When another revision of a service than this one last answered.
    pub(crate) fn last_other(&self, service: Service, version: &str) -> Option<Instant> {
        let seen = self.seen.borrow();
        let others = seen.iter().filter(|((own, other), _)| *own == service && other != version);
        others.map(|(_, at)| *at).max()
    }

    /// When this revision of a service last answered.
    pub(crate) fn last_of(&self, service: Service, version: &str) -> Option<Instant> {
        self.seen.borrow().get(&(service, version.to_owned())).copied()
    }

    /// When a request last failed that is counted apart.
    pub(crate) fn last_apart(&self) -> Option<Instant> {
        self.last_apart.get()
    }

    /// Waits until something has not happened for so long; gives how long after `since` it last did, or nothing at the
    /// deadline.
    pub(crate) async fn quiet(
        &self,
        since: Instant,
        quiet: Duration,
        deadline: Instant,
        last: impl Fn(&Self) -> Option<Instant>,
    ) -> Option<Duration> {
        let of_late = || last(self).map_or(since, |at| at.max(since));
        let is_quiet = self.until(deadline, |_| of_late().elapsed() >= quiet).await;
        is_quiet.then(|| of_late() - since)
    }

    /// From now on every request reads one of the orders back that were acknowledged so far, until all were read.
    pub(crate) fn read_all_back(&self) {
        self.reading.replace(1..self.orders.borrow().len() as u64);
    }

    /// How many of them are still to be read back.
    pub(crate) fn unread(&self) -> u64 {
        let reading = self.reading.borrow();
        reading.end.saturating_sub(reading.start)
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.orders.borrow().iter().flatten().count()
    }

    fn next(&self, number: usize, turn: u64, last: u64) -> Request {
        let orders = self.orders.borrow();
        let found = self.reading.borrow_mut().find(|id| orders[*id as usize].is_some());
        if let Some(id) = found {
            return Request::Read(id);
        }
        if turn.is_multiple_of(2) {
            let token = self.next_token.get();
            self.next_token.set(token + 1);
            return Request::Order(token);
        }
        // Older orders are visited in jumps of a large prime: each sooner or later.
        let older = (turn.wrapping_mul(7_919) + number as u64) % orders.len().max(1) as u64;
        match turn / 2 % 4 {
            0 if number.is_multiple_of(2) => Request::Page,
            0 => Request::Products,
            1 if orders.get(older as usize).is_some_and(Option::is_some) => Request::Read(older),
            _ if last > 0 => Request::Read(last),
            _ => Request::Products,
        }
    }

    async fn connection(self: Rc<Self>, number: usize) {
        let mut connection = None;
        let (mut turn, mut last) = (number as u64, 0);
        let mut bytes = Vec::with_capacity(512);
        while !self.stopping.get() {
            let request = self.next(number, turn, last);
            turn += 1;
            request.write(&self.target.host, &mut bytes);
            let rules = Rc::clone(&self.rules.borrow());
            let sent = Instant::now();
            self.in_flight.set(self.in_flight.get() + 1);
            let outcome = exchange(&mut connection, self.target.address, &bytes).await;
            self.in_flight.set(self.in_flight.get() - 1);
            let broken = match &outcome {
                Ok(answer) => answer.close,
                Err(_) => true,
            };
            let failed = outcome.as_ref().map_or(true, |answer| answer.status >= 500);
            if let Some(id) = self.judge(request, sent, &rules, &outcome) {
                last = id;
            }
            if broken {
                connection = None;
            }
            self.progress.notify_waiters();
            if failed {
                tokio::time::sleep(self.target.pause).await;
            }
        }
    }

    /// Counts one answer; gives the id of an order that was acknowledged.
    fn judge(
        &self,
        request: Request,
        sent: Instant,
        then: &Rules,
        outcome: &std::io::Result<Answer>,
    ) -> Option<u64> {
        let now = Rc::clone(&self.rules.borrow());
        let mut tally = self.tally.borrow_mut();
        tally.requests += 1;
        tally.posts += u64::from(request.is_post());
        let verdict = match outcome {
            Ok(answer) => self.check(request, answer, then, &now, &mut tally),
            Err(error) => Err(error.to_string()),
        };
        let ended = Instant::now();
        let why = match verdict {
            Ok(acknowledged) => {
                tally.succeeded(sent, ended);
                return acknowledged;
            }
            Err(why) => why,
        };
        let status = outcome.as_ref().map_or(0, |answer| answer.status);
        match apart(request, status, then.trouble).or_else(|| apart(request, status, now.trouble)) {
            Some(kind) => {
                tally.apart(kind, sent, ended);
                self.last_apart.set(Some(ended));
            }
            None => tally.failed(Failure {
                at: ended,
                request: format!("{request:?}"),
                answer: match &outcome {
                    Ok(answer) => format!(
                        "{why}: {} {:?} from {:?} by way of {:?}",
                        answer.status,
                        String::from_utf8_lossy(&answer.body[..answer.body.len().min(200)]),
                        answer.version,
                        answer.web
                    ),
                    Err(_) => why,
                },
            }),
        }
        None
    }

    fn check(
        &self,
        request: Request,
        answer: &Answer,
        then: &Rules,
        now: &Rules,
        tally: &mut Tally,
    ) -> Result<Option<u64>, String> {
        let from_api = !matches!(request, Request::Page);
        let canary = match self.target.canary {
            Service::Api => from_api.then_some(&answer.version),
            Service::Web => Some(&answer.web),
        };
        let is_bad =
            |version: &&String| [&then.bad, &now.bad].into_iter().flatten().any(|bad| bad == *version);
        let bad = canary.filter(is_bad).map(|_| self.target.canary);
        if answer.status < 500 || bad.is_some() {
            canary.into_iter().for_each(|version| tally.count_version(version));
            self.see(Service::Web, &answer.web);
            if from_api {
                self.see(Service::Api, &answer.version);
            }
        }
        if bad.is_some() && answer.status == 500 {
            tally.bad_failed += 1;
            return Ok(None);
        }
        let wanted = if request.is_post() { 201 } else { 200 };
        if answer.status != wanted {
            return Err(format!("not {wanted}"));
        }
        if bad != Some(Service::Web) && !then.web.contains(&answer.web) && !now.web.contains(&answer.web) {
            return Err("not a revision of web that may answer now".to_owned());
        }
        let may = bad == Some(Service::Api)
            || then.api.contains(&answer.version)
            || now.api.contains(&answer.version);
        if from_api && !may {
            return Err("not a revision of api that may answer now".to_owned());
        }
        match request {
            Request::Order(token) => self.acknowledge(token, &answer.body).map(Some),
            Request::Read(id) => self.reads(id, &answer.body).map(|()| None),
            Request::Products => contains(&answer.body, "kettle").map(|()| None),
            Request::Page => contains(&answer.body, "<html").map(|()| None),
        }
    }

    fn see(&self, service: Service, version: &str) {
        self.seen.borrow_mut().insert((service, version.to_owned()), Instant::now());
    }

    fn acknowledge(&self, token: u64, body: &[u8]) -> Result<u64, String> {
        let body: serde_json::Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let id = body["id"].as_u64().ok_or("an order without an id")?;
        let place = usize::try_from(id).map_err(|_| "an id out of range")?;
        let mut orders = self.orders.borrow_mut();
        // Orders that were stored and not acknowledged leave holes.
        if place > orders.len() + 10_000 {
            return Err("an id out of range".to_owned());
        }
        if orders.len() <= place {
            orders.resize(place + 1, None);
        }
        match orders[place].replace(token) {
            None => Ok(id),
            Some(other) => Err(format!("id {id} was given to order {other} before")),
        }
    }

    fn reads(&self, id: u64, body: &[u8]) -> Result<(), String> {
        let body: serde_json::Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let known = self.orders.borrow()[id as usize];
        match body["order"]["token"].as_u64() {
            Some(token) if known == Some(token) => Ok(()),
            found => Err(format!("order {id} should be {known:?} and is {found:?}")),
        }
    }
}

fn contains(body: &[u8], text: &str) -> Result<(), String> {
    let found = body.windows(text.len()).any(|part| part == text.as_bytes());
    if found { Ok(()) } else { Err(format!("no `{text}` in the answer")) }
}

async fn exchange(
    connection: &mut Option<Connection>,
    address: SocketAddr,
    request: &[u8],
) -> std::io::Result<Answer> {
    if connection.is_none() {
        *connection = Some(Connection::open(address).await?);
    }
    match connection {
        Some(open) => open.exchange(request).await,
        None => Err(std::io::ErrorKind::NotConnected.into()),
    }
}
