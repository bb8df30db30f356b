//! Goldens of good and bad configs, the examples, and what must hold for any text.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folders of a golden folder, by name.
fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/golden").join(folder);
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// Compares with a file, or writes it with CORTEN_GOLDEN=1.
fn golden(file: &Path, text: &str) {
    if std::env::var_os("CORTEN_GOLDEN").is_some() {
        std::fs::write(file, text).unwrap();
    }
    let wanted = std::fs::read_to_string(file).unwrap_or_default();
    assert_eq!(wanted, text, "{}: run `make golden` and read the difference", file.display());
}

fn examples() -> Vec<(String, String)> {
    let folder = repository().join("configs/examples");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut examples: Vec<_> = files
        .map(|file| (file.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&file).unwrap()))
        .filter(|(_, text)| text.contains("\nkind: MachineConfig\n"))
        .collect();
    examples.sort();
    examples
}

fn example(name: &str) -> String {
    examples().into_iter().find(|(other, _)| other == name).unwrap_or_else(|| panic!("no example {name}")).1
}

/// The example with a patch in YAML over it.
fn patched(name: &str, change: &str) -> String {
    patch(&example(name), name, change, "patch").unwrap()
}

fn config(text: &str) -> Config {
    load(text, "config.yaml").unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn good_configs_load_and_mean_what_they_meant() {
    let cases = cases("v1");
    assert!(cases.len() >= 5);
    for case in cases {
        let text = std::fs::read(case.join("config.yaml")).unwrap();
        let loaded = load(&text, "config.yaml").unwrap_or_else(|report| panic!("{}:\n{report}", case.display()));
        golden(&case.join("config.canonical.yaml"), &loaded.to_yaml());
        assert_eq!(config(&loaded.to_yaml()), loaded, "{}", case.display());
    }
}

#[test]
fn bad_configs_are_refused_with_all_that_is_wrong() {
    let cases = cases("bad");
    assert!(cases.len() >= 30);
    for case in cases {
        let text = std::fs::read(case.join("config.yaml")).unwrap();
        let report = load(&text, "config.yaml").expect_err(&case.display().to_string());
        golden(&case.join("report.txt"), &format!("{report}\n"));
    }
}

#[test]
fn every_example_loads() {
    let examples = examples();
    for (name, text) in &examples {
        load(text, name).unwrap_or_else(|report| panic!("{report}"));
    }
    for wanted in ["controlplane", "controlplane-further", "full", "single-node", "static-network", "worker"] {
        assert!(examples.iter().any(|(name, _)| name == wanted), "{wanted}");
    }
}

#[test]
fn the_full_example_has_every_field() {
    let value = Source::read(example("full"), "full.yaml").unwrap().value();
    let mut lacking = Vec::new();
    lacking_fields(&value, schema::document_schema(), "", &mut lacking);
    assert_eq!(lacking, Vec::<String>::new());
}

fn lacking_fields(value: &Value, schema: schema::Schema<'_>, path: &str, lacking: &mut Vec<String>) {
    for (name, field) in schema.fields() {
        let path = format!("{path}.{name}");
        match value.get(name) {
            None => lacking.push(path),
            Some(value) => match field.shape() {
                schema::Shape::List(items) => lacking_in_all(value.as_array().unwrap().iter(), items, &path, lacking),
                schema::Shape::Map(values) => lacking_in_all(value.as_object().unwrap().values(), values, &path, lacking),
                _ => lacking_fields(value, field, &path, lacking),
            },
        }
    }
}

/// The items of a list and the values of a map have every field together: some fields exclude each other.
fn lacking_in_all<'a>(values: impl Iterator<Item = &'a Value>, schema: schema::Schema<'_>, path: &str, lacking: &mut Vec<String>) {
    let each = values.map(|value| {
        let mut lacking = Vec::new();
        lacking_fields(value, schema, path, &mut lacking);
        lacking
    });
    let each: Vec<Vec<String>> = each.collect();
    assert!(!each.is_empty(), "{path} is empty");
    // What lies below a field that one item lacks is not told of that item.
    let within = |field: &String, other: &[String]| other.iter().any(|lacks| field == lacks || field.starts_with(&format!("{lacks}.")));
    let told: std::collections::BTreeSet<&String> = each.iter().flatten().collect();
    lacking.extend(told.into_iter().filter(|field| each.iter().all(|other| within(field, other))).cloned());
}

