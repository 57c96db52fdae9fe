//! What the apps write.

use std::time::Duration;

use tokio::time::Instant;

use super::{Outcome, STEP_TIME, Tour, so};
use crate::control::Ask;
use crate::http::Connection;

/// A request of which nobody should read the whole: somebody's address is in it.
const PATH: &str = "/api/customers/ann@example.com";

impl Tour<'_> {
    /// A line is seen as it is born, and stored, without what nobody should read; another tenant finds none of it; and whoever
    /// is on call was told of the revision that failed.
    pub(super) async fn lines(&mut self) -> Outcome {
        let began = Instant::now();
        let born = self.born().await?;
        let took = began.elapsed();
        is_redacted(&born)?;
        so("the line is stored", STEP_TIME, async || Ok(!self.found("customers", false).await?.is_empty()))
            .await?;
        is_redacted(&self.found("customers", false).await?)?;
        for (query, stranger) in [("example.com", false), ("customers", true)] {
            let found = self.found(query, stranger).await?;
            if !found.is_empty() {
                return Err(format!("nobody should find {query:?}, and there is {found:?}"));
            }
        }
        so("an alert is told", STEP_TIME, async || {
            let told = self.client.ask(&Ask::Alerts).await?;
            Ok(told.as_array().is_some_and(|told| !told.is_empty()))
        })
        .await?;
        let notes =
            format!("seen after {} ms, redacted, found, told to nobody else; alert told", took.as_millis());
        self.note("log lines", began, &notes);
        Ok(())
    }

    /// Asks for a page until a line of it is seen.
    async fn born(&mut self) -> Outcome<Vec<String>> {
        let request = format!("GET {PATH} HTTP/1.1\r\nhost: {}\r\n\r\n", self.target.host);
        let ask = Ask::Tail { query: "customers".to_owned(), seconds: STEP_TIME.as_secs() };
        let seen = self.client.ask_within(&ask, STEP_TIME + Duration::from_secs(5));
        let address = self.target.address;
        let requests = async {
            loop {
                let mut connection = Connection::open(address).await.map_err(|error| error.to_string())?;
                connection.exchange(request.as_bytes()).await.map_err(|error| error.to_string())?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            seen = seen => seen.map(|lines| texts(&lines)),
            failed = requests => failed,
        }
    }

    async fn found(&mut self, query: &str, stranger: bool) -> Outcome<Vec<String>> {
        let found = self.client.ask(&Ask::Search { query: query.to_owned(), stranger }).await?;
        Ok(texts(&found))
    }
}

fn texts(lines: &serde_json::Value) -> Vec<String> {
    lines.as_array().into_iter().flatten().filter_map(|line| line.as_str()).map(str::to_owned).collect()
}

fn is_redacted(lines: &[String]) -> Outcome {
    let holds = |line: &String| line.contains("[redacted:email]") && !line.contains("example.com");
    if lines.iter().all(holds) { Ok(()) } else { Err(format!("an address is not taken out: {lines:?}")) }
}
