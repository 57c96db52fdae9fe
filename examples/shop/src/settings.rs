//! What a service reads from its environment.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;

use crate::trouble::{Trouble, duration};

/// Which of the three it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Db,
    Api,
    Web,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Db => "db",
            Self::Api => "api",
            Self::Web => "web",
        })
    }
}

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) role: Role,
    /// `BIND` and `PORT`: where it listens. The port is not needed by a command that only runs to its end.
    pub(crate) listen: SocketAddr,
    /// `VERSION`, or `dev`.
    pub(crate) version: String,
    /// `DB_URL` of `api`, `API_URL` of `web`.
    pub(crate) upstream: Option<Uri>,
    /// `VOLUME_DATA` of `db`.
    pub(crate) data: Option<PathBuf>,
    /// `BANNER`: a line above the page of `web`.
    pub(crate) banner: String,
    /// `GRACE`: how long requests in flight may take after TERM.
    pub(crate) grace: Duration,
    pub(crate) trouble: Trouble,
}

impl Settings {
    pub(crate) fn read(
        role: Role,
        task: bool,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let needed = |name: &str| lookup(name).ok_or_else(|| format!("the variable {name} is not set"));
        let url = |name: &str| {
            let text = needed(name)?;
            let uri: Uri = text.parse().map_err(|_| format!("{name} is no URL"))?;
            match (uri.scheme_str(), uri.host(), uri.path()) {
                (Some("http"), Some(_), "/" | "") => Ok(uri),
                _ => Err(format!("{name} is a URL like http://127.0.0.1:8080, without a path")),
            }
        };
        let port = match lookup("PORT") {
            None if task => 0,
            None => return Err("the variable PORT is not set".to_owned()),
            Some(text) => text.parse().map_err(|_| "PORT is a number from 0 to 65535".to_owned())?,
        };
        let bind = lookup("BIND").map_or(Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)), |text| {
            text.parse().map_err(|_| "BIND is an address of this machine, like 0.0.0.0".to_owned())
        })?;
        let version = lookup("VERSION").unwrap_or_else(|| "dev".to_owned());
        if version.is_empty() || version.len() > 100 || !version.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("VERSION is printable ASCII without spaces".to_owned());
        }
        Ok(Self {
            role,
            listen: SocketAddr::new(bind, port),
            version,
            upstream: match role {
                Role::Db => None,
                Role::Api => Some(url("DB_URL")?),
                Role::Web => Some(url("API_URL")?),
            },
            data: if role == Role::Db { Some(needed("VOLUME_DATA")?.into()) } else { None },
            banner: lookup("BANNER").unwrap_or_default(),
            grace: lookup("GRACE").map_or(Ok(Duration::from_secs(8)), |text| duration("GRACE", &text))?,
            trouble: Trouble::read(&lookup)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(role: Role, set: &[(&str, &str)]) -> Result<Settings, String> {
        let lookup =
            |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Settings::read(role, false, lookup)
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let says = |role, set: &[(&str, &str)], part: &str| {
            let message = read(role, set).unwrap_err();
            assert!(message.contains(part), "{message}");
        };
        says(Role::Db, &[], "PORT");
        says(Role::Db, &[("PORT", "1")], "VOLUME_DATA");
        says(Role::Db, &[("PORT", "65536"), ("VOLUME_DATA", "/x")], "PORT");
        says(Role::Db, &[("PORT", "1"), ("BIND", "everywhere")], "BIND");
        says(Role::Api, &[("PORT", "1")], "DB_URL");
        says(Role::Api, &[("PORT", "1"), ("DB_URL", "tcp://x:1")], "DB_URL");
        says(Role::Web, &[("PORT", "1"), ("API_URL", "http://x:1/path")], "API_URL");
        says(Role::Db, &[("PORT", "1"), ("VOLUME_DATA", "/x"), ("VERSION", "a b")], "VERSION");
        says(Role::Db, &[("PORT", "1"), ("VOLUME_DATA", "/x"), ("FAIL_RATE", "20")], "FAIL_RATE");
        assert!(read(Role::Db, &[("PORT", "0"), ("VOLUME_DATA", "/x")]).is_ok());
    }

    #[test]
    fn it_listens_to_its_own_machine_unless_told_otherwise() {
        let listens = |set: &[(&str, &str)]| {
            let all = [&[("PORT", "80"), ("VOLUME_DATA", "/x")], set].concat();
            read(Role::Db, &all).unwrap().listen.to_string()
        };
        assert_eq!(listens(&[]), "127.0.0.1:80");
        assert_eq!(listens(&[("BIND", "0.0.0.0")]), "0.0.0.0:80");
    }
}
