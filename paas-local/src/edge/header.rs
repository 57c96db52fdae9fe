//! Headers that end at the proxy, and those that it adds.

use hyper::HeaderMap;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};

use super::upstream::KEEP_ALIVE;

const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Removes what concerns one connection only: the well-known headers and those that `Connection` lists. Returns the
/// `Upgrade` that was asked for or granted.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let mut upgrade = None;
    if headers.contains_key(CONNECTION) {
        let mut listed: Vec<HeaderName> = Vec::new();
        for value in headers.get_all(CONNECTION) {
            let names = value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii);
            listed.extend(names.filter_map(|name| HeaderName::from_bytes(name).ok()));
        }
        if listed.contains(&UPGRADE) {
            upgrade = headers.remove(UPGRADE);
        }
        // What frames or routes the message is not the sender's to remove.
        for name in listed.iter().filter(|name| **name != HOST && **name != CONTENT_LENGTH) {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [&KEEP_ALIVE, &PROXY_CONNECTION, &TRANSFER_ENCODING, &UPGRADE] {
        headers.remove(name);
    }
    upgrade
}

/// Prepares a request's headers for an instance. Returns the protocol that the client wants to upgrade to.
pub(crate) fn prepare_request(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let trailers = headers.get(TE).is_some_and(|te| contains_token(te.as_bytes(), b"trailers"));
    let upgrade = strip_hop_by_hop(headers);
    headers.remove(TE);
    headers.remove(PROXY_AUTHORIZATION);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(upgrade) = &upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade.clone());
    }
    upgrade
}

/// Prepares an answer's headers for the client; the `Upgrade` of a 101 stays.
pub(crate) fn prepare_answer(headers: &mut HeaderMap, switching: bool) {
    let upgrade = strip_hop_by_hop(headers);
    headers.remove(PROXY_AUTHENTICATE);
    if let (true, Some(upgrade)) = (switching, upgrade) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade);
    }
}

/// Says who the client is and what it asked for. Headers of clients that nobody vouches for are replaced; behind a
/// trusted proxy, and between services, the address is appended and the rest is kept.
pub(crate) fn forwarded(headers: &mut HeaderMap, ip: &HeaderValue, trusted: bool) {
    let host = headers.get(HOST).cloned();
    if !trusted {
        headers.remove(FORWARDED);
        headers.remove(X_REAL_IP);
        headers.insert(X_FORWARDED_FOR, ip.clone());
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
        match host {
            Some(host) => headers.insert(X_FORWARDED_HOST, host),
            None => headers.remove(X_FORWARDED_HOST),
        };
        return;
    }
    let chain = headers.get_all(X_FORWARDED_FOR).iter().fold(Vec::new(), |mut chain, value| {
        chain.extend_from_slice(value.as_bytes());
        chain.extend_from_slice(b", ");
        chain
    });
    let chain = [&chain, ip.as_bytes()].concat();
    headers.insert(X_FORWARDED_FOR, HeaderValue::from_bytes(&chain).unwrap_or_else(|_| ip.clone()));
    headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    if let Some(host) = host {
        headers.entry(X_FORWARDED_HOST).or_insert(host);
    }
}

/// Whether a comma-separated list has a token, in any case and with any parameters.
fn contains_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|b| *b == b',')
        .filter_map(|item| item.split(|b| *b == b';').next())
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}
