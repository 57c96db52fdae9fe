//! What a gateway says of an HTTPRoute.

use std::fmt::Write;

use kube::api::DynamicObject;
use serde::Deserialize;

/// Longest text that is passed on: whoever writes a status decides how long it is.
const LONGEST: usize = 500;
/// What must hold of a route. There are others, of which nobody knows whether they should.
const NEEDED: [&str; 2] = ["Accepted", "ResolvedRefs"];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    parents: Vec<Parent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Parent {
    parent_ref: ParentRef,
    conditions: Vec<Condition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ParentRef {
    name: String,
    section_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Condition {
    r#type: String,
    status: String,
    reason: String,
    message: String,
    observed_generation: Option<i64>,
}

/// Why a route is refused: the first of what its gateways say of it as it is now. What they said of it as it was before
/// counts no more, and one that has said nothing yet has not refused it.
pub(super) fn refusal(route: &DynamicObject) -> Option<String> {
    let status: Status = serde_json::from_value(route.data.get("status")?.clone()).ok()?;
    let now = route.metadata.generation;
    let is_of_now = |said: &Condition| said.observed_generation.is_none() || said.observed_generation >= now;
    let refuses = |said: &&Condition| {
        NEEDED.contains(&said.r#type.as_str()) && said.status == "False" && is_of_now(said)
    };
    let (parent, said) = status
        .parents
        .iter()
        .find_map(|parent| Some((&parent.parent_ref, parent.conditions.iter().find(refuses)?)))?;
    let mut text = format!("the gateway {}", parent.name);
    if let Some(listener) = &parent.section_name {
        // Writing to a text cannot fail.
        let _ = write!(text, ", listener {listener}");
    }
    let _ = write!(text, ", says {}: {}", said.reason, said.message);
    Some(text.trim_end_matches([':', ' ']).chars().take(LONGEST).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(generation: i64, parents: &Value) -> Option<String> {
        let route = json!({
            "metadata": { "name": "s-1", "generation": generation },
            "status": { "parents": parents },
        });
        refusal(&serde_json::from_value(route).unwrap())
    }

    fn condition(kind: &str, status: &str, generation: i64) -> Value {
        let (reason, message) = ("NoMatchingParent", "no such listener");
        json!({ "type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": generation })
    }

    #[test]
    fn a_gateway_that_refuses_a_route_says_why() {
        let parents = json!([
            { "parentRef": { "name": "public" }, "conditions": [condition("Accepted", "True", 2)] },
            {
                "parentRef": { "name": "public", "sectionName": "https" },
                "conditions": [condition("Accepted", "True", 2), condition("ResolvedRefs", "False", 2)],
            },
        ]);
        let expected = "the gateway public, listener https, says NoMatchingParent: no such listener";
        assert_eq!(told(2, &parents).as_deref(), Some(expected));
    }

    #[test]
    fn what_was_said_of_an_older_route_or_of_other_things_counts_not() {
        for (conditions, is_refused) in [
            (json!([condition("Accepted", "False", 2)]), true),
            (json!([condition("Accepted", "False", 1)]), false),
            (json!([condition("Accepted", "Unknown", 2)]), false),
            (json!([condition("PartiallyInvalid", "False", 2)]), false),
            (json!([]), false),
        ] {
            let parents = json!([{ "parentRef": { "name": "public" }, "conditions": conditions }]);
            assert_eq!(told(2, &parents).is_some(), is_refused, "{conditions}");
        }
    }

    #[test]
    fn no_status_is_a_panic_and_none_is_long() {
        for status in
            [json!(null), json!([]), json!({ "parents": 1 }), json!({ "parents": [{ "conditions": [1] }] })]
        {
            let route = json!({ "metadata": { "name": "s-1" }, "status": status });
            assert_eq!(refusal(&serde_json::from_value(route).unwrap()), None);
        }
        let mut long = condition("Accepted", "False", 2);
        long["message"] = json!("é".repeat(100_000));
        let text = told(2, &json!([{ "parentRef": { "name": "public" }, "conditions": [long] }])).unwrap();
        assert_eq!(text.chars().count(), LONGEST);
    }
}
