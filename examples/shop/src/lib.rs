//! The sample app: a shop of three small services in one program, `web` → `api` → `db`.
//!
//! They are ordinary programs that know nothing of the platform: they listen on `127.0.0.1:$PORT` (`$BIND` instead, which
//! an image sets to be reached from outside its container), find each other by `$API_URL` and `$DB_URL`, keep data in
//! `$VOLUME_DATA`, log lines to stdout and stderr, answer `/ready` and `/version`, and on TERM finish the requests they have
//! before they end. `paas.yaml` describes them.
//!
//! Every answer carries `x-shop-version`, the `$VERSION` of the service that made it, and `x-shop-web-version` when it
//! came by way of `web`. For demonstrations of trouble a service can be asked to misbehave:
//!
//! | variable | what it does |
//! |---|---|
//! | `FAIL_RATE=20%` | that share of requests, evenly spread, is answered with status 500 |
//! | `NEVER_READY=1` | `/ready` never says yes |
//! | `EXIT_AFTER=2s`, `EXIT_CODE=3` | ends by itself with that code (1 unless given) |
//! | `MIGRATE_FAILS=1` | `shop api migrate` ends with exit code 1 |

mod api;
mod client;
mod db;
mod http;
mod log;
mod serve;
mod settings;
mod store;
mod trouble;
mod web;

#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use settings::{Role, Settings};

const USAGE: &str = "usage: shop db | shop api [migrate] | shop web";

/// Runs the service that the arguments (without the program's name) ask for, until TERM or INT.
///
/// Exit codes: 0 after an orderly stop, 1 for trouble while running, 2 for wrong arguments or settings.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments: Vec<String> = arguments.collect();
    let (role, migrate) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["db"] => (Role::Db, false),
        ["api"] => (Role::Api, false),
        ["api", "migrate"] => (Role::Api, true),
        ["web"] => (Role::Web, false),
        _ => {
            log::warn(USAGE);
            return ExitCode::from(2);
        }
    };
    let settings = match Settings::read(role, migrate, |name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(message) => {
            log::warn(&format!("shop {role}: {message}"));
            return ExitCode::from(2);
        }
    };
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))
        .and_then(|runtime| {
            runtime.block_on(async move {
                if migrate { api::migrate(&settings).await.map(|()| 0) } else { until_told(settings).await }
            })
        });
    let code = ended.unwrap_or_else(|message| {
        log::warn(&format!("shop {role}: {message}"));
        1
    });
    log::flush();
    ExitCode::from(code)
}

/// Serves until TERM, INT, or the moment that `EXIT_AFTER` names.
async fn until_told(settings: Settings) -> Result<u8, String> {
    let listen = |error| format!("cannot listen on {}: {error}", settings.listen);
    // Before anything is ready, so that no TERM is missed.
    let mut term =
        signal(SignalKind::terminate()).map_err(|error| format!("cannot handle signals: {error}"))?;
    let mut int =
        signal(SignalKind::interrupt()).map_err(|error| format!("cannot handle signals: {error}"))?;
    let (stop, stopped) = watch::channel(false);
    let exit = settings.trouble.exit.clone();
    let listener = TcpListener::bind(settings.listen).await.map_err(listen)?;
    let told = async {
        let by = tokio::select! {
            _ = term.recv() => "TERM",
            _ = int.recv() => "INT",
        };
        log::line(&format!("stopping on {by}: finishing what is in flight"));
        stop.send_replace(true);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = run(settings, listener, stopped) => ended.map(|()| 0),
        () = told => Ok(0),
        code = exit.wait() => {
            log::warn(&format!("ending with exit code {code}, as EXIT_AFTER asks"));
            Ok(code)
        }
    }
}

/// Serves until `stop` says so and the requests in flight are answered.
async fn run(settings: Settings, listener: TcpListener, stop: watch::Receiver<bool>) -> Result<(), String> {
    let role = settings.role;
    let at = listener.local_addr().map_err(|error| error.to_string())?;
    let says = format!("shop {role} {} listens on {at}", settings.version);
    let grace = settings.grace;
    let served = match role {
        Role::Db => {
            let db = Arc::new(db::Db::open(settings)?);
            log::line(&says);
            let served = serve::serve(listener, Arc::clone(&db), stop, grace).await;
            db.close();
            served
        }
        Role::Api => {
            let api = Arc::new(api::Api::new(settings)?);
            log::line(&says);
            serve::serve(listener, api, stop, grace).await
        }
        Role::Web => {
            let web = Arc::new(web::Web::new(settings)?);
            log::line(&says);
            serve::serve(listener, web, stop, grace).await
        }
    };
    log::line(&format!("shop {role} stopped"));
    served
}
