//! The command line.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What only a cluster needs to know.
const OF_CLUSTER: &[&str] = &["--platform", "--gateway", "--address", "--images"];
/// What the tour decides itself.
const OF_ITS_OWN: &[&str] = &["--data", "--listen", "--domain", "--platform", "--keep"];

pub(crate) const USAGE: &str = "\
A platform on this machine, or on a Kubernetes cluster, that runs the sample app `shop`.

usage: cargo run --release --example platform -- [options]

  --data DIR      where everything is kept (default ./data)
  --listen ADDR   where domains are served (default 127.0.0.1:8080; port 0 takes a free one and keeps it)
  --domain NAME   the public name of the shop (default shop.localhost)
  --keep          leave the apps running at the end; the next start adopts them
  --tour          show releases, rollbacks and crashes under load, on a platform of its own, and check every answer
  --help          this text

On the cluster of your kubeconfig (cargo run --release --features kubernetes --example platform -- --kubernetes ...):

  --kubernetes          run everything there; DIR keeps the audit log only
  --platform NAME       the platform's name and namespace there (default shop)
  --gateway NS/NAME     the Gateway that publishes domains (default $PAAS_GATEWAY, else the only one there is)
  --address HOST:PORT   where that Gateway answers (default: what it says of itself, port 80)
  --images PREFIX       the registry and folder of the images shop-db:1, shop-api:1 and shop-web:1 (default $PAAS_IMAGES,
                        else none: the nodes have them)
";

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) data: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) domain: Option<String>,
    pub(crate) keep: bool,
    pub(crate) tour: bool,
    pub(crate) help: bool,
    /// Where everything runs, unless that is this machine.
    pub(crate) cluster: Option<ClusterOptions>,
}

/// What only a cluster needs to know.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterOptions {
    pub(crate) platform: Option<String>,
    pub(crate) gateway: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) images: Option<String>,
}

impl Options {
    /// Reads the arguments after the program's name.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            data: "data".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            domain: None,
            keep: false,
            tour: false,
            help: false,
            cluster: None,
        };
        let mut cluster = ClusterOptions::default();
        let mut said = BTreeSet::new();
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let (flag, mut given) = match argument.split_once('=') {
                Some((flag, value)) if flag.starts_with("--") => (flag.to_owned(), Some(value.to_owned())),
                _ => (argument, None),
            };
            let mut value = |what: &str| {
                let value = given.take().or_else(|| arguments.next_if(|next| !next.starts_with("--")));
                value.filter(|value| !value.is_empty()).ok_or_else(|| format!("{flag} needs {what}"))
            };
            match flag.as_str() {
                "--data" => options.data = value("a directory")?.into(),
                "--listen" => {
                    let text = value("an address like 127.0.0.1:8080")?;
                    let wrong = |_| format!("{text:?} is not an address like 127.0.0.1:8080");
                    options.listen = text.parse().map_err(wrong)?;
                }
                "--domain" => options.domain = Some(value("a name like shop.example.com")?),
                "--platform" => cluster.platform = Some(value("a name like shop")?),
                "--gateway" => cluster.gateway = Some(value("a Gateway like default/public")?),
                "--address" => cluster.address = Some(value("an address like 192.0.2.1:80")?),
                "--images" => cluster.images = Some(value("a prefix like registry.example.com/shop")?),
                "--kubernetes" => options.cluster = Some(ClusterOptions::default()),
                "--keep" => options.keep = true,
                "--tour" => options.tour = true,
                "--help" | "-h" => options.help = true,
                other => return Err(format!("there is no option {other:?}")),
            }
            if given.is_some() {
                return Err(format!("{flag} takes no value"));
            }
            said.insert(flag);
        }
        let first = |flags: &[&'static str]| flags.iter().find(|flag| said.contains(**flag)).copied();
        match first(OF_CLUSTER) {
            Some(flag) if options.cluster.is_none() => {
                return Err(format!("{flag} goes with --kubernetes only"));
            }
            _ => options.cluster = options.cluster.map(|_| cluster),
        }
        if options.cluster.is_some() && !cfg!(feature = "kubernetes") {
            return Err("this program was built without the feature `kubernetes`: see --help".to_owned());
        }
        match (first(OF_ITS_OWN), first(&["--listen"])) {
            (Some(flag), _) if options.tour => {
                Err(format!("--tour brings a platform and a place of its own; {flag} does not go with it"))
            }
            (_, Some(flag)) if options.cluster.is_some() => {
                Err(format!("a cluster serves domains at its Gateway; {flag} does not go with --kubernetes"))
            }
            _ => Ok(options),
        }
    }
}
