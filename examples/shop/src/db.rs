//! `shop db`: values and lists over HTTP, on disk before they are acknowledged.
//!
//! | request | answer |
//! |---|---|
//! | `PUT /values/{key}` | 204 once it is on disk |
//! | `GET /values/{key}` | 200 with the value, or 404 |
//! | `POST /lists/{list}` | 201 with `{"id": n}` once it is on disk; numbers run from 1 without gaps |
//! | `GET /lists/{list}` | 200 with `{"count": n}` |
//! | `GET /lists/{list}/{id}` | 200 with the item, or 404 |

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde_json::json;

use crate::http::{Answer, answer, body, json_answer, trouble};
use crate::log;
use crate::serve::Service;
use crate::settings::Settings;
use crate::store::{Change, Store};

#[derive(Debug)]
pub(crate) struct Db {
    settings: Settings,
    store: Store,
}

impl Db {
    pub(crate) fn open(settings: Settings) -> Result<Self, String> {
        let folder = settings.data.as_deref().ok_or("no folder is given")?;
        let (store, cut) = Store::open(folder)?;
        if cut > 0 {
            log::warn(&format!(
                "cut off {cut} bytes that were never acknowledged: the last run ended in a crash"
            ));
        }
        log::line(&format!("{} orders in {}", store.count("orders"), folder.display()));
        Ok(Self { settings, store })
    }

    /// Ends writing; what was acknowledged is on disk already.
    pub(crate) fn close(&self) {
        self.store.close();
    }

    async fn write(&self, request: Request<Incoming>, change: impl FnOnce(Vec<u8>) -> Change) -> Answer {
        let value = match body(request.into_body()).await {
            Ok(value) => value.to_vec(),
            Err(refused) => return refused,
        };
        match self.store.write(change(value)).await {
            Ok(0) => answer(StatusCode::NO_CONTENT, "application/json", ""),
            Ok(id) => json_answer(StatusCode::CREATED, &json!({ "id": id })),
            Err(error) => {
                log::warn(&error);
                trouble(StatusCode::INSUFFICIENT_STORAGE, &error)
            }
        }
    }
}

fn found(value: Result<Option<Vec<u8>>, String>) -> Answer {
    match value {
        Ok(Some(value)) => answer(StatusCode::OK, "application/octet-stream", value),
        Ok(None) => trouble(StatusCode::NOT_FOUND, "there is no such value"),
        Err(error) => {
            log::warn(&error);
            trouble(StatusCode::INTERNAL_SERVER_ERROR, &error)
        }
    }
}

/// Whether this can be the name of a value or list.
fn is_name(name: &str) -> bool {
    (1..=100).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

impl Service for Db {
    fn version(&self) -> &str {
        &self.settings.version
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (request.method(), &parts[..]) {
            (&Method::GET, ["ready"]) if self.settings.trouble.never_ready => {
                trouble(StatusCode::SERVICE_UNAVAILABLE, "never ready, as NEVER_READY asks")
            }
            (&Method::GET, ["ready"]) => json_answer(StatusCode::OK, &json!({ "ready": true })),
            (&Method::GET, ["version"]) => {
                json_answer(StatusCode::OK, &json!({ "service": "db", "version": self.settings.version }))
            }
            _ if self.settings.trouble.fail.strikes() => {
                drop(body(request.into_body()).await);
                trouble(StatusCode::INTERNAL_SERVER_ERROR, "failed, as FAIL_RATE asks")
            }
            (&Method::GET, ["values", key]) => found(self.store.get(key)),
            (&Method::PUT, ["values", key]) if is_name(key) => {
                let key = (*key).to_owned();
                self.write(request, |value| Change::Put { key, value }).await
            }
            (&Method::GET, ["lists", list]) => {
                json_answer(StatusCode::OK, &json!({ "count": self.store.count(list) }))
            }
            (&Method::POST, ["lists", list]) if is_name(list) => {
                let list = (*list).to_owned();
                self.write(request, |value| Change::Append { list, value }).await
            }
            (&Method::GET, ["lists", list, id]) => {
                found(id.parse().map_or(Ok(None), |id| self.store.item(list, id)))
            }
            (_, ["values" | "lists", ..]) => trouble(
                StatusCode::BAD_REQUEST,
                "a name is letters, digits, dots and dashes; see the table in db.rs",
            ),
            _ => trouble(StatusCode::NOT_FOUND, "there is no such page"),
        }
    }
}
