use paas_core::model::Pattern;
use proptest::prelude::*;

use super::*;

fn redactor(rules: &[Redaction], secrets: &[&str]) -> Redactor {
    let secrets: Vec<Secret> = secrets.iter().map(|value| Secret::new(*value).unwrap()).collect();
    Redactor::new(rules, &secrets, &Counters::default()).unwrap()
}

fn redacted(redactor: &Redactor, text: &str) -> String {
    let mut out = String::new();
    let mut at = 0;
    for span in redactor.spans(text.as_bytes(), true) {
        out.push_str(&text[at..span.start]);
        out.push_str(&redactor.mask(span, text.as_bytes()));
        at = span.end;
    }
    out + &text[at..]
}

/// Each text, and what becomes of it.
fn check(rule: Redaction, cases: &[(&str, &str)]) {
    let (mask, redactor) = (mask(rule.name()), redactor(&[rule], &[]));
    for (text, expected) in cases {
        let expected = expected.replace('#', &mask);
        assert_eq!(redacted(&redactor, text), expected, "{text}");
    }
}

/// Texts of which nothing is taken out.
fn spares(rule: Redaction, texts: &[&str]) {
    check(rule, &texts.iter().map(|text| (*text, *text)).collect::<Vec<_>>());
}

#[test]
fn cards_are_taken_out() {
    check(
        Redaction::Card,
        &[
            ("paid with 4111111111111111.", "paid with #."),
            ("4111 1111 1111 1111", "#"),
            ("card=5555-5555-5555-4444 ok", "card=# ok"),
            ("3782 822463 10005", "#"),
            (r#"{"card":4111111111111111,"n":1}"#, r##"{"card":"#","n":1}"##),
            (r#"{"card":"6011000990139424"}"#, r##"{"card":"#"}"##),
            ("3530111333300000,4111111111111111", "#,#"),
            ("2026 4111 1111 1111 1111 12", "2026 # 12"),
        ],
    );
    spares(
        Redaction::Card,
        &[
            "4111111111111112",
            "1790000000000000000",
            "at 1790000000123 order 1234567890123456",
            "2026-11-27 01:02:03.123456789",
            "id-4111111111111111a",
            "4111-1111 1111-1111",
            "4.111.111.111.111.111",
        ],
    );
}

#[test]
fn addresses_and_telephones_are_taken_out() {
    check(
        Redaction::Email,
        &[
            ("from=ann.lee+x@mail.example.com.", "from=#."),
            ("<a@b.io>", "<#>"),
            ("m\u{fc}ller@b\u{fc}cher.example", "#"),
        ],
    );
    spares(
        Redaction::Email,
        &["user @ home", "@decorator", "a@localhost", "image@sha256:00ff", "x@1.2.3.4", "a@.com"],
    );
    check(
        Redaction::Phone,
        &[
            ("call +49 30 901820 now", "call # now"),
            ("(555) 123-4567", "#"),
            ("555-123-4567", "#"),
            ("1 555 123 4567", "#"),
        ],
    );
    spares(
        Redaction::Phone,
        &["took 1234567 us", "10.1.2.3", "2026-11-27", "+12", "(123) items", "f(100) 200"],
    );
}

#[test]
fn national_ids_are_taken_out() {
    check(
        Redaction::NationalId,
        &[
            ("ssn 078-05-1120", "ssn #"),
            ("id 11010519491231002X!", "id #!"),
            ("12345678Z", "#"),
            ("X1234567L", "#"),
            ("nino AB123456C", "nino #"),
        ],
    );
    spares(
        Redaction::NationalId,
        &["000-12-3456", "110105194912310021", "12345678A", "GB123456A", "078 05 1120", "commit 1234567ab"],
    );
}

#[test]
fn tokens_are_taken_out() {
    let signed =
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";
    let github = format!("ghp_{}", "a1B2".repeat(9));
    check(
        Redaction::Token,
        &[
            (&format!("got {signed}, fine"), "got #, fine"),
            (&format!("token={github}."), "token=#."),
            ("key AKIAIOSFODNN7EXAMPLE used", "key # used"),
            ("sk_live_4eC39HqLyjWDarjtT1zdp7dc", "#"),
        ],
    );
    spares(
        Redaction::Token,
        &["eyJ.eyJ.x", "ghp_short", "AKIA", "XAKIAIOSFODNN7EXAMPLE", "SG.", "npm_install"],
    );
}

#[test]
fn passwords_are_taken_out_where_they_stand() {
    check(
        Redaction::Password,
        &[
            ("postgres://app:s3cr:et@db:5432/x", "postgres://app:#@db:5432/x"),
            ("redis://:pw@cache", "redis://:#@cache"),
            (r#"{"user":"u","password":"a\"b","n":1}"#, r##"{"user":"u","password":"#","n":1}"##),
            (r#"{"db_password": "x1"}"#, r##"{"db_password": "#"}"##),
            (r#"{"pin":{"token":12345}}"#, r##"{"pin":{"token":"#"}}"##),
            (r#"msg="{\"password\":\"hunter2\",\"n\":1}""#, r##"msg="{\"password\":\"#\",\"n\":1}""##),
            ("login PASSWORD=hunter2 ok", "login PASSWORD=# ok"),
            ("?user=u&api_key=abc123&x=1", "?user=u&api_key=#&x=1"),
            ("Authorization: Bearer abc.def", "Authorization: Bearer #"),
            ("authorization: Basic dTpw", "authorization: Basic #"),
            ("password: 'it is long' next", "password: '#' next"),
            ("passwd => pw1", "passwd => #"),
        ],
    );
    spares(
        Redaction::Password,
        &[
            "http://example.com/a@b",
            "https://user@host/",
            "the password was wrong",
            r#"{"password":"","token":null,"secret":"***"}"#,
            "tokens=12 passwords: 3",
            "token::Parser",
            "secret=${SECRET}",
            "std::password",
        ],
    );
}

#[test]
fn private_keys_are_taken_out_from_end_to_end() {
    let key = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabcd\n-----END RSA PRIVATE KEY-----";
    check(
        Redaction::PrivateKey,
        &[
            (&format!("a\n{key}\nb"), "a\n#\nb"),
            ("-----BEGIN PRIVATE KEY-----\nMIIE", "#"),
            (
                r#"{"k":"-----BEGIN EC PRIVATE KEY-----\nMH\n-----END EC PRIVATE KEY-----\n"}"#,
                r##"{"k":"#\n"}"##,
            ),
        ],
    );
    spares(Redaction::PrivateKey, &["-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----"]);
    let two = "x -----BEGIN PRIVATE KEY----- y\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\nz";
    check(
        Redaction::PrivateKey,
        &[(two, "x #\nz"), ("-----BEGIN PRIVATE KEY-----\nMIIE\nabc=\nnext line", "#\nnext line")],
    );
    assert!(credential::is_open_key(b"x -----BEGIN PRIVATE KEY-----\nMIIE"));
    assert!(
        !credential::is_open_key(key.as_bytes()) && !credential::is_open_key(b"-----BEGIN CERTIFICATE-----")
    );
}

#[test]
fn values_of_secrets_are_taken_out_in_every_form() {
    let redactor = redactor(&[], &["p\"w d/1", "tiny", "first line\nsecond line", "a<b>&ö\u{1f511}"]);
    for (text, expected) in [
        ("got p\"w d/1!", "got #!"),
        (r#"{"v":"p\"w d/1"}"#, r##"{"v":"#"}"##),
        ("?v=p%22w%20d%2F1&x", "?v=#&x"),
        ("?v=p%22w%20d%2f1&x", "?v=#&x"),
        ("v=p%22w+d%2F1&x", "v=#&x"),
        (r#"{"v":"p\"w d\/1"}"#, r##"{"v":"#"}"##),
        (r#"{"v":"a\u003cb\u003e\u0026ö🔑"}"#, r##"{"v":"#"}"##),
        (r#"{"v":"a<b>&\u00f6\ud83d\udd11"}"#, r##"{"v":"#"}"##),
        ("tiny stays", "tiny stays"),
        ("the second line of it", "the # of it"),
    ] {
        assert_eq!(redacted(&redactor, text), expected.replace('#', "[redacted:secret]"), "{text}");
    }
    assert!(!format!("{redactor:?}").contains("line"));
}

#[test]
fn values_of_secrets_are_taken_out_of_base64() {
    let redactor = redactor(&[], &["correct horse battery"]);
    // "user:correct horse battery" and "x:correct horse battery", in base64.
    for text in [
        "dXNlcjpjb3JyZWN0IGhvcnNlIGJhdHRlcnk=",
        "eDpjb3JyZWN0IGhvcnNlIGJhdHRlcnk=",
        "Y29ycmVjdCBob3JzZSBiYXR0ZXJ5",
    ] {
        assert!(redacted(&redactor, text).contains("[redacted:secret]"), "{text}");
    }
    // The alphabet for URLs has other last letters.
    let redactor = self::redactor(&[], &["\u{3ff}>>>???~~~ab"]);
    for text in ["z78-Pj4_Pz9-fn5hYg==", "z78+Pj4/Pz9+fn5hYg=="] {
        assert!(redacted(&redactor, text).contains("[redacted:secret]"), "{text}");
    }
}

#[test]
fn own_expressions_take_out_within_a_line() {
    let pattern = Pattern::new(r"order\s\S+", false).unwrap();
    let redactor = redactor(&[Redaction::Pattern { name: "order".into(), pattern }], &[]);
    assert_eq!(redacted(&redactor, "an order x-1 of\norder\ny"), "an [redacted:order] of\norder\ny");
}

fn every_rule() -> Vec<Redaction> {
    let pattern = Pattern::new("[a-c]+", true).unwrap();
    let own = Redaction::Pattern { name: "own".into(), pattern };
    Redaction::BUILT_IN.iter().cloned().chain([own]).collect()
}

/// A line that is long, and made for a redactor to look at again and again: all of it takes a moment.
#[test]
fn long_lines_of_beginnings_take_time_in_proportion() {
    let redactor = redactor(&every_rule(), &["password1"]);
    for piece in [
        "token=",
        "token=[",
        "eyJ.",
        "eyJaaaaaaaaaaa.",
        "1 ",
        "4111 ",
        "a@",
        "://a:",
        "ghp_",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
    ] {
        let text = piece.repeat((1 << 20) / piece.len());
        let begun = std::time::Instant::now();
        redactor.spans(text.as_bytes(), true);
        // What is quadratic takes minutes.
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{piece}: {:?}", begun.elapsed());
    }
}

proptest! {
    #[test]
    fn spans_of_any_bytes_are_in_order_and_apart(
        text in prop::collection::vec(prop_oneof![
            prop::sample::select(b"0123456789-@.:/=\"\\ +()\npassword".to_vec()),
            any::<u8>(),
        ], 0..300),
    ) {
        let redactor = redactor(&every_rule(), &["password1", "0000000"]);
        let mut last = 0;
        for span in redactor.spans(&text, true) {
            prop_assert!(last <= span.start && span.start < span.end && span.end <= text.len());
            last = span.end;
        }
    }

    #[test]
    fn a_secret_never_stays(before in "[ -~]{0,40}", after in "[ -~]{0,40}", secret in "[A-Za-z0-9]{6,30}") {
        let redactor = redactor(&[], &[&secret]);
        let text = format!("{before}{secret}{after}");
        prop_assert!(!redacted(&redactor, &text).contains(&secret) || mask("secret").contains(&secret));
    }

    #[test]
    fn redacting_again_changes_nothing(text in "[ -~]{0,200}") {
        let redactor = redactor(&Redaction::BUILT_IN, &[]);
        let once = redacted(&redactor, &text);
        prop_assert_eq!(redacted(&redactor, &once), once.clone());
    }
}
