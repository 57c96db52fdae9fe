//! The way to a cluster.

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Config, Resource};
use paas_core::{Error, ErrorKind, Result};

use crate::error::failed;
use crate::{answer, label};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take that nobody else waits for with a deadline.
const ANSWER: Duration = Duration::from_secs(10);

/// Which cluster, and what of it is the platform's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionConfig {
    /// Tells platforms on one cluster apart: the value of a label on everything that is ours. A DNS label.
    pub platform: String,
    /// The namespace of what belongs to the platform itself; made where it is missing.
    pub namespace: String,
    /// A kubeconfig file. Without it, `KUBECONFIG`, `~/.kube/config`, then the service account of the pod this runs in.
    pub kubeconfig: Option<std::path::PathBuf>,
    /// Which context of the kubeconfig; without it, its current one.
    pub context: Option<String>,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self { platform: "paas".into(), namespace: "paas-system".into(), kubeconfig: None, context: None }
    }
}

impl ConnectionConfig {
    /// Another platform on the same cluster, in a namespace of its own name.
    #[must_use]
    pub fn platform(mut self, name: impl Into<String>) -> Self {
        self.platform = name.into();
        self.namespace.clone_from(&self.platform);
        self
    }

    async fn config(&self) -> Result<Config> {
        let unusable = |cause| {
            let file = match &self.kubeconfig {
                Some(path) => path.display().to_string(),
                None => std::env::var("KUBECONFIG").unwrap_or_else(|_| "~/.kube/config".to_owned()),
            };
            let error = Error::invalid("the kubeconfig cannot be used").with("file", file);
            error.with("context", self.context()).with_source(cause)
        };
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let file = match &self.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let mut config = match file {
            Ok(file) => Config::from_custom_kubeconfig(file, &options).await.map_err(unusable)?,
            Err(cause) if is_missing(&cause) && !self.is_named(std::env::var_os("KUBECONFIG")) => {
                Config::incluster().map_err(|cause| {
                    Error::invalid("no cluster: neither a kubeconfig nor a pod's service account is there")
                        .with_source(cause)
                })?
            }
            Err(cause) => return Err(unusable(cause)),
        };
        config.connect_timeout = Some(CONNECT);
        config.write_timeout = Some(CONNECT);
        // The guard retries, and knows which calls may be repeated.
        config.default_retry = false;
        Ok(config)
    }

    /// Whether somebody has said which kubeconfig is to be used, or what of it.
    fn is_named(&self, variable: Option<OsString>) -> bool {
        let is_set = variable.is_some_and(|paths| !paths.is_empty());
        is_set || self.kubeconfig.is_some() || self.context.is_some()
    }

    fn context(&self) -> &str {
        self.context.as_deref().unwrap_or("the current one")
    }
}

