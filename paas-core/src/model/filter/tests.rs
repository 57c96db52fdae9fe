use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn parsed(query: &str) -> LogFilter {
    LogFilter::parse(query).unwrap_or_else(|error| panic!("{}", error.pointed(query)))
}

/// A line with a level.
struct Line<'a>(&'a str, Option<Level>);

impl LogEvent for Line<'_> {
    fn line(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn level(&self) -> Option<Level> {
        self.1
    }
}

fn finds(query: &str, line: &str) -> bool {
    parsed(query).matcher().unwrap().matches(line.as_bytes())
}

#[test]
fn a_query_as_people_write_it_is_a_tree() {
    let query = r#"error service:web -health "connection refused" level:>=warn status:5* /time=\d{4,}ms/"#;
    let words = |text: &str| TextTest::Words(Words::new(text).unwrap());
    let name = |text: &str| FieldName::new(text).unwrap();
    let fives = Words { open_end: true, ..Words::new("5").unwrap() };
    let expected = LogFilter::And(vec![
        LogFilter::Line(words("error")),
        LogFilter::Field(name("service"), FieldTest::Text(words("web"))),
        LogFilter::Not(Box::new(LogFilter::Line(words("health")))),
        LogFilter::Line(words("connection refused")),
        LogFilter::Level(Comparison::AtLeast, Level::Warn),
        LogFilter::Field(name("status"), FieldTest::Text(TextTest::Words(fives))),
        LogFilter::Line(TextTest::Pattern(Pattern::new(r"time=\d{4,}ms", false).unwrap())),
    ]);
    assert_eq!(parsed(query), expected);
}

