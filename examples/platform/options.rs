//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
A platform on this machine that runs the sample app `shop`.

usage: cargo run --release --example platform -- [options]

  --data DIR      where everything is kept (default ./data)
  --listen ADDR   where domains are served (default 127.0.0.1:8080; port 0 takes a free one and keeps it)
  --keep          leave the apps running at the end; the next start adopts them
  --tour          show releases, rollbacks and crashes under load, on a platform of its own, and check every answer
  --help          this text
";

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) data: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) keep: bool,
    pub(crate) tour: bool,
    pub(crate) help: bool,
}

impl Options {
    /// Reads the arguments after the program's name.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            data: "data".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            keep: false,
            tour: false,
            help: false,
        };
        let mut arguments = arguments.peekable();
        let mut placed = false;
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
                "--data" => (options.data, placed) = (value("a directory")?.into(), true),
                "--listen" => {
                    let text = value("an address like 127.0.0.1:8080")?;
                    let wrong = |_| format!("{text:?} is not an address like 127.0.0.1:8080");
                    (options.listen, placed) = (text.parse().map_err(wrong)?, true);
                }
                "--keep" => options.keep = true,
                "--tour" => options.tour = true,
                "--help" | "-h" => options.help = true,
                other => return Err(format!("there is no option {other:?}")),
            }
            if given.is_some() {
                return Err(format!("{flag} takes no value"));
            }
        }
        if options.tour && (placed || options.keep) {
            return Err("--tour brings its own directory and port; it goes with no other option".to_owned());
        }
        Ok(options)
    }
}
