//! The three services together, in one process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::{Client, LIFE};
use crate::settings::{Role, Settings};

struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    ended: JoinHandle<Result<(), String>>,
}

impl Running {
    async fn start(role: Role, set: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let ended = tokio::spawn(crate::run(settings(role, set), listener, stopped));
        Self { address, stop, ended }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn client(&self) -> Client {
        Client::new(&self.url().parse::<Uri>().unwrap()).unwrap()
    }

    async fn stop(self) -> Result<(), String> {
        self.stop.send_replace(true);
        self.ended.await.unwrap()
    }
}

fn settings(role: Role, set: &[(&str, &str)]) -> Settings {
    let lookup =
        |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Settings::read(role, true, lookup).unwrap()
}

async fn start_db(folder: &Path) -> Running {
    Running::start(Role::Db, &[("VOLUME_DATA", folder.to_str().unwrap()), ("VERSION", "1")]).await
}

async fn ask(client: &Client, method: Method, path: &str, body: impl Into<Bytes>) -> (Response<()>, Value) {
    let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
    let (parts, body) = client.send(request).await.unwrap().into_parts();
    (Response::from_parts(parts, ()), serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn get(client: &Client, path: &str) -> (StatusCode, Value) {
    let (answer, body) = ask(client, Method::GET, path, "").await;
    (answer.status(), body)
}

fn header<'a>(answer: &'a Response<()>, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[test]
fn the_app_file_is_right_and_says_what_the_services_need() {
    let app = paas_core::model::AppFile::parse("paas.yaml", include_str!("../paas.yaml")).unwrap();
    let order: Vec<String> = app.order().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(order, ["db", "api", "web"]);
    for environment in ["production", "staging"] {
        let environment = environment.parse().unwrap();
        let app = app.for_environment(&environment).unwrap();
        for (role, service) in ["db", "api", "web"].into_iter().zip([Role::Db, Role::Api, Role::Web]) {
            let spec = &app.services[role];
            assert_eq!(spec.run.as_ref().unwrap().arguments(), ["./shop", role]);
            let env = |name: &str| match name {
                "PORT" => Some("1".to_owned()),
                "DB_URL" if spec.needs.iter().any(|need| need.as_str() == "db") => {
                    Some("http://h:1".to_owned())
                }
                "API_URL" if spec.needs.iter().any(|need| need.as_str() == "api") => {
                    Some("http://h:1".to_owned())
                }
                "VOLUME_DATA" if spec.volumes.contains_key("data") => Some("/x".to_owned()),
                name => spec.env.get(name).map(|value| value.0.clone()),
            };
            Settings::read(service, false, env).unwrap();
        }
    }
}

#[tokio::test]
async fn an_order_goes_through_all_three_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let db = start_db(folder.path()).await;
    let api = Running::start(Role::Api, &[("DB_URL", &db.url()), ("VERSION", "2.0")]).await;
    let web =
        Running::start(Role::Web, &[("API_URL", &api.url()), ("VERSION", "3.0"), ("BANNER", "<b>")]).await;
    let client = web.client();

    let page = client.send(Request::builder().uri("/").body(Bytes::new()).unwrap()).await.unwrap();
    assert_eq!(page.headers()["x-shop-web-version"], "3.0");
    let page = String::from_utf8(page.into_body().to_vec()).unwrap();
    assert!(page.contains("web 3.0") && page.contains("&lt;b&gt;") && !page.contains("://"));

    let (answer, products) = ask(&client, Method::GET, "/api/products", "").await;
    assert_eq!(products["products"][0]["name"], "tea");
    assert_eq!((header(&answer, "x-shop-version"), header(&answer, "x-shop-web-version")), ("2.0", "3.0"));
    for id in 1..=3 {
        let order = json!({ "product": "tea", "quantity": id }).to_string();
        let (answer, body) = ask(&client, Method::POST, "/api/orders", order).await;
        assert_eq!((answer.status(), &body["id"]), (StatusCode::CREATED, &json!(id)));
        assert_eq!(body["version"], "2.0");
    }
    let (status, order) = get(&client, "/api/orders/2").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(order["order"], json!({ "product": "tea", "quantity": 2 }));
    assert_eq!(get(&client, "/api/orders").await.1["count"], 3);
    for (path, status) in
        [("/api/orders/4", 404), ("/api/orders/x", 404), ("/api/nope", 404), ("/nope", 404), ("/apix", 404)]
    {
        assert_eq!(get(&client, path).await.0.as_u16(), status, "{path}");
    }
    let (answer, _) = ask(&client, Method::POST, "/api/orders", "no json").await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let (answer, _) = ask(&client, Method::POST, "/api/orders", vec![b' '; 70_000]).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let (answer, _) = ask(&client, Method::DELETE, "/api/orders/1", "").await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);

    for running in [web, api, db] {
        running.stop().await.unwrap();
    }
    let db = start_db(folder.path()).await;
    assert_eq!(get(&db.client(), "/lists/orders").await.1["count"], 3);
    db.stop().await.unwrap();
}

#[tokio::test]
async fn api_is_ready_while_db_is_and_migrates_once() {
    let folder = tempfile::tempdir().unwrap();
    let db = start_db(folder.path()).await;
    let url = db.url();
    let set = [("DB_URL", url.as_str())];
    let api = Running::start(Role::Api, &set).await;
    let never = Running::start(Role::Api, &[set[0], ("NEVER_READY", "1")]).await;
    let (client, never_client) = (api.client(), never.client());
    assert_eq!(get(&client, "/ready").await.0, StatusCode::OK);
    assert_eq!(get(&never_client, "/ready").await.0, StatusCode::SERVICE_UNAVAILABLE);
    for _ in 0..2 {
        crate::api::migrate(&settings(Role::Api, &set)).await.unwrap();
        assert_eq!(get(&db.client(), "/values/schema").await, (StatusCode::OK, json!(1)));
    }
    ask(&db.client(), Method::PUT, "/values/schema", "2").await;
    let error = crate::api::migrate(&settings(Role::Api, &set)).await.unwrap_err();
    assert!(error.contains("schema 2"), "{error}");
    db.stop().await.unwrap();
    assert_eq!(get(&client, "/ready").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(&client, Method::POST, "/orders", "{}").await.0.status(), StatusCode::SERVICE_UNAVAILABLE);
    tokio::time::pause();
    assert!(crate::api::migrate(&settings(Role::Api, &set)).await.is_err());
    tokio::time::resume();
    api.stop().await.unwrap();
    never.stop().await.unwrap();
}

#[tokio::test]
async fn a_bad_revision_fails_its_share_and_stays_ready() {
    let folder = tempfile::tempdir().unwrap();
    let db = start_db(folder.path()).await;
    let api =
        Running::start(Role::Api, &[("DB_URL", &db.url()), ("FAIL_RATE", "20%"), ("VERSION", "bad")]).await;
    let client = api.client();
    let mut failed = 0;
    for _ in 0..100 {
        let (answer, _) = ask(&client, Method::GET, "/products", "").await;
        failed += usize::from(answer.status() == StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(header(&answer, "x-shop-version"), "bad");
        assert_eq!(get(&client, "/ready").await.0, StatusCode::OK);
    }
    assert_eq!(failed, 20);
    api.stop().await.unwrap();
    db.stop().await.unwrap();
}

#[tokio::test]
async fn thirty_two_posts_at_once_are_all_kept() {
    let folder = tempfile::tempdir().unwrap();
    let db = start_db(folder.path()).await;
    let client = Arc::new(db.client());
    let posts = (0..32).map(|poster| {
        let client = Arc::clone(&client);
        tokio::spawn(async move {
            let mut kept = Vec::new();
            for number in 0..20 {
                let value = format!("{poster}-{number}");
                let (answer, body) = ask(&client, Method::POST, "/lists/orders", value.clone()).await;
                assert_eq!(answer.status(), StatusCode::CREATED);
                kept.push((body["id"].as_u64().unwrap(), value));
            }
            kept
        })
    });
    let mut kept = Vec::new();
    for post in posts.collect::<Vec<_>>() {
        kept.extend(post.await.unwrap());
    }
    db.stop().await.unwrap();
    let db = start_db(folder.path()).await;
    for (id, value) in &kept {
        let request = Request::builder().uri(format!("/lists/orders/{id}")).body(Bytes::new()).unwrap();
        assert_eq!(db.client().send(request).await.unwrap().body(), value);
    }
    assert_eq!(get(&db.client(), "/lists/orders").await.1["count"], 640);
    db.stop().await.unwrap();
}

#[tokio::test]
async fn a_request_in_flight_is_finished_and_idle_connections_are_closed() {
    let folder = tempfile::tempdir().unwrap();
    let db = start_db(folder.path()).await;
    let (address, mut answer) = (db.address, String::new());
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut bytes = [0; 1_024];
    assert!(idle.read(&mut bytes).await.unwrap() > 0);
    let mut busy = TcpStream::connect(address).await.unwrap();
    busy.write_all(b"POST /lists/orders HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nha").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let ended = tokio::spawn(db.stop());
    assert_eq!(idle.read(&mut bytes).await.unwrap(), 0, "an idle connection is closed at once");
    busy.write_all(b"lf").await.unwrap();
    busy.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 ") && answer.contains("connection: close"), "{answer}");
    ended.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_request_that_never_ends_holds_the_stop_for_the_grace_only() {
    let folder = tempfile::tempdir().unwrap();
    let set = [("VOLUME_DATA", folder.path().to_str().unwrap()), ("GRACE", "100ms")];
    let db = Running::start(Role::Db, &set).await;
    let mut stuck = TcpStream::connect(db.address).await.unwrap();
    stuck.write_all(b"POST /lists/orders HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let error = db.stop().await.unwrap_err();
    assert!(error.contains("1 requests"), "{error}");
}

/// A server that answers as a script says, one list of answers for each connection; an empty answer closes.
async fn scripted(script: Vec<Vec<&'static str>>) -> (Client, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = (Arc::clone(&connections), Arc::clone(&requests));
    tokio::spawn(async move {
        for answers in script {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.0.fetch_add(1, Ordering::Relaxed);
            let requests = Arc::clone(&counted.1);
            tokio::spawn(async move {
                for answer in answers {
                    let mut bytes = [0; 4_096];
                    if stream.read(&mut bytes).await.unwrap() == 0 {
                        return;
                    }
                    requests.fetch_add(1, Ordering::Relaxed);
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (Client::new(&url).unwrap(), connections, requests)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn request(method: Method) -> Request<Bytes> {
    Request::builder().method(method).uri("/").body(Bytes::from("x")).unwrap()
}

#[tokio::test]
async fn a_post_that_may_have_been_received_is_never_repeated() {
    let (client, _, requests) = scripted(vec![vec![""], vec![OK]]).await;
    client.send(request(Method::POST)).await.unwrap_err();
    assert_eq!(requests.load(Ordering::Relaxed), 1);
    // Half an answer is as good as a received request.
    let (client, _, requests) =
        scripted(vec![vec!["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"], vec![OK]]).await;
    client.send(request(Method::POST)).await.unwrap_err();
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_get_is_repeated_until_it_is_answered() {
    let (client, connections, requests) = scripted(vec![vec![""], vec![""], vec![OK]]).await;
    assert_eq!(client.send(request(Method::GET)).await.unwrap().body(), "ok");
    assert_eq!((connections.load(Ordering::Relaxed), requests.load(Ordering::Relaxed)), (3, 3));
    let (client, _, requests) = scripted(vec![vec![""]; 9]).await;
    client.send(request(Method::GET)).await.unwrap_err();
    assert_eq!(requests.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn connections_are_reused_and_a_closed_one_costs_no_post() {
    let (client, connections, requests) = scripted(vec![vec![OK; 5], vec![OK; 5]]).await;
    for _ in 0..5 {
        client.send(request(Method::POST)).await.unwrap();
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    // The first connection has been closed after its fifth answer.
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.send(request(Method::POST)).await.unwrap();
    assert_eq!((connections.load(Ordering::Relaxed), requests.load(Ordering::Relaxed)), (2, 6));
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_for_a_while_only() {
    let (client, connections, requests) = scripted(vec![vec![OK; 9], vec![OK; 9]]).await;
    client.send(request(Method::GET)).await.unwrap();
    tokio::time::advance(LIFE / 2).await;
    client.send(request(Method::GET)).await.unwrap();
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    tokio::time::advance(LIFE / 2).await;
    client.send(request(Method::GET)).await.unwrap();
    assert_eq!((connections.load(Ordering::Relaxed), requests.load(Ordering::Relaxed)), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_migration_waits_for_db() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}");
    let settings = settings(Role::Api, &[("DB_URL", url.as_str())]);
    let migration = crate::api::migrate(&settings);
    let late = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let listener = TcpListener::bind(address).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4_096]).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1").await.unwrap();
    };
    assert_eq!(tokio::join!(migration, late).0, Ok(()));
}

#[tokio::test]
async fn what_cannot_be_reached_is_asked_again_and_then_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = Client::new(&format!("http://{address}").parse::<Uri>().unwrap()).unwrap();
    let error = client.send(request(Method::POST)).await.unwrap_err();
    assert!(error.contains("cannot connect"), "{error}");
    let late = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let listener = TcpListener::bind(address).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4_096]).await.unwrap() > 0);
        stream.write_all(OK.as_bytes()).await.unwrap();
    });
    assert_eq!(client.send(request(Method::POST)).await.unwrap().body(), "ok");
    late.await.unwrap();
}