#[test]
fn a_document_prints_as_a_person_would_write_it() {
    let text = example("worker");
    let document = Document::parse(&text, "worker.yaml").unwrap();
    let printed = document.to_yaml();
    let without_comments: String = text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    assert_eq!(Source::read(&printed, "x").unwrap().value(), Source::read(&without_comments, "x").unwrap().value());
    assert!(printed.starts_with("apiVersion: corten.dev/v1\nkind: MachineConfig\ncluster:\n  name: demo\n"), "{printed}");
    for (name, text) in examples() {
        let document = Document::parse(&text, &name).unwrap();
        assert_eq!(Document::parse(document.to_yaml(), &name).unwrap(), document, "{name}");
    }
}

#[test]
fn the_order_of_a_file_does_not_matter() {
    let value = Source::read(example("full"), "full.yaml").unwrap().value();
    let reversed = reverse(&value);
    assert_eq!(canonical(&yaml::print(&reversed)).unwrap(), canonical(&yaml::print(&value)).unwrap());
    assert_eq!(diff(&yaml::print(&reversed), &yaml::print(&value)), "");
}

fn reverse(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(fields.iter().rev().map(|(name, value)| (name.clone(), reverse(value))).collect()),
        Value::Array(items) => Value::Array(items.iter().map(reverse).collect()),
        _ => value.clone(),
    }
}

/// The longest line of every text that the schema marks as a secret.
fn secrets(value: &Value, schema: schema::Schema<'_>, found: &mut Vec<String>) {
    if schema.is_secret() {
        let text = value.as_str().unwrap();
        found.extend(text.lines().max_by_key(|line| line.len()).map(str::to_owned));
    }
    match (value, schema.shape()) {
        (Value::Object(fields), schema::Shape::Fields) => {
            fields.iter().for_each(|(name, value)| secrets(value, schema.field(name).unwrap(), found))
        }
        (Value::Object(entries), schema::Shape::Map(values)) => entries.values().for_each(|value| secrets(value, values, found)),
        (Value::Array(items), schema::Shape::List(schema)) => items.iter().for_each(|item| secrets(item, schema, found)),
        _ => {}
    }
}

#[test]
fn no_secret_is_shown() {
    let text = example("full");
    let loaded = config(&text);
    let mut hidden = Vec::new();
    secrets(&Source::read(&text, "x").unwrap().value(), schema::document_schema(), &mut hidden);
    assert!(hidden.len() > 10, "{hidden:?}");
    assert!(hidden.iter().all(|secret| loaded.to_yaml().contains(secret.as_str())));
    let shown = [
        masked(&text).unwrap(),
        loaded.to_masked_yaml(),
        diff("", &text),
        diff(&text, ""),
        diff(&text, &example("worker")),
        format!("{loaded:?}"),
        format!("{:?}", Source::read(&text, "x").unwrap()),
    ];
    for (index, text) in shown.iter().enumerate() {
        for secret in &hidden {
            assert!(!text.contains(secret.as_str()), "{index} shows {secret}");
        }
    }
    assert!(shown[0].contains("encryptionKey: \"********\"") || shown[0].contains("encryptionKey: '********'"), "{}", shown[0]);
}

