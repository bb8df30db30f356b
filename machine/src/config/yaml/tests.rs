use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Any value that a config can hold, strange texts included.
pub fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[a-z0-9 .:/#&*!|>%@`\"'{}\\[\\],?~\\\\-]{0,12}",
        any::<String>(),
        "([ -~]{0,9}\n){1,4}[ -~]{0,5}",
        prop::sample::select(vec![
            "",
            "~",
            "null",
            "yes",
            "true",
            "0644",
            "1e3",
            ".5",
            "0x1f",
            "-",
            "---",
            "...",
            "<<",
            "a\n\n",
            "\n a",
            " a\n  b\n",
            "=",
            "1_000"
        ])
        .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1.0e9..1.0e9f64).prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(text.clone(), inner, 0..5).prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn read(text: &str) -> Value {
    read_one(text, "x.yaml").unwrap().value()
}

fn complaint(text: impl AsRef<[u8]>) -> String {
    read_all(text, "x.yaml").unwrap_err().to_string()
}

#[test]
fn plain_scalars_are_those_of_yaml_1_2() {
    let text = "[~, null, '', true, yes, 0644, 0o17, 0x1F, 1.5, 1e3, -3, .inf, 1_0, 18446744073709551615, 99999999999999999999, 12:30, 2026-01-01, '1']";
    let wanted = json!([
        null,
        null,
        "",
        true,
        "yes",
        644,
        15,
        31,
        1.5,
        1000.0,
        -3,
        ".inf",
        "1_0",
        18446744073709551615u64,
        1e20,
        "12:30",
        "2026-01-01",
        "1"
    ]);
    assert_eq!(read(text), wanted);
}

#[test]
fn keys_are_texts() {
    assert_eq!(read("1: a\ntrue: b\n~: c\n"), json!({ "1": "a", "true": "b", "~": "c" }));
    assert_eq!(complaint("? [a]\n: b\n"), "x.yaml:1:3: a list or map as a key; expected text");
}

#[test]
fn anchors_are_resolved_within_bounds() {
    assert_eq!(read("a: &x {b: 1}\nc: *x\n"), json!({ "a": { "b": 1 }, "c": { "b": 1 } }));
    let bomb: String = (1..30).fold("a0: &a0 [x, x]\n".to_owned(), |text, n| format!("{text}a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1));
    assert!(complaint(&bomb).contains("too many values once aliases are resolved"), "{}", complaint(&bomb));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a, ".repeat(2000));
    assert!(complaint(&long).contains("too many values"), "{}", complaint(&long));
    let deep: String = (1..9).fold(format!("a0: &a0 {}{}\n", "[".repeat(30), "]".repeat(30)), |text, n| {
        format!("{text}a{n}: &a{n} {}*a{}{}\n", "[".repeat(30), n - 1, "]".repeat(30))
    });
    assert!(complaint(&deep).contains("too deep a nesting"), "{}", complaint(&deep));
    assert!(complaint("a: &a [*a]\n").contains("alias"), "{}", complaint("a: &a [*a]\n"));
}

#[test]
fn what_is_given_twice_or_tagged_is_named_with_its_path() {
    assert_eq!(
        complaint("a:\n  b: 1\n  c: !!str 2\n  b: 3\n"),
        "x.yaml:3:6: a.c: the tag \"!!str\"; remove it; put text in quotes to keep it text\n\
         x.yaml:4:3: a.b: given twice, first in line 2; remove one of them"
    );
}

#[test]
fn what_is_no_text_is_refused() {
    assert_eq!(complaint(b"a: \xff\n"), "x.yaml:1:4: bytes that are no UTF-8; expected a text file in UTF-8");
    assert!(complaint("a: \u{0}\n").contains("x.yaml:1:4: the control character U+0000"));
    assert!(complaint("a:\n\tb: 1\n").contains("indent with spaces"), "{}", complaint("a:\n\tb: 1\n"));
    assert!(complaint(vec![b'#'; MAX_BYTES + 1]).contains("expected at most 1048576 bytes"));
    assert!(complaint("[".repeat(100_000)).contains("x.yaml:1:"));
}

#[test]
fn an_empty_text_is_no_document() {
    for text in ["", "\n# nothing\n", "---\n...\n", "\u{feff}"] {
        assert!(read_all(text, "x").unwrap().is_empty(), "{text:?}");
    }
    assert_eq!(read("\u{feff}a: 1"), json!({ "a": 1 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_printed_reads_as_it_was(value in value()) {
        let value = json!({ "x": value });
        let text = print(&value);
        let again = read_one(&text, "x.yaml").map_err(|report| TestCaseError::fail(format!("{report}\n{text}")))?;
        prop_assert_eq!(again.value(), value, "{}", text);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in any::<String>(), yaml in "[a-c:\\-&*!{}\\[\\], \n\t#|>'\"%]{0,80}") {
        let _ = read_all(bytes, "x.yaml");
        let _ = read_all(text, "x.yaml");
        let _ = read_all(yaml, "x.yaml");
    }
}
