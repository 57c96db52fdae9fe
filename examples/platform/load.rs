//! The load: 32 connections that never rest and never retry, and the judge of every answer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::http::{Answer, Connection};
use crate::report::{Apart, Failure, Tally, Watched};

/// How many connections there are; also the most requests that can be in flight.
pub(crate) const CONNECTIONS: usize = 32;
/// The pause of a connection that has just failed, so that a closed port is not hammered.
const PAUSE: Duration = Duration::from_millis(5);

/// What an answer may be at the moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// The revisions of `api` that may answer.
    pub(crate) api: BTreeSet<String>,
    /// Those of `web`.
    pub(crate) web: BTreeSet<String>,
    /// The deliberately bad revision of `api`: its errors are counted apart.
    pub(crate) bad: Option<String>,
    /// What else is counted apart.
    pub(crate) trouble: Trouble,
}

/// What may go wrong, since the tour is doing it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trouble {
    #[default]
    None,
    /// An instance is killed: the POSTs that it had are lost.
    Instance,
    /// The edge or the keeper is killed: whatever breaks, as long as the gap is short.
    Gap,
    /// Services are stopped: 502 and 503 say so.
    Stopped,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
enum Request {
    /// Orders; the token says which order it is.
    Order(u64),
    /// Reads an order back.
    Read(u64),
    Products,
    Page,
}

impl Request {
    fn write(self, out: &mut Vec<u8>) {
        const TAIL: &str = " HTTP/1.1\r\nhost: shop.localhost\r\n";
        out.clear();
        let text = match self {
            Self::Order(token) => {
                let body = format!("{{\"token\":{token}}}");
                let length = body.len();
                format!(
                    "POST /api/orders{TAIL}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
                )
            }
            Self::Read(id) => format!("GET /api/orders/{id}{TAIL}\r\n"),
            Self::Products => format!("GET /api/products{TAIL}\r\n"),
            Self::Page => format!("GET /{TAIL}\r\n"),
        };
        out.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn is_post(self) -> bool {
        matches!(self, Self::Order(_))
    }
}

/// All that the connections share with the tour.
#[derive(Debug)]
pub(crate) struct Load {
    address: SocketAddr,
    rules: RefCell<Rc<Rules>>,
    tally: RefCell<Tally>,
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
    pub(crate) fn start(address: SocketAddr, rules: Rules) -> Rc<Self> {
        let load = Rc::new(Self {
            address,
            rules: RefCell::new(Rc::new(rules)),
            tally: RefCell::default(),
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
            request.write(&mut bytes);
            let rules = Rc::clone(&self.rules.borrow());
            let sent = Instant::now();
            self.in_flight.set(self.in_flight.get() + 1);
            let outcome = exchange(&mut connection, self.address, &bytes).await;
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
                tokio::time::sleep(PAUSE).await;
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
            Some(kind) => tally.apart(kind, sent, ended),
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
        let bad = [&then.bad, &now.bad].into_iter().flatten().any(|bad| from_api && *bad == answer.version);
        if from_api && (answer.status < 500 || bad) {
            tally.count_version(&answer.version);
        }
        if bad && answer.status == 500 {
            tally.bad_failed += 1;
            return Ok(None);
        }
        let wanted = if request.is_post() { 201 } else { 200 };
        if answer.status != wanted {
            return Err(format!("not {wanted}"));
        }
        if !then.web.contains(&answer.web) && !now.web.contains(&answer.web) {
            return Err("not a revision of web that may answer now".to_owned());
        }
        if from_api && !bad && !then.api.contains(&answer.version) && !now.api.contains(&answer.version) {
            return Err("not a revision of api that may answer now".to_owned());
        }
        match request {
            Request::Order(token) => self.acknowledge(token, &answer.body).map(Some),
            Request::Read(id) => self.reads(id, &answer.body).map(|()| None),
            Request::Products => contains(&answer.body, "kettle").map(|()| None),
            Request::Page => contains(&answer.body, "<html").map(|()| None),
        }
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

/// How a failure is counted that the tour is the cause of.
fn apart(request: Request, status: u16, trouble: Trouble) -> Option<Apart> {
    match (trouble, status) {
        (Trouble::Instance, 502) if request.is_post() => Some(Apart::LostPost),
        (Trouble::Gap, 0 | 502..=504) => Some(Apart::Gap),
        (Trouble::Stopped, 502 | 503) => Some(Apart::Stopped),
        _ => None,
    }
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
