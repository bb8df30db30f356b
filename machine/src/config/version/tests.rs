use super::*;
use crate::config::yaml::print;

const KNOWN: [&str; 3] = ["corten.dev/v1", "corten.dev/v2", "corten.dev/v3"];

/// Versions of a format of the tests' own: v2 calls `name` `title`, v3 has it in `meta`.
const TOYS: [Step; 2] = [
    Step { forward: |tree| rename(tree, "name", "title"), backward: |tree| rename(tree, "title", "name") },
    Step { forward: nest, backward: flatten },
];

fn entries(tree: &mut Node) -> &mut Vec<yaml::Entry> {
    match &mut tree.content {
        Content::Map(entries) => entries,
        other => panic!("{other:?}"),
    }
}

fn rename(mut tree: Node, from: &str, to: &str) -> Node {
    for entry in entries(&mut tree).iter_mut().filter(|entry| entry.key == from) {
        entry.key = to.to_owned();
    }
    tree
}

fn nest(mut tree: Node) -> Node {
    let all = entries(&mut tree);
    let title = all.remove(all.iter().position(|entry| entry.key == "title").unwrap());
    let (place, meta) = (title.place, Node { place: title.place, content: Content::Map(vec![title]) });
    all.push(yaml::Entry { key: "meta".to_owned(), place, value: meta });
    tree
}

fn flatten(mut tree: Node) -> Node {
    let all = entries(&mut tree);
    let mut meta = all.remove(all.iter().position(|entry| entry.key == "meta").unwrap()).value;
    all.append(entries(&mut meta));
    tree
}

fn read(text: &str) -> Node {
    yaml::read_one(text, "test").unwrap()
}

#[test]
fn there_and_back_again_step_by_step() {
    let first = read("apiVersion: corten.dev/v1\nname: x\n");
    let third = migrate(first.clone(), &KNOWN, &TOYS, "corten.dev/v3").unwrap();
    assert_eq!(print(&third.value()), "apiVersion: corten.dev/v3\nmeta:\n  title: x\n");
    // Problems are shown where the user wrote the value.
    let title = third.get("meta").unwrap().get("title").unwrap();
    assert_eq!(title.place, first.get("name").unwrap().place);
    let second = migrate(third.clone(), &KNOWN, &TOYS, "corten.dev/v2").unwrap();
    assert_eq!(print(&second.value()), "apiVersion: corten.dev/v2\ntitle: x\n");
    assert_eq!(migrate(third, &KNOWN, &TOYS, "corten.dev/v1").unwrap(), first);
    assert_eq!(migrate(first.clone(), &KNOWN, &TOYS, "corten.dev/v1").unwrap(), first);
}

#[test]
fn what_is_not_known_stays() {
    for text in ["apiVersion: corten.dev/v4\nname: x\n", "name: x\n", "apiVersion: 1\n", "- x\n"] {
        assert_eq!(migrate(read(text), &KNOWN, &TOYS, "corten.dev/v3").unwrap_err(), read(text));
    }
    assert!(migrate(read("apiVersion: corten.dev/v1\n"), &KNOWN, &TOYS, "corten.dev/v9").is_err());
}

#[test]
fn every_version_has_its_step_and_its_goldens() {
    assert_eq!(VERSIONS.last(), Some(&API_VERSION));
    assert_eq!(STEPS.len() + 1, VERSIONS.len());
    let goldens = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/golden");
    for version in VERSIONS {
        let folder = goldens.join(version.rsplit('/').next().unwrap());
        assert!(folder.is_dir(), "{} is missing", folder.display());
    }
}

/// Of all configs of old releases: the newest version is the one that they are in.
#[test]
fn the_goldens_of_the_newest_version_stay_as_they_are() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/golden/v1");
    for case in std::fs::read_dir(folder).unwrap() {
        let tree = read(&std::fs::read_to_string(case.unwrap().path().join("config.yaml")).unwrap());
        assert_eq!(forward(tree.clone()), tree);
    }
}

#[test]
fn newer_ones_are_told_from_others() {
    for (text, newer) in [
        ("apiVersion: corten.dev/v1\n", false),
        ("apiVersion: corten.dev/v2\ncluster: 1\n", true),
        ("apiVersion: corten.dev/v1alpha1\n", true),
        ("apiVersion: apps/v1\n", false),
        ("kind: MachineConfig\n", false),
        ("{", false),
    ] {
        assert_eq!(is_newer(text), newer, "{text}");
    }
}
