//! The crates depend on each other as ARCHITECTURE.md draws it, and in no other way.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// `A <- B, C`: B and C may depend on A.
const ARROWS: [(&str, &[&str]); 7] = [
    ("machine", &["controlplane", "image-build", "init", "machinectl", "metrics", "nodeagent", "testbed", "update"]),
    ("api", &["dashboard", "machinectl", "nodeagent"]),
    ("controlplane", &["machinectl", "nodeagent"]),
    ("update", &["image-build", "machinectl", "nodeagent"]),
    ("metrics", &["extender", "nodeagent", "simulator"]),
    ("extender", &["nodeagent"]),
    ("dashboard", &["machinectl", "nodeagent"]),
];

/// `testbed` serves local clusters; `tests` may use any.
const TESTBED_USERS: &[&str] = &["machinectl"];

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO")).args(["metadata", "--format-version=1", "--no-deps", "--offline"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

#[test]
fn crates_depend_on_each_other_as_drawn() {
    let packages = packages();
    let name = |package: &Value| package["name"].as_str().unwrap().to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    for (target, users) in ARROWS {
        assert!(ours.contains(target), "{target} is drawn and not there");
        users.iter().for_each(|user| assert!(ours.contains(*user), "{user} is drawn and not there"));
    }
    for package in packages.iter().filter(|package| package["name"] != "tests") {
        for dependency in package["dependencies"].as_array().unwrap() {
            let (from, to) = (name(package), name(dependency));
            if !ours.contains(&to) {
                continue;
            }
            let drawn = ARROWS.iter().any(|(target, users)| *target == to && users.contains(&from.as_str()));
            let drawn = drawn || to == "testbed" && TESTBED_USERS.contains(&from.as_str());
            assert!(drawn, "{from} depends on {to}; ARCHITECTURE.md draws no such arrow");
        }
    }
}

#[test]
fn the_drawing_in_architecture_names_every_crate() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../ARCHITECTURE.md")).unwrap();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        assert!(text.contains(&format!("`{name}/`")), "ARCHITECTURE.md does not say what {name}/ is for");
    }
}
