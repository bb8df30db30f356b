//! The machine's files over the API.

use std::fs;
use std::os::unix::fs::symlink;

use api::v1::file_client::FileClient;
use api::v1::{ListFilesRequest, ReadRequest};
use tonic::Code;

use super::harness::Machine;

#[tokio::test]
async fn regular_files_are_read_and_others_are_not() {
    let machine = Machine::configured().await;
    fs::create_dir_all(machine.root.path("/etc/sub")).unwrap();
    let content: Vec<u8> = (0..200_000_u32).map(|byte| byte as u8).collect();
    fs::write(machine.root.path("/etc/big"), &content).unwrap();
    symlink("big", machine.root.path("/etc/link")).unwrap();
    nix::unistd::mkfifo(&machine.root.path("/etc/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut client = FileClient::new(machine.admin().await);

    let mut stream = client.read(ReadRequest { path: "/etc/big".to_owned() }).await.unwrap().into_inner();
    let mut read = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        read.extend(message.chunk);
    }
    assert!(read == content);

    let mut stream = client.list(ListFilesRequest { path: "/etc".to_owned() }).await.unwrap().into_inner();
    let mut entries = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        let entry = message.entry.unwrap();
        entries.push((entry.name, entry.target));
    }
    entries.sort();
    assert_eq!(
        entries.iter().map(|(name, target)| (name.as_str(), target.as_str())).collect::<Vec<_>>(),
        [("big", ""), ("link", "big"), ("pipe", ""), ("sub", "")]
    );

    for (path, code) in [
        ("/etc/pipe", Code::InvalidArgument),
        ("/etc/sub", Code::InvalidArgument),
        ("/etc/nothing", Code::NotFound),
        ("etc/big", Code::InvalidArgument),
        ("/etc/../etc/big", Code::InvalidArgument),
        ("", Code::InvalidArgument),
    ] {
        assert_eq!(client.read(ReadRequest { path: path.to_owned() }).await.unwrap_err().code(), code, "{path}");
    }
}
