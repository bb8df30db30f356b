//! The agent's end of init's socket. Each call is a connection of its own: calls are rare, and a slow one (mkfs) holds up no other.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use machine::disk::Volume;
use machine::protocol::{self, BootFacts, Event, PowerAction, Proof, Request, Response, VolumeStatus};
use machine::service::{ServiceId, ServiceSpec, ServiceStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Long enough for a mkfs or a file system check of a large, slow disk.
const DEADLINE: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Clone)]
pub struct InitClient {
    socket: PathBuf,
}

impl InitClient {
    pub fn new(socket: PathBuf) -> InitClient {
        InitClient { socket }
    }

    pub async fn put_service(&self, spec: ServiceSpec) -> anyhow::Result<()> {
        self.done(Request::PutService(Box::new(spec))).await
    }

    pub async fn remove_service(&self, id: ServiceId) -> anyhow::Result<()> {
        self.done(Request::RemoveService(id)).await
    }

    pub async fn start_service(&self, id: ServiceId) -> anyhow::Result<()> {
        self.done(Request::StartService(id)).await
    }

    pub async fn stop_service(&self, id: ServiceId) -> anyhow::Result<()> {
        self.done(Request::StopService(id)).await
    }

    pub async fn restart_service(&self, id: ServiceId) -> anyhow::Result<()> {
        self.done(Request::RestartService(id)).await
    }

    pub async fn set_watchdog(&self, timeout: Duration) -> anyhow::Result<()> {
        self.done(Request::SetWatchdog { timeout }).await
    }

    pub async fn power(&self, action: PowerAction, wipe: Vec<Volume>, reason: String) -> anyhow::Result<()> {
        self.done(Request::Power { action, wipe, reason }).await
    }

    pub async fn prove_boot(&self, proof: Proof) -> anyhow::Result<()> {
        self.done(Request::ProveBoot(proof)).await
    }

    pub async fn lay_out_disk(&self, device: String, wipe: bool) -> anyhow::Result<()> {
        self.done(Request::LayOutDisk { device, wipe }).await
    }

    pub async fn adopt_disk(&self, device: String) -> anyhow::Result<()> {
        self.done(Request::AdoptDisk { device }).await
    }

    pub async fn services(&self) -> anyhow::Result<Vec<ServiceStatus>> {
        match self.call(Request::ListServices).await? {
            Response::Services(services) => Ok(services),
            other => unexpected(other),
        }
    }

    pub async fn open_volume(&self, volume: Volume) -> anyhow::Result<VolumeStatus> {
        match self.call(Request::OpenVolume(volume)).await? {
            Response::Volume(status) => Ok(status),
            other => unexpected(other),
        }
    }

    pub async fn volumes(&self) -> anyhow::Result<Vec<VolumeStatus>> {
        match self.call(Request::ListVolumes).await? {
            Response::Volumes(volumes) => Ok(volumes),
            other => unexpected(other),
        }
    }

    pub async fn boot_facts(&self) -> anyhow::Result<BootFacts> {
        match self.call(Request::GetBootFacts).await? {
            Response::BootFacts(facts) => Ok(*facts),
            other => unexpected(other),
        }
    }

    /// Statuses of all services, then every change; ends with an error when init closes the connection.
    pub async fn subscribe(&self) -> anyhow::Result<Events> {
        let mut stream = self.connect().await?;
        stream.write_all(&protocol::encode(&Request::Subscribe)?).await.context("asking init for events")?;
        Ok(Events { stream })
    }

    async fn done(&self, request: Request) -> anyhow::Result<()> {
        match self.call(request).await? {
            Response::Done => Ok(()),
            other => unexpected(other),
        }
    }

    async fn call(&self, request: Request) -> anyhow::Result<Response> {
        let mut stream = self.connect().await?;
        let exchange = async {
            stream.write_all(&protocol::encode(&request)?).await?;
            read(&mut stream).await
        };
        match timeout(DEADLINE, exchange).await.context("waiting for init's answer")?.context("talking to init")? {
            Response::Refused { reason } => anyhow::bail!("init: {reason}"),
            response => Ok(response),
        }
    }

    async fn connect(&self) -> anyhow::Result<UnixStream> {
        UnixStream::connect(&self.socket).await.with_context(|| format!("connecting to init at {}", self.socket.display()))
    }
}

/// What happens to services and volumes.
#[derive(Debug)]
pub struct Events {
    stream: UnixStream,
}

impl Events {
    pub async fn next(&mut self) -> anyhow::Result<Event> {
        read(&mut self.stream).await.context("reading init's events")
    }
}

async fn read<T: serde::de::DeserializeOwned>(stream: &mut UnixStream) -> std::io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let mut body = vec![0; protocol::checked_length(length)?];
    stream.read_exact(&mut body).await?;
    protocol::decode(&body)
}

fn unexpected<T>(response: Response) -> anyhow::Result<T> {
    anyhow::bail!("init answered {response:?}, which does not fit the request")
}
