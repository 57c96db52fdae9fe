//! App files from the outside: what is wrong in one is said in words that are checked in beside it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use std::fs;
use std::path::{Path, PathBuf};

use paas_core::ErrorKind;
use paas_core::model::{AppFile, AppFileError, AppSpec, Command};
use serde_json::{Value, json};

fn wrong_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/app_file/wrong");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

/// `PAAS_BLESS=1 cargo test -p paas-core --test app_file` writes what is said now; look at the difference.
#[test]
fn what_is_said_about_each_wrong_file_is_what_is_checked_in() {
    let files = wrong_files();
    assert!(files.len() > 40);
    for path in files {
        let text = fs::read(&path).unwrap();
        let error = AppFile::parse("paas.yaml", &text).expect_err(&path.to_string_lossy());
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let said = format!("{error}\n");
        let golden = path.with_extension("txt");
        if std::env::var_os("PAAS_BLESS").is_some() {
            fs::write(&golden, &said).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(said, expected, "{}", path.display());
        assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{}", path.display());
        let findings = AppFileError::of(&error).unwrap();
        assert!((1..=paas_core::model::limit::APP_FILE_FINDINGS).contains(&findings.diagnostics().len()));
    }
}

/// `PAAS_BLESS=1` writes it anew.
#[test]
fn the_schema_that_is_checked_in_is_the_one_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/paas.schema.json");
    let schema = format!("{:#}\n", AppSpec::json_schema());
    if std::env::var_os("PAAS_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &schema).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), schema);
}

#[test]
fn every_key_has_a_description() {
    fn look(path: &str, schema: &Value, keys: &mut usize) {
        let Some(map) = schema.as_object() else {
            return schema.as_array().into_iter().flatten().for_each(|item| look(path, item, keys));
        };
        for (name, property) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
            *keys += 1;
            let described = property["description"].as_str().is_some_and(|text| text.len() > 5);
            assert!(described, "{path}/{name}");
        }
        for (name, inner) in map {
            look(&format!("{path}/{name}"), inner, keys);
        }
    }
    let mut keys = 0;
    look("", &AppSpec::json_schema(), &mut keys);
    assert!(keys > 40, "{keys}");
}

const SHOP: &str = include_str!("../../examples/shop/paas.yaml");

#[test]
fn the_schema_takes_what_is_right_and_refuses_what_is_wrong() {
    let schema = AppSpec::json_schema();
    let check = |value: &Value| schema::check(&schema, &schema, value, "");
    let shop = AppFile::parse("paas.yaml", SHOP).unwrap();
    check(&serde_json::to_value(&shop).unwrap()).unwrap();
    let short = json!({
        "app": "shop",
        "services": {
            "db": { "uses": 1 },
            "api": {
                "run": ["./api", "--port", 8080], "port": 8080, "ready": "/ready", "live": { "tcp": true, "every": "5s" },
                "env": { "A": 1, "B": true, "C": "x" }, "limits": { "cpu": "500m", "memory": 1024 },
                "volumes": { "a": "1GiB", "b": { "size": "1GiB", "path": "/b" } },
                "domain": "shop.example.com", "release": "ordered", "before_release": "./api migrate",
            },
            "web": { "image": "web:1", "release": { "canary": ["5%"], "abort_if": [{ "errors": "> 1%" }] } },
        },
        "environments": { "staging": { "services": { "api": { "replicas": 1, "domain": ["a.b"] } } } },
    });
    assert!(check(&short).unwrap_err().contains("/services/db: unknown key uses"));
    let mut right = short.clone();
    right["services"]["db"] = json!({ "build": "./db", "kind": "task" });
    check(&right).unwrap();
    AppFile::parse("paas.json", right.to_string()).unwrap();
    for (pointer, wrong) in [
        ("/app", json!("Shop")),
        ("/services/api/port", json!(0)),
        ("/services/api/port", json!(70_000)),
        ("/services/api/port", json!("80")),
        ("/services/api/ready", json!("ready")),
        ("/services/api/limits/memory", json!("5GB")),
        ("/services/api/live/every", json!(5)),
        ("/services/api/release", json!("canary")),
        ("/services/api/release", json!("often")),
        ("/services/api/volumes/b", json!({ "path": "/b" })),
        ("/services/web/release/canary", json!([5])),
        ("/services/web/release/abort_if/0/errors", json!("1%")),
        ("/environments/staging/services/api/replicas", json!(1_001)),
    ] {
        let mut value = right.clone();
        *value.pointer_mut(pointer).unwrap() = wrong;
        assert!(check(&value).is_err(), "{pointer}");
        assert!(AppFile::parse("paas.json", value.to_string()).is_err(), "{pointer}");
    }
}

#[test]
fn a_file_is_read_with_its_programs_beside_it() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("app_file_read");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("paas.yaml");
    let text = "app: a\nservices:\n  s: { run: ./s ./x, before_release: ../m, live: { command: ./c } }\n  t: { run: sh }\n";
    fs::write(&path, text).unwrap();
    let app = AppFile::read(&path).unwrap();
    let program = |command: &Option<Command>| command.as_ref().unwrap().arguments().to_vec();
    let service = &app.services["s"];
    assert_eq!(program(&service.run), [folder.join("s").to_str().unwrap(), "./x"]);
    assert_eq!(program(&service.before_release), [folder.parent().unwrap().join("m").to_str().unwrap()]);
    assert!(service.live.as_ref().unwrap().to_string().contains(folder.join("c").to_str().unwrap()));
    assert_eq!(program(&app.services["t"].run), ["sh"]);
    // Without a folder of its own in the path, it is that of the process.
    assert_eq!(AppFile::read("no-such-file.yaml").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(AppFile::read(&folder).unwrap_err().kind(), ErrorKind::Unavailable);
    fs::write(&path, "app: A\nservices: { s: { run: x } }\n").unwrap();
    let error = AppFile::read(&path).unwrap_err();
    assert!(error.to_string().starts_with(&format!("{}:1:6: a name is", path.display())), "{error}");
}