#[test]
fn lines_are_found_by_what_they_hold() {
    let json = r#"{"msg":"Connection refused","status":503,"ms":12.5,"user":{"id":"u-7"},"path":"/cart","q":"a\"b"}"#;
    let pairs = r#"level=warn status=404 msg="not found: /cart" empty= host=db-1"#;
    for (query, line, expected) in [
        ("", "anything", true),
        ("*", "anything", true),
        ("-*", "anything", false),
        ("error", "an Error occurred", true),
        ("error", "errors occurred", false),
        ("error*", "errors occurred", true),
        ("*fused", "connection refused", true),
        ("*fuse*", "connection refused", true),
        ("*fuse", "connection refused", false),
        ("\"connection refused\"", "CONNECTION REFUSED", true),
        ("\"connection refused\"", "connection was refused", false),
        ("connection refused", "refused: connection", true),
        ("10.0.0.1", "from 10.0.0.1:80", true),
        ("10.0.0.1", "from 110.0.0.1", false),
        ("12:30:01", "at 12:30:01 it began", true),
        ("a OR b", "b", true),
        ("a OR b c", "b", false),
        ("(a OR b) c", "b c", true),
        ("NOT a", "b", true),
        ("-(a b)", "a", true),
        ("--a", "a", true),
        ("or", "this or that", true),
        ("\"OR\"", "this or that", true),
        ("größe", "die Größe", true),
        ("ärger", "Ärger", false),
        ("größe", "die größe", true),
        ("größ", "die größe", false),
        (r"/\d{3}ms/", "took 250ms", true),
        ("/TOOK/", "took 250ms", false),
        ("/TOOK/i", "took 250ms", true),
        (r"/a\/b/", "a/b", true),
        ("\"say \\\"hi\\\" \\\\\"", "say \"hi\" \\", true),
        (r#""C:\temp""#, r"in C:\temp\x", true),
        ("status:503", json, true),
        ("status:50", json, false),
        ("status:5*", json, true),
        ("status:>=500", json, true),
        ("status:<500", json, false),
        ("ms:>12", json, true),
        ("ms:==12.50", json, true),
        ("msg:>12", json, false),
        ("msg:refused", json, true),
        ("msg:=refused", json, false),
        (r#"msg:="Connection refused""#, json, true),
        ("user.id:=u-7", json, true),
        ("user:*", json, true),
        ("q:=\"a\\\"b\"", json, true),
        ("id:*", json, false),
        ("-id:*", json, true),
        ("status:404 host:db-1", pairs, true),
        ("msg:\"found: /cart\"", pairs, true),
        ("empty:*", pairs, true),
        ("empty:=", pairs, true),
        ("cart:*", pairs, false),
        ("msg:/^not/", pairs, true),
    ] {
        assert_eq!(finds(query, line), expected, "{query}\n{line}");
    }
}

#[test]
fn a_level_is_compared_by_how_grave_it_is() {
    for (query, level, expected) in [
        ("level:>=warn", Some(Level::Error), true),
        ("level:>=WARNING", Some(Level::Info), false),
        ("level:error", Some(Level::Error), true),
        ("level:error", Some(Level::Fatal), false),
        ("level:<info", Some(Level::Debug), true),
        ("level:>=warn", None, false),
        ("-level:>=warn", None, true),
    ] {
        assert_eq!(
            parsed(query).matcher().unwrap().matches(&Line("x", level)),
            expected,
            "{query} {level:?}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_told_by_its_column() {
    for (query, column, message) in [
        ("error (a", 7, "not closed"),
        ("a)", 2, "no parenthesis is open"),
        ("a \"b", 3, "quote is not closed"),
        ("a \"\"", 3, "nothing between the quotes"),
        ("a OR", 3, "OR stands between"),
        ("OR a", 1, "OR stands between"),
        ("a -", 3, "nothing follows"),
        ("a status:", 10, "nothing follows the colon"),
        ("a status:>=x", 12, "a number follows"),
        ("a status:>nan", 11, "a number follows"),
        ("level:>=loud", 9, "trace, debug, info, warn, error, fatal"),
        ("fo*o", 3, "use a /pattern/"),
        ("a\"b", 2, "beginning of a text"),
        ("größe /a", 7, "not closed by a slash"),
        ("a //", 3, "nothing between the slashes"),
        ("a /b/x", 6, "after a pattern"),
        ("a /(/", 3, "no regular expression: unclosed group"),
        (r"a /(a{1000}){1000}/", 3, "too big"),
        (r"a /(a)\1/", 3, "backreferences are not supported"),
    ] {
        let error = LogFilter::parse(query).expect_err(query);
        assert!(error.column == column && error.message.contains(message), "{query}: {error}");
        let marked = error.pointed(query);
        assert_eq!(marked.lines().nth(1).map(str::len), Some(column), "{marked}");
    }
    let deep = "(".repeat(5_000);
    assert!(LogFilter::parse(&deep).unwrap_err().message.contains("too long"));
    let deep = "-".repeat(1_000) + "a";
    assert!(LogFilter::parse(&deep).unwrap_err().message.contains("nested"));
    let many = "a ".repeat(1_000);
    assert!(LogFilter::parse(&many).unwrap_err().message.contains("too many"));
}

#[test]
fn a_query_travels_as_text() {
    let filter = parsed("error -status:5*");
    let json = serde_json::to_string(&filter).unwrap();
    assert_eq!(json, r#""\"error\" -status:\"5\"*""#);
    assert_eq!(serde_json::from_str::<LogFilter>(&json).unwrap(), filter);
    assert!(serde_json::from_str::<LogFilter>("\"(\"").is_err());
}

fn words() -> impl Strategy<Value = Words> {
    ("[ -~äöß\n]{1,8}", any::<(bool, bool)>()).prop_map(|(text, (open_start, open_end))| Words {
        open_start,
        open_end,
        ..Words::new(&text).unwrap()
    })
}

fn text() -> impl Strategy<Value = TextTest> {
    let sources = vec!["a+", r"\d{3}", "a/b", r"\\", r"\\/x", "[/]", "x y"];
    let pattern = (proptest::sample::select(sources), any::<bool>());
    let pattern = pattern.prop_map(|(source, any_case)| Pattern::new(source, any_case).unwrap());
    prop_oneof![words().prop_map(TextTest::Words), pattern.prop_map(TextTest::Pattern)]
}

fn comparison() -> impl Strategy<Value = Comparison> {
    use Comparison::{AtLeast, AtMost, Equal, Less, More};
    proptest::sample::select(vec![AtLeast, AtMost, Equal, Less, More])
}

fn filter() -> impl Strategy<Value = LogFilter> {
    let name = proptest::sample::select(vec!["status", "user.id", "@timestamp", "or"]);
    let name = name.prop_map(|name| FieldName::new(name).unwrap());
    let test = prop_oneof![
        Just(FieldTest::Present),
        text().prop_map(FieldTest::Text),
        "[ -~ä]{0,6}".prop_map(FieldTest::Exact),
        (comparison(), -1e9..1e9).prop_map(|(how, number)| FieldTest::Number(how, number)),
    ];
    let level = proptest::sample::select(Level::ALL.to_vec());
    let leaf = prop_oneof![
        Just(LogFilter::All),
        text().prop_map(LogFilter::Line),
        (name, test).prop_map(|(name, test)| LogFilter::Field(name, test)),
        (comparison(), level).prop_map(|(how, level)| LogFilter::Level(how, level)),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| LogFilter::Not(Box::new(inner))),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(LogFilter::And),
            proptest::collection::vec(inner, 2..4).prop_map(LogFilter::Or),
        ]
    })
}

/// Words as they are defined, without any haste.
fn holds(words: &Words, line: &[u8]) -> bool {
    let (line, text) = (line.to_ascii_lowercase(), words.text.as_bytes());
    let word = |at: Option<&u8>| at.is_some_and(|byte| is_word(*byte));
    (0..line.len()).any(|at| {
        let end = at + text.len();
        line[at..].starts_with(text)
            && (words.open_start || !word(text.first()) || at == 0 || !word(line.get(at - 1)))
            && (words.open_end || !word(text.last()) || !word(line.get(end)))
    })
}

proptest! {
    #[test]
    fn a_tree_reads_back_from_its_text(filter in filter()) {
        let text = filter.to_string();
        prop_assert_eq!(parsed(&text), filter, "{}", text);
    }

    #[test]
    fn no_text_is_read_in_a_bad_way(text in "\\PC{0,40}", noise in r#"[ab ()"*:/\\<>=iOR-]{0,30}"#) {
        for text in [text, noise] {
            match LogFilter::parse(&text) {
                Ok(filter) => drop(filter.matcher().unwrap().matches(b"a b".as_slice())),
                Err(error) => prop_assert!(error.column <= text.chars().count() + 1),
            }
        }
    }

    #[test]
    fn words_are_found_as_they_are_defined(words in words(), line in "[ -~äöß]{0,24}", mixed in "[aA ä_-]{0,16}") {
        let short = Words { text: words.text.replace(|c: char| c != 'a', "a"), ..words.clone() };
        for (words, line) in [(&words, &line), (&short, &mixed)] {
            let filter = LogFilter::Line(TextTest::Words(words.clone()));
            prop_assert_eq!(filter.matcher().unwrap().matches(line.as_bytes()), holds(words, line.as_bytes()));
        }
    }

    #[test]
    fn fields_of_an_object_are_those_of_any_reader(
        members in proptest::collection::btree_map("[a-c.]{1,3}", value(), 0..5),
        name in "[a-c]{1,2}(\\.[a-c])?",
        is_spaced in any::<bool>(),
    ) {
        let object = Value::Object(members.into_iter().collect());
        let line = if is_spaced { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) };
        let line = line.unwrap();
        let found = field(line.as_bytes(), &name).map(|text| String::from_utf8(text.into_owned()).unwrap());
        let found = found.map(|text| text.split_whitespace().collect::<String>());
        let expected = known(&object, &name).first().map(|text| text.split_whitespace().collect::<String>());
        prop_assert_eq!(found, expected, "{} in {}", name, line);
    }

    #[test]
    fn pairs_are_read_as_they_were_put(
        put in proptest::collection::vec(
            ("[a-zA-Z@._-]{1,8}", proptest::collection::vec(any::<u8>(), 0..20)), 0..6,
        ),
    ) {
        let mut text = Vec::new();
        put.iter().for_each(|(name, value)| put_pair(&mut text, name, value));
        let read: Vec<(String, Vec<u8>)> = pairs(&text)
            .map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.into_owned()))
            .collect();
        prop_assert_eq!(read, put);
    }

    #[test]
    fn no_line_is_read_in_a_bad_way(
        line in proptest::collection::vec(any::<u8>(), 0..40),
        noise in r#"\{[a" :,{}\[\]\\u0=]{0,30}"#,
    ) {
        for line in [line, noise.into_bytes()] {
            drop(field(&line, "a"));
            drop(field(&line, "a.a"));
            let read: usize = pairs(&line).map(|(name, value)| name.len() + value.len()).sum();
            prop_assert!(read <= line.len() * 4);
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c\"\\\\{},:\n\u{1}ä😀]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            proptest::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// All that a name may mean, in the order of the members.
fn known(object: &Value, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        if key == name {
            found.push(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        if let Some(below) = name.strip_prefix(key.as_str()).and_then(|below| below.strip_prefix('.')) {
            found.extend(known(value, below));
        }
    }
    found
}
