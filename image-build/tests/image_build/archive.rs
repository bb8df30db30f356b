//! `image-build archive` on the command line.

use std::fs;

use crate::support;

#[test]
fn makes_the_same_archive_each_time_and_says_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let make = |name: &str, more: &[&str]| {
        let mut command = support::image_build();
        command.args(["archive", "--binary", support::PROGRAM, "--port", "8080", "--label", "a=b", "--argument", "serve"]);
        command.args(["--name", name, "--out"]).arg(directory.path().join("deep/x.tar")).args(more).output().unwrap()
    };
    support::succeeded(&make("corten.dev/x:1", &[]));
    let first = fs::read(directory.path().join("deep/x.tar")).unwrap();
    support::succeeded(&make("corten.dev/x:1", &[]));
    assert!(first == fs::read(directory.path().join("deep/x.tar")).unwrap());
    let text = String::from_utf8_lossy(&first);
    for expected in [r#""Entrypoint":["/image-build","serve"]"#, r#""ExposedPorts":{"8080/tcp":{}}"#, r#""Labels":{"a":"b"}"#] {
        assert!(text.contains(expected), "{expected}");
    }
    let error = support::refusal(&make("corten.dev/x", &[]));
    assert!(error.contains("expected <repository>:<tag>"), "{error}");
    let error = support::refusal(&make("corten.dev/x:1", &["--port", "99999"]));
    assert!(error.contains("expected <number>"), "{error}");
}
