//! A machine API that answers what the tests expect and remembers what it was asked.

mod answers;
mod kubernetes;
mod lines;
mod story;
mod upgrades;

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use api::v1::capture_server::CaptureServer;
use api::v1::cluster_server::ClusterServer;
use api::v1::config_server::ConfigServer;
use api::v1::file_server::FileServer;
use api::v1::image_server::ImageServer;
use api::v1::log_server::LogServer;
use api::v1::machine_server::MachineServer;
use api::v1::resource_server::ResourceServer;
use api::v1::service_control_server::ServiceControlServer;
use api::v1::upgrade_server::UpgradeServer;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use crate::terminal::{Ran, machinectl};
use crate::trust::{self, Identity};
use lines::Lines;

pub use kubernetes::Kubernetes;
pub use story::{Break, Fate, Story};

/// What the machine was asked: one line a call that changes something or carries something to look at.
#[derive(Debug, Clone, Default)]
pub struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    pub fn note(&self, line: impl Into<String>) {
        self.0.lock().expect("unpoisoned").push(line.into());
    }

    pub fn lines(&self) -> Vec<String> {
        self.0.lock().expect("unpoisoned").clone()
    }
}

/// A machine, and a home for the user who calls it.
pub struct Fake {
    pub address: SocketAddr,
    pub asked: Asked,
    pub home: TempDir,
    /// What the machine is, and what becomes of it.
    pub story: Arc<Mutex<Story>>,
    _runtime: Runtime,
}

impl Fake {
    /// A machine of the test cluster; the user's client config leads to it.
    pub fn member() -> Fake {
        let fake = Fake::serving(trust::member());
        fake.write_client_config(&trust::client_config(&[fake.address.to_string()]).to_yaml().expect("YAML"));
        fake
    }

    pub fn serving(identity: Identity) -> Fake {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        Fake::on(listener, identity)
    }

    pub fn on(listener: StdListener, identity: Identity) -> Fake {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let (address, asked) = (listener.local_addr().expect("an address"), Asked::default());
        let story = Arc::new(Mutex::new(Story::new(address)));
        runtime.spawn(serve(listener, identity, answers::Answers { asked: asked.clone(), story: story.clone() }));
        Fake { address, asked, home: tempfile::tempdir().expect("temporary directory"), story, _runtime: runtime }
    }

    /// Changes what the machine is or what will become of it.
    pub fn tell(&self, change: impl FnOnce(&mut Story)) {
        change(&mut self.story.lock().expect("unpoisoned"));
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn write_client_config(&self, text: &str) {
        self.write(".config/corten/config.yaml", text);
    }

    /// Writes a file of the user's.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
        std::fs::write(&path, contents).expect("write");
        path
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        machinectl(self.home(), arguments)
    }

    /// `-n` for this machine and for one where nobody listens.
    pub fn with_a_dead_one(&self) -> String {
        format!("{},127.0.0.1:{}", self.address, dead_port())
    }
}

/// A port that nobody listens on.
pub fn dead_port() -> u16 {
    StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("an address").port()
}

async fn serve(listener: StdListener, identity: Identity, fake: answers::Answers) {
    listener.set_nonblocking(true).expect("non-blocking");
    let listener = TcpListener::from_std(listener).expect("a listener");
    let acceptor = TlsAcceptor::from(identity.tls);
    let lines: Lines = fake.story.lock().expect("unpoisoned").lines.clone();
    let (sender, connections) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, sender, stream) = (acceptor.clone(), sender.clone(), lines.through(stream));
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = sender.send(Ok::<_, std::io::Error>(stream)).await;
                }
            });
        }
    });
    Server::builder()
        .add_service(MachineServer::new(fake.clone()))
        .add_service(ConfigServer::new(fake.clone()))
        .add_service(ResourceServer::new(fake.clone()))
        .add_service(ServiceControlServer::new(fake.clone()))
        .add_service(LogServer::new(fake.clone()))
        .add_service(ClusterServer::new(fake.clone()))
        .add_service(ImageServer::new(fake.clone()))
        .add_service(UpgradeServer::new(fake.clone()))
        .add_service(CaptureServer::new(fake.clone()))
        .add_service(FileServer::new(fake))
        .serve_with_incoming(ReceiverStream::new(connections))
        .await
        .expect("serve");
}