/// Whether there is no kubeconfig, as opposed to one that is broken.
fn is_missing(cause: &KubeconfigError) -> bool {
    match cause {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(cause, _) => cause.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// A connection to a cluster's API server, shared by all backends. Cheap to clone.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    config: Arc<ConnectionConfig>,
}

/// A server may take a connection, and never say a word.
async fn in_time<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(ANSWER, answer).await.unwrap_or_else(|_| {
        let late = Error::new(ErrorKind::Timeout, "the API server gives no answer in time");
        Err(late.with("seconds", ANSWER.as_secs()))
    })
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, and makes the platform's namespace where it is missing.
    ///
    /// # Errors
    /// `Invalid` where the configuration cannot be used, `Unavailable` where the API server cannot be reached,
    /// `Timeout` where it does not answer, `Denied` where it does not let us.
    pub async fn connect(config: ConnectionConfig) -> Result<Self> {
        let cluster = config.config().await?;
        let server = cluster.cluster_url.to_string();
        let client = ClientBuilder::try_from(cluster)
            .map_err(|cause| failed(cause, "connect").with("platform", &config.platform))?;
        Self::from_client(client.build(), config).await.map_err(|error| error.with("server", server))
    }

    /// As [`Connection::connect`], over a client that the caller has set up. Its retries should be switched off: the
    /// guard knows which calls may be repeated.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    pub async fn from_client(client: Client, config: ConnectionConfig) -> Result<Self> {
        for (what, word) in [("platform", &config.platform), ("namespace", &config.namespace)] {
            label::check_dns_label(what, word)?;
        }
        let connection = Self { client: answer::telling(client), config: Arc::new(config) };
        in_time(connection.ensure_namespace()).await?;
        Ok(connection)
    }

    /// Whether the API server answers.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout` or `Denied`.
    pub async fn check(&self) -> Result<()> {
        let version = async {
            self.client.apiserver_version().await.map_err(|cause| failed(cause, "ask for the version"))
        };
        in_time(version).await.map(drop)
    }

    async fn ensure_namespace(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let name = &self.config.namespace;
        let found = namespaces.get_metadata_opt(name).await;
        if found.map_err(|cause| failed(cause, "read").with("namespace", name))?.is_some() {
            return Ok(());
        }
        let namespace = Namespace {
            metadata: kube::api::ObjectMeta {
                name: Some(name.clone()),
                labels: Some(label::ours(self.platform())),
                ..Default::default()
            },
            ..Default::default()
        };
        let apply = PatchParams::apply(label::MANAGER);
        let made = namespaces.patch(name, &apply, &Patch::Apply(&namespace)).await;
        made.map(drop).map_err(|cause| failed(cause, "make").with("namespace", name))
    }

    pub(crate) fn platform(&self) -> &str {
        &self.config.platform
    }

    /// The namespace of what belongs to the platform itself.
    pub(crate) fn namespace(&self) -> &str {
        &self.config.namespace
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Objects of the whole cluster; of those that live in namespaces, the ones of all namespaces.
    pub(crate) fn cluster<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = ()>,
    {
        Api::all(self.client.clone())
    }

    /// Objects of one namespace.
    pub(crate) fn within<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Objects of a kind that is named at run time.
    pub(crate) fn dynamic(&self, kind: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, kind)
    }

    /// Objects of a kind that is named at run time, of every namespace.
    pub(crate) fn all_dynamic(&self, kind: &ApiResource) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), kind)
    }

    /// What selects everything of this platform.
    pub(crate) fn selector(&self) -> String {
        format!("{}={}", label::PLATFORM, self.platform())
    }

    /// Objects of the platform itself.
    pub(crate) fn own<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        self.within(self.namespace())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::header::{CONTENT_TYPE, RETRY_AFTER};
    use http::{Request, Response};
    use http_body_util::Full;
    use kube::client::Body;
    use serde_json::Value;

    use super::*;

    /// An API server of the test's own: what it answers to each request, a status and an object.
    pub(crate) fn served(
        answer: impl Fn(&Request<Body>) -> (u16, Value) + Clone + Send + 'static,
    ) -> Connection {
        let service = tower::service_fn(move |request: Request<Body>| {
            let (code, object) = answer(&request);
            let body = Full::new(Bytes::from(object.to_string()));
            let answer = Response::builder().status(code).header(CONTENT_TYPE, "application/json").body(body);
            async move { Ok::<_, Infallible>(answer.unwrap()) }
        });
        let client = Client::new(service, "default");
        Connection { client, config: Arc::new(ConnectionConfig::default()) }
    }

    #[tokio::test]
    async fn a_kubeconfig_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let broken = folder.path().join("broken");
        std::fs::write(&broken, "garbage: [").unwrap();
        for path in [broken, folder.path().join("missing")] {
            let kubeconfig = Some(path.clone());
            let config = ConnectionConfig { kubeconfig, ..ConnectionConfig::default() };
            let error = Connection::connect(config).await.unwrap_err();
            assert_eq!(error.message(), "the kubeconfig cannot be used");
            assert_eq!(error.context("file"), path.to_str());
        }
        let missing = |kind| KubeconfigError::ReadConfig(std::io::Error::from(kind), "here".into());
        assert!(is_missing(&missing(std::io::ErrorKind::NotFound)) && is_missing(&KubeconfigError::FindPath));
        assert!(!is_missing(&missing(std::io::ErrorKind::PermissionDenied)));
    }

    #[test]
    fn a_kubeconfig_that_somebody_has_named_is_not_passed_over() {
        let config = ConnectionConfig::default();
        assert!(config.is_named(Some("/missing".into())));
        assert!(!config.is_named(None) && !config.is_named(Some("".into())));
        let context = ConnectionConfig { context: Some("a".into()), ..ConnectionConfig::default() };
        assert!(context.is_named(None));
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_reached_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        let nowhere = "{clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}], \
            contexts: [{name: a, context: {cluster: a, user: a}}], users: [{name: a}], current-context: a}";
        std::fs::write(&file, nowhere).unwrap();
        let config = ConnectionConfig { kubeconfig: Some(file), ..ConnectionConfig::default() };
        let error = Connection::connect(config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.context("server"), Some("http://127.0.0.1:1/"));
    }

    #[tokio::test]
    async fn a_client_of_the_callers_own_hears_when_to_come_again() {
        let service = tower::service_fn(|_: Request<Body>| async {
            let busy = Response::builder().status(429).header(CONTENT_TYPE, "text/plain");
            Ok::<_, Infallible>(busy.header(RETRY_AFTER, "7").body(Full::new(Bytes::from("busy"))).unwrap())
        });
        let client = Client::new(service, "default");
        let error = Connection::from_client(client, ConnectionConfig::default()).await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "{error:?}");
    }
}
