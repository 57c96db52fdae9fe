//! `shop api`: products and orders; orders are kept by `db`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /products` | 200 with the products |
//! | `POST /orders` | 201 with `{"id": n}` once `db` has it; the body is a JSON object |
//! | `GET /orders` | 200 with `{"count": n}` |
//! | `GET /orders/{id}` | 200 with the order, or 404 |
//! | `GET /ready` | 200 while `db` answers, else 503 |
//! | `GET /version` | 200 with the version |

use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::Client;
use crate::http::{Answer, body, json_answer, trouble};
use crate::log;
use crate::serve::Service;
use crate::settings::Settings;

/// The form of the data that this version writes.
const SCHEMA: u64 = 1;

/// How long a migration waits for `db`, and how long between two tries.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) struct Api {
    settings: Settings,
    db: Client,
}

impl Api {
    pub(crate) fn new(settings: Settings) -> Result<Self, String> {
        let db = Client::new(settings.upstream.as_ref().ok_or("no db is given")?)?;
        Ok(Self { settings, db })
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Response<Bytes>, Answer> {
        ask(&self.db, method, path, body).await.map_err(|error| {
            log::warn(&error);
            trouble(StatusCode::SERVICE_UNAVAILABLE, "db does not answer")
        })
    }

    fn products(&self) -> Answer {
        let products = [("tea", 450), ("cup", 900), ("kettle", 3_900), ("spoon", 250)];
        let products = products.map(|(name, cents)| json!({ "name": name, "cents": cents }));
        json_answer(StatusCode::OK, &json!({ "products": products, "version": self.settings.version }))
    }

    async fn order(&self, request: Request<Incoming>) -> Result<Answer, Answer> {
        let order = body(request.into_body()).await?;
        if !serde_json::from_slice(&order).is_ok_and(|order: Value| order.is_object()) {
            return Err(trouble(StatusCode::BAD_REQUEST, "an order is a JSON object"));
        }
        let answer = self.ask(Method::POST, "/lists/orders", order).await?;
        let id = (answer.status() == StatusCode::CREATED)
            .then(|| serde_json::from_slice(answer.body()).ok())
            .flatten()
            .and_then(|body: Value| body["id"].as_u64());
        match id {
            Some(id) => {
                Ok(json_answer(StatusCode::CREATED, &json!({ "id": id, "version": self.settings.version })))
            }
            None => Err(refused(&answer)),
        }
    }

    async fn orders(&self) -> Result<Answer, Answer> {
        let answer = self.ask(Method::GET, "/lists/orders", "").await?;
        match serde_json::from_slice::<Value>(answer.body()) {
            Ok(body) if answer.status() == StatusCode::OK => {
                let body = json!({ "count": body["count"], "version": self.settings.version });
                Ok(json_answer(StatusCode::OK, &body))
            }
            _ => Err(refused(&answer)),
        }
    }

    async fn one_order(&self, id: &str) -> Result<Answer, Answer> {
        let Ok(id) = id.parse::<u64>() else {
            return Err(trouble(StatusCode::NOT_FOUND, "there is no such order"));
        };
        let answer = self.ask(Method::GET, &format!("/lists/orders/{id}"), "").await?;
        match (answer.status(), serde_json::from_slice::<Value>(answer.body())) {
            (StatusCode::OK, Ok(order)) => {
                let body = json!({ "id": id, "order": order, "version": self.settings.version });
                Ok(json_answer(StatusCode::OK, &body))
            }
            (StatusCode::NOT_FOUND, _) => Err(trouble(StatusCode::NOT_FOUND, "there is no such order")),
            _ => Err(refused(&answer)),
        }
    }

    async fn ready(&self) -> Answer {
        if self.settings.trouble.never_ready {
            return trouble(StatusCode::SERVICE_UNAVAILABLE, "never ready, as NEVER_READY asks");
        }
        match self.ask(Method::GET, "/ready", "").await {
            Ok(answer) if answer.status().is_success() => {
                json_answer(StatusCode::OK, &json!({ "ready": true }))
            }
            _ => trouble(StatusCode::SERVICE_UNAVAILABLE, "db is not ready"),
        }
    }
}

/// What `db` would not do.
fn refused(answer: &Response<Bytes>) -> Answer {
    let body = String::from_utf8_lossy(answer.body());
    log::warn(&format!("db answered {}: {}", answer.status(), body.trim().escape_debug()));
    trouble(StatusCode::BAD_GATEWAY, "db refused")
}

async fn ask(
    db: &Client,
    method: Method,
    path: &str,
    body: impl Into<Bytes>,
) -> Result<Response<Bytes>, String> {
    let mut request = Request::new(body.into());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(|_| format!("{path} is no path"))?;
    db.send(request).await
}

impl Service for Api {
    fn version(&self) -> &str {
        &self.settings.version
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let answered = match (request.method(), &parts[..]) {
            (&Method::GET, ["ready"]) => return self.ready().await,
            (&Method::GET, ["version"]) => Ok(json_answer(
                StatusCode::OK,
                &json!({ "service": "api", "version": self.settings.version }),
            )),
            _ if self.settings.trouble.fail.strikes() => {
                log::warn(&format!("{} {path} failed, as FAIL_RATE asks", request.method()));
                // A request that is not read to its end closes the connection, and a gateway may be about to use that.
                drop(body(request.into_body()).await);
                let body = json!({ "error": "failed, as FAIL_RATE asks", "version": self.settings.version });
                Err(json_answer(StatusCode::INTERNAL_SERVER_ERROR, &body))
            }
            (&Method::GET, ["products"]) => Ok(self.products()),
            (&Method::POST, ["orders"]) => self.order(request).await,
            (&Method::GET, ["orders"]) => self.orders().await,
            (&Method::GET, ["orders", id]) => self.one_order(id).await,
            (_, ["products" | "orders", ..]) => Err(trouble(
                StatusCode::METHOD_NOT_ALLOWED,
                "this can be read with GET; orders are made with POST",
            )),
            _ => Err(trouble(StatusCode::NOT_FOUND, "there is no such page")),
        };
        answered.unwrap_or_else(|refused| refused)
    }
}

/// The first answer of `db`: a cluster may tell of the way there a moment later than `db` is ready.
async fn first(db: &Client) -> Result<Response<Bytes>, String> {
    let until = Instant::now() + PATIENCE;
    loop {
        match ask(db, Method::GET, "/values/schema", "").await {
            Err(error) if Instant::now() < until => log::line(&format!("migrate: asks again: {error}")),
            answered => return answered,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Brings the data into the form of this version; doing it twice changes nothing.
pub(crate) async fn migrate(settings: &Settings) -> Result<(), String> {
    if settings.trouble.migrate_fails {
        return Err("the migration failed, as MIGRATE_FAILS asks".to_owned());
    }
    let db = Client::new(settings.upstream.as_ref().ok_or("no db is given")?)?;
    let answer = first(&db).await?;
    let found = match answer.status() {
        StatusCode::NOT_FOUND => 0,
        StatusCode::OK => {
            let text = String::from_utf8_lossy(answer.body());
            text.parse::<u64>().map_err(|_| "the schema's number in db is no number".to_owned())?
        }
        status => return Err(format!("db answered {status}")),
    };
    if found > SCHEMA {
        return Err(format!("the data has schema {found}, and this version knows {SCHEMA}"));
    }
    if found == SCHEMA {
        log::line(&format!("migrate: schema {SCHEMA}, nothing to do"));
        return Ok(());
    }
    let answer = ask(&db, Method::PUT, "/values/schema", SCHEMA.to_string()).await?;
    if !answer.status().is_success() {
        return Err(format!("db answered {}", answer.status()));
    }
    log::line(&format!("migrate: schema {found} -> {SCHEMA}"));
    Ok(())
}
