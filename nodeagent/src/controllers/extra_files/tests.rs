use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use machine::Root;
use machine::config::Secret;

use super::*;
use crate::controllers::fixtures::machine;
use crate::init_client::InitClient;
use crate::node::Applied;

fn node(directory: &std::path::Path) -> Node {
    let root = Root::new(directory);
    Node::new(root.clone(), InitClient::new(root.init_socket()))
}

fn configure(node: &Node, files: &[(&str, &str)]) {
    let mut config = (*machine("worker").config).clone();
    let file = |(path, contents): &(&str, &str)| machine::config::File {
        path: (*path).to_owned(),
        mode: "0640".to_owned(),
        contents: Secret::new(*contents),
    };
    config.machine.files = files.iter().map(file).collect();
    node.set_config(Applied { generation: 1, config: Arc::new(config) });
}

/// Rounds until it is settled, each by a controller that knows nothing of the one before.
async fn settle(node: &Node) {
    for _ in 0..3 {
        let mut controller = ExtraFiles;
        let seen = controller.observe(node).await.unwrap();
        match controller.plan(&seen) {
            Plan::Act(actions) => {
                for action in actions {
                    controller.apply(action, node).await.unwrap();
                }
            }
            Plan::Settled => return,
            Plan::Waiting(missing) => panic!("{missing:?}"),
        }
    }
    panic!("not settled after three rounds");
}

#[tokio::test]
async fn files_come_and_go_with_the_config_and_others_stay() {
    let directory = tempfile::tempdir().unwrap();
    let node = node(directory.path());
    std::fs::create_dir_all(node.root.etc()).unwrap();
    std::fs::write(node.root.path("/etc/passwd"), "root").unwrap();
    configure(&node, &[("/etc/a", "one"), ("/etc/sub/b", "two")]);
    settle(&node).await;
    assert_eq!(std::fs::read_to_string(node.root.path("/etc/sub/b")).unwrap(), "two");
    assert_eq!(std::fs::metadata(node.root.path("/etc/a")).unwrap().mode() & 0o7777, 0o640);

    configure(&node, &[("/etc/a", "other")]);
    settle(&node).await;
    assert_eq!(std::fs::read_to_string(node.root.path("/etc/a")).unwrap(), "other");
    assert!(!node.root.path("/etc/sub/b").exists());
    assert!(node.root.path("/etc/passwd").exists());
}