#[test]
fn a_diff_tells_that_a_secret_changed_and_nothing_of_it() {
    let old = example("worker");
    let new = patched("worker", "cluster: {joinToken: zzzzzz.zzzzzzzzzzzzzzzz}\nmachine: {hostname: worker-2}");
    golden(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/golden/changed-secret.diff"), &diff(&old, &new));
    assert_eq!(diff(&old, &old), "");
    // The file that is new is no change of the file that was first before.
    let one = patched("worker", "machine: {files: [{path: /etc/a, contents: aaaaaaaa}]}");
    let two = patched("worker", "machine: {files: [{path: /etc/b, contents: bbbbbbbb}, {path: /etc/a, contents: aaaaaaaa}]}");
    assert!(!diff(&one, &two).contains("(changed)"), "{}", diff(&one, &two));
}

#[test]
fn a_text_that_is_too_long_is_refused() {
    let text = example("worker") + &"# comment\n".repeat(120_000);
    let report = load(text, "worker.yaml").unwrap_err();
    assert!(report.to_string().contains("expected at most 1048576 bytes"), "{report}");
}

#[test]
fn a_document_without_a_text_is_checked_as_well() {
    let mut document = Document::parse(example("worker"), "worker.yaml").unwrap();
    document.cluster.name = "Demo".to_owned();
    document.machine.kubelet.config = json!({ "maxPod": 1 }).as_object().unwrap().clone();
    let report = Config::check(document, None).unwrap_err();
    assert_eq!(
        report.to_string(),
        "machine config: cluster.name: \"Demo\"; expected a DNS label: at most 63 lower-case letters, digits and dashes\n\
         machine config: machine.kubelet.config.maxPod: unknown field; did you mean \"maxPods\"?"
    );
}

#[test]
fn what_a_machine_keeps_for_life_is_not_changed() {
    let old = config(&example("full"));
    assert_eq!(refuse_change(&old, &old), Ok(()));
    let change = "
        cluster:
          name: other
          encryptionKey: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=
          network: {serviceCIDRs: [10.100.0.0/16], proxy: {mode: nftables}}
          certificateAuthorities: {kubelet: {certificate: \"-----BEGIN CERTIFICATE-----\\nMAMCAQE=\\n-----END CERTIFICATE-----\"}}
        machine: {hostname: cp-2}";
    let report = refuse_change(&old, &config(&patched("full", change))).unwrap_err();
    golden(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/golden/refused-change.txt"), &format!("{report}\n"));
    // Once the machine keeps the authorities' keys, its config need not.
    let change = "cluster: {certificateAuthorities: {kubernetes: {key: null}, kubelet: {key: null}, etcdPeer: {key: null}, \
                  etcdClient: {key: null}, frontProxy: {key: null}, machine: {key: null}}}";
    assert_eq!(refuse_change(&old, &config(&patched("full", change))), Ok(()));
}

/// Each step leaves machines that trust each other; a leap over one does not.
#[test]
fn an_authority_is_replaced_step_by_step() {
    let pem = |octet: u8| {
        use base64::Engine;
        format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            base64::engine::general_purpose::STANDARD.encode([0x30, 3, 2, 1, octet])
        )
    };
    let with = |octets: &[u8]| {
        let mut config = config(&example("full"));
        config.cluster.certificate_authorities.kubelet.certificate = octets.iter().map(|octet| pem(*octet)).collect();
        config
    };
    for (from, to) in
        [(&[1][..], &[1, 2][..]), (&[1, 2], &[2, 1]), (&[2, 1], &[2]), (&[1, 2], &[1]), (&[2, 1], &[1, 2]), (&[1, 2], &[1, 3])]
    {
        assert_eq!(refuse_change(&with(from), &with(to)), Ok(()), "{from:?} {to:?}");
    }
    let (added, gone) = ("another certificate; add it behind", "the certificate that was the first is gone; keep it behind");
    for (from, to, why) in [(&[1][..], &[2][..], added), (&[1], &[2, 1], added), (&[1, 2], &[2], gone), (&[1, 2, 3], &[2, 1], gone)] {
        let report = refuse_change(&with(from), &with(to)).unwrap_err().to_string();
        assert!(report.contains("certificateAuthorities.kubelet.certificate") && report.contains(why), "{from:?} {to:?}: {report}");
    }
    // The key follows the first certificate, and only that.
    let keyed = |octets: &[u8], key: &str| {
        let mut config = with(octets);
        config.cluster.certificate_authorities.kubelet.key = Some(Secret::new(key));
        config
    };
    assert_eq!(refuse_change(&keyed(&[1, 2], "one"), &keyed(&[2, 1], "two")), Ok(()));
    let report = refuse_change(&keyed(&[1, 2], "one"), &keyed(&[1, 2], "two")).unwrap_err().to_string();
    assert!(report.contains("certificateAuthorities.kubelet.key: another key"), "{report}");
}

#[test]
fn what_acts_at_the_next_boot_is_named() {
    let old = config(&example("full"));
    let change = "cluster: {network: {proxy: {mode: iptables}}}\nmachine: {kernel: {modules: [], sysctls: {vm.max_map_count: null}}, watchdog: {timeout: 30s}}";
    let new = config(&patched("full", change));
    assert_eq!(needs_reboot(&old, &new), ["cluster.network.proxy.mode", "machine.kernel.modules", "machine.kernel.sysctls"]);
    assert_eq!(needs_reboot(&new, &old), ["cluster.network.proxy.mode"]);
    assert_eq!(needs_reboot(&old, &old), Vec::<String>::new());
}

/// One edit of a text: a piece cut out, doubled, or replaced by something strange.
fn edit() -> impl Strategy<Value = (f64, usize, String)> {
    let strange = prop_oneof![
        Just(String::new()),
        "[-:\\[\\]{}&*!|>'\"%@`#, \n\t~?]{1,4}",
        any::<String>(),
        prop::sample::select(vec![
            "null",
            "true",
            "-1",
            "99999999999999999999",
            "[[[[",
            "- ",
            "<<: *a",
            "&a ",
            "::/0",
            "0.0.0.0/0",
            "/",
            "\u{feff}"
        ])
        .prop_map(str::to_owned),
    ];
    (0.0..1.0f64, 0..40usize, strange)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_damaged_config_never_panics(which in 0..6usize, edits in prop::collection::vec(edit(), 1..4)) {
        let mut text = examples()[which].1.clone();
        for (place, length, strange) in edits {
            let floor = |mut index: usize| { while !text.is_char_boundary(index) { index -= 1; } index };
            let start = floor((place * text.len() as f64) as usize);
            let end = floor((start + length).min(text.len()));
            text.replace_range(start..end, &strange);
        }
        match load(&text, "config.yaml") {
            Ok(config) => prop_assert_eq!(load(config.to_yaml(), "x").unwrap(), config),
            Err(report) => {
                prop_assert!(!report.problems.is_empty());
                prop_assert!(report.problems.iter().all(|problem| !problem.found.is_empty()), "{}", report);
            }
        }
        let _ = (masked(&text), diff(&text, ""));
    }

    /// Whatever passes the schema decodes: each problem of form has its line.
    #[test]
    fn any_value_in_place_of_any_field_is_named_with_its_place(pointer in any::<prop::sample::Index>(), value in yaml::tests::value()) {
        let mut document = Source::read(example("full"), "x").unwrap().value();
        let mut pointers = Vec::new();
        collect(&document, String::new(), &mut pointers);
        let pointer = pointer.get(&pointers);
        *document.pointer_mut(pointer).unwrap() = value;
        if let Err(report) = load(yaml::print(&document), "config.yaml") {
            prop_assert!(report.problems.iter().all(|problem| problem.line > 0), "{}", report);
        }
    }
}

/// JSON pointers to everything below the header.
fn collect(value: &Value, here: String, pointers: &mut Vec<String>) {
    let mut below = |name: &str, value: &Value| {
        let here = format!("{here}/{}", name.replace('~', "~0").replace('/', "~1"));
        pointers.push(here.clone());
        collect(value, here, pointers);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| below(name, value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, value)| below(&index.to_string(), value)),
        _ => {}
    }
}
