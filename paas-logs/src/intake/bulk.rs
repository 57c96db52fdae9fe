//! Elasticsearch's `_bulk`: a line says what to do, and the next one has the record.

use super::json::{Json, Malformed};
use super::lines::Refused;
use super::record::Record;
use super::sorted::Sorted;

/// What somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Index,
    Update,
    Delete,
}

impl Action {
    fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"create" => Self::Create,
            b"index" => Self::Index,
            b"update" => Self::Update,
            b"delete" => Self::Delete,
            _ => return None,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Index => "index",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// What became of one of the things that were asked for: why not, where it was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    action: Action,
    refused: Option<String>,
}

/// Reads records, and sorts them by where they come from. One that is none is refused for itself.
pub(crate) fn bulk(body: &[u8], sorted: &mut Sorted) -> Result<Vec<Item>, Refused> {
    let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let (mut record, mut items) = (Record::default(), Vec::new());
    while let Some(line) = lines.next() {
        let action = action(line).map_err(|wrong| Refused::record(line, items.len() + 1, wrong))?;
        if action == Action::Delete {
            items.push(Item::refused(action, "lines are not deleted"));
            continue;
        }
        let Some(line) = lines.next() else {
            return Err(Refused::Body("the record of the last action is missing"));
        };
        if action == Action::Update {
            items.push(Item::refused(action, "lines are not changed; use `create`"));
            continue;
        }
        let mut json = Json::new(line);
        match record.read(&mut json, sorted.read()).and_then(|()| json.end()) {
            Ok(()) => {
                sorted.push(&record)?;
                items.push(Item { action, refused: None });
            }
            Err(wrong) => {
                items.push(Item::refused(action, format!("{}, in column {}", wrong.why, wrong.at + 1)));
            }
        }
    }
    Ok(items)
}

fn action(line: &[u8]) -> Result<Action, Malformed> {
    let (mut json, mut found) = (Json::new(line), None);
    json.members(|json, name| {
        found = match found {
            None => Action::of(name),
            Some(_) => return Err(Malformed { at: json.at(), why: "a line has one action" }),
        };
        json.skip().map(drop)
    })?;
    json.end()?;
    found.ok_or(Malformed { at: 0, why: "an action is `create` or `index`" })
}

impl Item {
    fn refused(action: Action, why: impl Into<String>) -> Self {
        Self { action, refused: Some(why.into()) }
    }
}

/// What is answered, after so many milliseconds.
pub(super) fn answer(items: &[Item], took: u128) -> String {
    let errors = items.iter().any(|item| item.refused.is_some());
    let mut text = format!(r#"{{"took":{took},"errors":{errors},"items":["#);
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        let action = item.action.as_str();
        text.push_str(&match &item.refused {
            None => format!(r#"{{"{action}":{{"_index":"logs","_id":"","status":201,"result":"created"}}}}"#),
            Some(why) => {
                let why = serde_json::Value::from(why.as_str());
                let error = format!(r#"{{"type":"illegal_argument_exception","reason":{why}}}"#);
                format!(r#"{{"{action}":{{"_index":"logs","_id":"","status":400,"error":{error}}}}}"#)
            }
        });
    }
    text.push_str("]}");
    text
}

#[cfg(test)]
mod tests {
    use paas_core::model::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn sorted() -> Sorted {
        Sorted::new(Timestamp(1_800_000_000_000), false, 3)
    }

    #[test]
    fn each_item_is_taken_or_refused_for_itself() {
        let body = br#"{"create":{"_index":"a"}}
{"message":"one"}
{"update":{"_id":"1"}}
{"doc":{}}
{"delete":{"_id":"1"}}

{"index":{}}
{"message":"two}
{"index":{}}
{"message":"three"}"#;
        let mut sorted = sorted();
        let items = bulk(body, &mut sorted).unwrap();
        let text: Vec<u8> = sorted.groups().flat_map(|(_, _, draft)| draft.text.clone()).collect();
        assert_eq!(text, b"one\nthree\n");
        let answer: serde_json::Value = serde_json::from_str(&answer(&items, 7)).unwrap();
        assert_eq!((&answer["took"], &answer["errors"]), (&7.into(), &true.into()));
        let statuses: Vec<_> = answer["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| {
                let (action, outcome) = item.as_object().unwrap().iter().next().unwrap();
                (action.clone(), outcome["status"].as_u64().unwrap())
            })
            .collect();
        let expected = [("create", 201), ("update", 400), ("delete", 400), ("index", 400), ("index", 201)];
        assert_eq!(statuses, expected.map(|(action, status)| (action.to_owned(), status)));
        assert_eq!(answer["items"][3]["index"]["error"]["reason"], "a string has no end, in column 17");
    }

    #[test]
    fn a_body_whose_actions_cannot_be_read_is_refused_as_a_whole() {
        let refused = |body: &str| bulk(body.as_bytes(), &mut sorted()).unwrap_err();
        assert!(matches!(refused("{\"create\":{}}\n"), Refused::Body(_)));
        let why = "an action is `create` or `index`";
        assert_eq!(refused("{\"message\":\"x\"}\n"), Refused::Record { record: 1, column: 1, why });
        assert!(matches!(refused("x\n"), Refused::Record { .. }));
        assert!(matches!(refused("{\"create\":{},\"index\":{}}\n{}"), Refused::Record { .. }));
        assert_eq!(refused(&"{\"index\":{}}\n{}\n".repeat(4)), Refused::TooMany);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(like in "([{]\"(create|index|delete|x)\":[{][}][}]?\n|[{}\"a:\n]){0,9}", bytes: Vec<u8>) {
            for body in [like.as_bytes(), &bytes] {
                if let Ok(items) = bulk(body, &mut sorted()) {
                    serde_json::from_str::<serde_json::Value>(&answer(&items, 0)).unwrap();
                }
            }
        }
    }
}
