//! The token that whoever sends shows.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap};
use paas_core::model::Secret;

/// A longer header is nobody's.
const LONGEST: usize = 1_024;

/// The token in `Authorization`: as a bearer, as an API key (in base64 with an id before it, too), or as a password.
pub(super) fn token(headers: &HeaderMap) -> Option<Secret> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(header), None) = (all.next(), all.next()) else { return None };
    let text = header.to_str().ok().filter(|text| text.len() <= LONGEST)?;
    let (scheme, shown) = text.split_once(' ')?;
    let shown = shown.trim();
    let token = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => shown.as_bytes().to_vec(),
        "apikey" => after_colon(shown).unwrap_or_else(|| shown.as_bytes().to_vec()),
        "basic" => after_colon(shown)?,
        _ => return None,
    };
    Secret::new(token).ok()
}

/// What stands behind the colon of a text in base64.
fn after_colon(shown: &str) -> Option<Vec<u8>> {
    let mut text = STANDARD.decode(shown).ok()?;
    let colon = text.iter().position(|byte| *byte == b':')?;
    Some(text.split_off(colon + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_where_agents_put_it() {
        let packed = |text: &str| STANDARD.encode(text);
        for (header, expected) in [
            ("Bearer paaslog_1".to_owned(), Some("paaslog_1")),
            ("bearer  paaslog_1 ".to_owned(), Some("paaslog_1")),
            ("ApiKey paaslog_1".to_owned(), Some("paaslog_1")),
            (format!("ApiKey {}", packed("id:paaslog_1")), Some("paaslog_1")),
            (format!("Basic {}", packed("anybody:paaslog_1")), Some("paaslog_1")),
            (format!("Basic {}", packed("paaslog_1")), None),
            ("Digest paaslog_1".to_owned(), None),
            ("paaslog_1".to_owned(), None),
            (format!("Bearer {}", "x".repeat(2_000)), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, header.parse().unwrap());
            let found = token(&headers);
            assert_eq!(found.as_ref().map(Secret::expose), expected.map(str::as_bytes), "{header}");
        }
        let mut twice = HeaderMap::new();
        twice.append(AUTHORIZATION, "Bearer a".parse().unwrap());
        twice.append(AUTHORIZATION, "Bearer b".parse().unwrap());
        assert!(token(&twice).is_none() && token(&HeaderMap::new()).is_none());
    }
}