/// Enough of JSON Schema for the schema that we make; a keyword it does not know is a failure.
mod schema {
    use serde_json::Value;

    pub(super) fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let Some(map) = schema.as_object() else {
            return if schema == &Value::Bool(false) { Err(format!("{at}: nothing fits")) } else { Ok(()) };
        };
        for (keyword, rule) in map {
            keyword_holds(root, map, keyword, rule, value, at)?;
        }
        Ok(())
    }

    fn keyword_holds(
        root: &Value,
        schema: &serde_json::Map<String, Value>,
        keyword: &str,
        rule: &Value,
        value: &Value,
        at: &str,
    ) -> Result<(), String> {
        let fail = |what: &str| Err(format!("{at}: {what} {rule}"));
        let rules = || rule.as_array().expect("a list of schemas").iter();
        match keyword {
            "$schema" | "$id" | "$defs" | "title" | "description" | "default" | "format" => Ok(()),
            "$ref" => {
                let pointer =
                    rule.as_str().and_then(|text| text.strip_prefix('#')).expect("a local reference");
                check(root, root.pointer(pointer).expect("a definition"), value, at)
            }
            "type" => {
                let types: Vec<&str> = match rule {
                    Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
                    one => one.as_str().into_iter().collect(),
                };
                let is = |name: &&str| match *name {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    "number" => value.is_number(),
                    "integer" => value.is_i64() || value.is_u64(),
                    other => panic!("type {other}"),
                };
                if types.iter().any(is) { Ok(()) } else { fail("is not") }
            }
            "properties" => match value.as_object() {
                None => Ok(()),
                Some(object) => {
                    rule.as_object().expect("schemas by key").iter().try_for_each(|(key, schema)| {
                        object
                            .get(key)
                            .map_or(Ok(()), |value| check(root, schema, value, &format!("{at}/{key}")))
                    })
                }
            },
            "additionalProperties" => {
                let patterns =
                    schema.get("patternProperties").and_then(Value::as_object).into_iter().flatten();
                let patterns: Vec<_> = patterns
                    .map(|(pattern, _)| regex_lite::Regex::new(pattern).expect("a pattern"))
                    .collect();
                let known = |key: &String| {
                    schema.get("properties").is_some_and(|known| known.get(key).is_some())
                        || patterns.iter().any(|pattern| pattern.is_match(key))
                };
                value.as_object().into_iter().flatten().filter(|(key, _)| !known(key)).try_for_each(
                    |(key, value)| {
                        let message = |_| format!("{at}: unknown key {key}");
                        match rule {
                            Value::Bool(_) => check(root, rule, value, at).map_err(message),
                            schema => check(root, schema, value, &format!("{at}/{key}")),
                        }
                    },
                )
            }
            "propertyNames" => value.as_object().into_iter().flatten().try_for_each(|(key, _)| {
                check(root, rule, &Value::String(key.clone()), &format!("{at}/{key}"))
            }),
            "patternProperties" => {
                rule.as_object().expect("schemas by pattern").iter().try_for_each(|(pattern, schema)| {
                    let pattern = regex_lite::Regex::new(pattern).expect("a pattern");
                    let fits =
                        value.as_object().into_iter().flatten().filter(|(key, _)| pattern.is_match(key));
                    fits.into_iter()
                        .try_for_each(|(key, value)| check(root, schema, value, &format!("{at}/{key}")))
                })
            }
            "required" => match rules().find(|key| value.get(key.as_str().expect("a key")).is_none()) {
                Some(_) if value.is_object() => fail("lacks one of"),
                _ => Ok(()),
            },
            "items" => {
                value.as_array().into_iter().flatten().try_for_each(|item| check(root, rule, item, at))
            }
            "anyOf" if rules().any(|rule| check(root, rule, value, at).is_ok()) => Ok(()),
            "oneOf" if rules().filter(|rule| check(root, rule, value, at).is_ok()).count() == 1 => Ok(()),
            "anyOf" | "oneOf" => fail("fits not"),
            "enum" if rules().any(|one| one == value) => Ok(()),
            "enum" => fail("is none of"),
            "const" => {
                if rule == value {
                    Ok(())
                } else {
                    fail("is not")
                }
            }
            "pattern" => match value.as_str() {
                Some(text)
                    if !regex_lite::Regex::new(rule.as_str().expect("a text"))
                        .expect("a pattern")
                        .is_match(text) =>
                {
                    fail("does not match")
                }
                _ => Ok(()),
            },
            "minimum" => {
                if value.as_f64() < rule.as_f64() && value.is_number() {
                    fail("is below")
                } else {
                    Ok(())
                }
            }
            "maximum" => {
                if value.as_f64() > rule.as_f64() {
                    fail("is above")
                } else {
                    Ok(())
                }
            }
            "minLength" | "maxLength" | "minItems" | "maxItems" => {
                let length =
                    value.as_str().map(|text| text.chars().count()).or(value.as_array().map(Vec::len));
                let bound = rule.as_u64().and_then(|bound| usize::try_from(bound).ok()).expect("a length");
                let wrong = length.is_some_and(|length| {
                    if keyword.starts_with("min") { length < bound } else { length > bound }
                });
                if wrong { fail(keyword) } else { Ok(()) }
            }
            other => panic!("the test does not know the keyword {other}"),
        }
    }
}
