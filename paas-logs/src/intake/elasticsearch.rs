//! What agents that are made for Elasticsearch ask before they send.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Response, StatusCode};

use super::answer::{self, Refusal};

/// The release whose `_bulk` this is like. Agents ask for it to know how to send.
const ROOT: &str = r#"{"name":"paas","cluster_name":"paas","cluster_uuid":"paas","version":{"number":"8.17.0","build_flavor":"default","build_type":"paas","build_hash":"unknown","build_date":"2025-01-01T00:00:00Z","build_snapshot":false,"lucene_version":"9.12.0","minimum_wire_compatibility_version":"7.17.0","minimum_index_compatibility_version":"7.0.0"},"tagline":"You Know, for Search"}"#;
const LICENSE: &str = r#"{"license":{"uid":"paas","type":"basic","status":"active"}}"#;
const XPACK: &str = r#"{"license":{"uid":"paas","type":"basic","mode":"basic","status":"active"},"features":{"ilm":{"available":false,"enabled":false},"security":{"available":true,"enabled":true}}}"#;
const HEALTH: &str = r#"{"cluster_name":"paas","status":"green","timed_out":false,"number_of_nodes":1,"number_of_data_nodes":1}"#;

/// Answers what agents ask; there is nothing else here.
pub(super) fn answer(method: &Method, parts: &[&str]) -> Result<Response<Full<Bytes>>, Refusal> {
    let text = match parts {
        [] => ROOT,
        ["_license"] => LICENSE,
        ["_xpack"] => XPACK,
        ["_cluster", "health"] => HEALTH,
        _ => {
            let why = "there is nothing here: send lines to `/v1/lines`, `/_bulk` or `/v1/logs`; indices, templates and policies \
                       are not needed, so switch their setup off";
            return Err(Refusal::new(StatusCode::NOT_FOUND, why));
        }
    };
    if method == Method::GET || method == Method::HEAD {
        Ok(answer::json(StatusCode::OK, text))
    } else {
        Err(Refusal::method("GET"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_json() {
        for text in [ROOT, LICENSE, XPACK, HEALTH] {
            serde_json::from_str::<serde_json::Value>(text).unwrap();
        }
        assert_eq!(answer(&Method::GET, &["_ilm", "policy", "x"]).unwrap_err().status, StatusCode::NOT_FOUND);
        assert_eq!(answer(&Method::POST, &[]).unwrap_err().status, StatusCode::METHOD_NOT_ALLOWED);
    }
}
