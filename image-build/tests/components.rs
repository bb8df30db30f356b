//! `image-build components` as a process, with the real Go and an upstream module that lies in a folder: no network.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const TABLE: &str = r#"
[[component]]
name = "greeter"
module = "example.com/greeter/v2"
stamps = { "example.com/greeter/v2.Version" = "{number}" }
[[component.build]]
files = { greet = "example.com/greeter/v2/cmd/hello" }
"#;

/// A `components` folder whose only component is made from `greeter/up`.
fn workshop() -> tempfile::TempDir {
    let top = tempfile::tempdir().expect("temporary folder");
    write(top.path(), "components/components.toml", TABLE);
    write(
        top.path(),
        "components/greeter/go.mod",
        "module corten.dev/components/greeter\n\ngo 1.26.0\n\nrequire example.com/greeter/v2 v2.3.4\n\nreplace example.com/greeter/v2 => ./up\n",
    );
    write(top.path(), "components/greeter/go.sum", "");
    write(top.path(), "components/greeter/up/go.mod", "module example.com/greeter/v2\n\ngo 1.26.0\n");
    write(top.path(), "components/greeter/up/greeter.go", "package greeter\n\nvar Version = \"unset\"\n");
    write(top.path(), "components/greeter/up/LICENSE", include_str!("../../LICENSE"));
    write(top.path(), "components/greeter/up/cmd/hello/main.go", &program("hello"));
    top
}

fn program(greeting: &str) -> String {
    format!("package main\n\nimport \"example.com/greeter/v2\"\n\nfunc main() {{ print(\"{greeting} \" + greeter.Version) }}\n")
}

fn write(top: &Path, name: &str, text: &str) {
    let path = top.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
    std::fs::write(path, text).expect("file");
}

fn components(top: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_image-build"))
        .args(["components", "--from", "components", "--out", "out", "--jobs", "1"])
        .current_dir(top)
        .env("GOPROXY", "off")
        .output()
        .expect("image-build starts")
}

/// What the built program prints.
fn greeting(top: &Path) -> String {
    let output = Command::new(top.join("out/greeter/bin/greet")).output().expect("the program starts");
    String::from_utf8(output.stderr).expect("text")
}

fn build(top: &Path) -> String {
    let output = components(top);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn only_what_is_stale_is_built_and_a_failure_leaves_the_old_output() {
    let top = workshop();
    let said = build(top.path());
    assert!(said.contains("[1/1] greeter v2.3.4: built in"), "{said}");
    assert_eq!(greeting(top.path()), "hello 2.3.4");

    let record: Value =
        serde_json::from_slice(&std::fs::read(top.path().join("out/greeter/component.json")).expect("record")).expect("JSON");
    assert_eq!(record["version"], "v2.3.4");
    assert_eq!(record["files"][0]["name"], "greet");
    assert_eq!(record["modules"]["example.com/greeter/v2@v2.3.4"]["licence"]["expression"], "Apache-2.0");

    assert!(build(top.path()).contains("[1/1] greeter v2.3.4: up to date"));

    // A source that does not compile: the compiler's words, and the old program stays.
    write(top.path(), "components/greeter/up/cmd/hello/main.go", &program("bye").replace("greeter.Version", "greeter.Vision"));
    let failed = components(top.path());
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(!failed.status.success());
    assert!(said.contains("component greeter") && said.contains("undefined: greeter.Vision"), "{said}");
    assert_eq!(greeting(top.path()), "hello 2.3.4");

    write(top.path(), "components/greeter/up/cmd/hello/main.go", &program("bye"));
    assert!(build(top.path()).contains("built in"));
    assert_eq!(greeting(top.path()), "bye 2.3.4");

    // Back to the first source: its build is still there, no compiler runs.
    write(top.path(), "components/greeter/up/cmd/hello/main.go", &program("hello"));
    assert!(build(top.path()).contains("up to date"));
    assert_eq!(greeting(top.path()), "hello 2.3.4");
}

#[test]
fn an_interrupted_or_damaged_build_is_made_again() {
    let top = workshop();
    build(top.path());
    let builds = top.path().join("out/.cache/greeter");
    std::fs::create_dir(builds.join(".building-left-over")).expect("folder");
    std::fs::write(top.path().join("out/greeter/bin/greet"), "cut").expect("file");
    assert!(build(top.path()).contains("built in"));
    assert_eq!(greeting(top.path()), "hello 2.3.4");
    assert!(!builds.join(".building-left-over").exists());
}

#[test]
fn a_missing_go_is_named_with_its_package() {
    let top = workshop();
    let output = Command::new(env!("CARGO_BIN_EXE_image-build"))
        .args(["components", "--from", "components", "--out", "out"])
        .current_dir(top.path())
        .env("PATH", top.path())
        .output()
        .expect("image-build starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("go: not found in PATH") && said.contains("golang-go"), "{said}");
    assert!(!top.path().join("out").exists(), "something was made before the tools were checked");
}
