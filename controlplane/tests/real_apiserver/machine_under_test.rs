//! A control plane's files in a temporary root, and its services as init would run them: own accounts, empty environment, notify sockets.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::future::Future;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail, ensure};
use controlplane::client::{Access, Client};
use controlplane::generate::{self, Options};
use controlplane::pki::{self, AuthorityId, CertificateId, CertificateRequest};
use controlplane::secrets::Secrets;
use controlplane::{Credentials, Facts, Rendered};
use machine::Root;
use machine::config::{Config, Manifest};
use machine::service::{Filesystem, Readiness, ServiceSpec};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

const DEADLINE: Duration = Duration::from_secs(90);
const NODE_IP: [u8; 4] = [192, 0, 2, 10];
const API_SERVER: &str = "https://127.0.0.1:6443";

pub struct MachineUnderTest {
    pub config: Config,
    pub facts: Facts,
    pub credentials: Credentials,
    secrets: Secrets,
    components: PathBuf,
    running: Vec<(String, Child)>,
    // Last, so that it goes after the processes that write into it.
    directory: tempfile::TempDir,
}

impl MachineUnderTest {
    /// Moves the calling thread, and all that it starts, into namespaces of their own.
    pub fn new() -> Result<MachineUnderTest> {
        MachineUnderTest::with(NODE_IP.into(), |_| {})
    }

    /// The same with another address of the node, and another config.
    pub fn with(node_ip: IpAddr, change: impl FnOnce(&mut Config)) -> Result<MachineUnderTest> {
        let components = components()?;
        own_network(node_ip)?;
        own_mounts()?;
        let directory = tempfile::tempdir()?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let now = SystemTime::now();
        let secrets = Secrets::generate(now)?;
        let document = generate::generate("demo", "https://demo.example:6443", &secrets, &Options::new(now))?.controlplane;
        let mut config = Config { cluster: document.cluster, machine: document.machine };
        config.cluster.manifests.push(Manifest { name: "users-own".to_owned(), contents: USERS_MANIFEST.to_owned() });
        change(&mut config);
        let facts = Facts { root: Root::new(directory.path()), node_name: "cp-1".to_owned(), node_ips: vec![node_ip], emulated: None };
        let mut credentials = Credentials::from_config(&config);
        for spec in pki::certificates(&config, &facts) {
            credentials.issued.insert(spec.id, secrets.issue(spec.authority, &spec.request, now)?);
        }
        Ok(MachineUnderTest { config, facts, credentials, secrets, components, running: Vec::new(), directory })
    }

    /// Another control plane of the same cluster, in the network of the thread that starts its services.
    pub fn beside(&self, node_name: &str, node_ip: IpAddr) -> Result<MachineUnderTest> {
        let directory = tempfile::tempdir()?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let facts = Facts { root: Root::new(directory.path()), node_name: node_name.to_owned(), node_ips: vec![node_ip], emulated: None };
        let (config, secrets) = (self.config.clone(), self.secrets.clone());
        let mut credentials = Credentials::from_config(&config);
        for spec in pki::certificates(&config, &facts) {
            credentials.issued.insert(spec.id, secrets.issue(spec.authority, &spec.request, SystemTime::now())?);
        }
        let components = self.components.clone();
        Ok(MachineUnderTest { config, facts, credentials, secrets, components, running: Vec::new(), directory })
    }

    /// Writes the files, starts the service and waits until it is ready in the way that its spec says.
    pub async fn start(&mut self, rendered: Rendered) -> Result<()> {
        for file in &rendered.files {
            let directory = file.path.parent().context("a path in a directory")?;
            fs::create_dir_all(directory)?;
            fs::write(&file.path, &file.contents)?;
            fs::set_permissions(&file.path, Permissions::from_mode(file.mode))?;
            chown(&file.path, Some(file.account.id()), Some(file.account.id()))?;
        }
        let spec = rendered.service;
        install(&spec, &self.components)?;
        let notify_path = self.directory.path().join(format!("{}.notify", spec.id));
        if notify_path.exists() {
            fs::remove_file(&notify_path)?;
        }
        let notify = tokio::net::UnixDatagram::bind(&notify_path)?;
        fs::set_permissions(&notify_path, Permissions::from_mode(0o777))?;
        let log = File::create(self.log_path(spec.id.as_str()))?;
        let child = spawn(&spec, Command::new(&spec.program), &notify_path, log)?;
        self.running.push((spec.id.to_string(), child));
        self.await_ready(&spec, &notify).await
    }

    /// Ends a service that was started.
    pub fn stop(&mut self, service: &str) -> Result<()> {
        let index = self.running.iter().position(|(name, _)| name == service).with_context(|| format!("{service} was not started"))?;
        let (_, mut child) = self.running.remove(index);
        child.kill()?;
        Ok(child.wait().map(drop)?)
    }

    /// Its process, for signals.
    pub fn pid(&self, service: &str) -> Result<u32> {
        let running = self.running.iter().find(|(name, _)| name == service);
        Ok(running.with_context(|| format!("{service} was not started"))?.1.id())
    }

    async fn await_ready(&mut self, spec: &ServiceSpec, notify: &tokio::net::UnixDatagram) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        let mut interval = tokio::time::interval(Duration::from_millis(50));
        loop {
            interval.tick().await;
            let ready = match &spec.readiness {
                Readiness::Notify => has_notified(notify),
                Readiness::Tcp(address) => tokio::net::TcpStream::connect(address).await.is_ok(),
                other => bail!("{} has readiness {other:?}", spec.id),
            };
            if ready {
                return Ok(());
            }
            let (_, child) = self.running.last_mut().context("it was started")?;
            if let Some(status) = child.try_wait()? {
                bail!("{} ended with {status}", spec.id);
            }
            ensure!(Instant::now() < deadline, "{} is not ready after {DEADLINE:?}", spec.id);
        }
    }

    /// As its pod would: an ordinary user without capabilities, told where the API server is.
    pub fn start_coredns(&mut self, corefile: &Path) -> Result<()> {
        // The pod has this sysctl in a network namespace of its own, as we do.
        fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")?;
        let log = File::create(self.log_path("coredns"))?;
        let child = Command::new(self.components.join("coredns/bin/coredns"))
            .arg("-conf")
            .arg(corefile)
            .env_clear()
            .envs([("KUBERNETES_SERVICE_HOST", "127.0.0.1"), ("KUBERNETES_SERVICE_PORT", "6443")])
            .uid(65_532)
            .gid(65_532)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting CoreDNS")?;
        self.running.push(("coredns".to_owned(), child));
        Ok(())
    }

    /// A client of the API server in this name.
    pub fn client(&self, request: &CertificateRequest) -> Result<Client> {
        let issued = self.secrets.issue(AuthorityId::Kubernetes, request, SystemTime::now())?;
        self.client_with(API_SERVER, AuthorityId::Kubernetes, &issued)
    }

    /// A client of the API server with a certificate that the machine keeps.
    pub fn client_of(&self, id: CertificateId) -> Result<Client> {
        self.client_with(API_SERVER, AuthorityId::Kubernetes, self.credentials.certificate(id)?)
    }

    /// It says that it is an administrator, but its authority is not the cluster's.
    pub fn foreign_client(&self) -> Result<Client> {
        let foreign = pki::Authority::generate("Kubernetes", SystemTime::now(), Duration::from_secs(3600))?;
        let issued = foreign.issue(&pki::super_user(Duration::from_secs(3600)), SystemTime::now())?;
        self.client_with(API_SERVER, AuthorityId::Kubernetes, &issued)
    }

    pub fn etcd_client(&self, server: &str) -> Result<Client> {
        self.client_with(server, AuthorityId::EtcdClient, self.credentials.certificate(CertificateId::EtcdHealthClient)?)
    }

    /// A client of any server with a certificate of this authority's.
    pub fn client_with(&self, server: &str, authority: AuthorityId, issued: &pki::Issued) -> Result<Client> {
        let authority = &authority.of(&self.config.cluster.certificate_authorities).certificate;
        Ok(Client::new(Access { server, authority, certificate: &issued.certificate_pem, key: &issued.key_pem })?)
    }

    pub fn without_certificate(&self, server: &str, authority: AuthorityId) -> Result<kube::Client> {
        let authority = &authority.of(&self.config.cluster.certificate_authorities).certificate;
        let mut config = kube::Config::new(server.parse()?);
        config.root_cert = Some(vec![CertificateDer::from_pem_slice(authority.as_bytes()).map_err(|error| anyhow!("{error}"))?.to_vec()]);
        Ok(kube::Client::try_from(config)?)
    }

    /// What etcd holds under a key.
    pub fn etcd_value(&self, key: &str) -> Result<Vec<u8>> {
        let directory = self.facts.root.control_plane().join("kube-apiserver");
        let output = Command::new(self.components.join("etcd/bin/etcdctl"))
            .args(["--endpoints=https://127.0.0.1:2379", "get", key, "--print-value-only"])
            .arg(format!("--cacert={}", directory.join("etcd-ca.crt").display()))
            .arg(format!("--cert={}", directory.join("etcd-client.crt").display()))
            .arg(format!("--key={}", directory.join("etcd-client.key").display()))
            .output()
            .context("starting etcdctl")?;
        ensure!(output.status.success(), "etcdctl: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }

    pub fn no_flag_is_deprecated(&self) -> Result<()> {
        for (service, log) in self.read_logs() {
            let complaint = log.lines().find(|line| line.contains("has been deprecated") || line.contains("unknown flag"));
            ensure!(complaint.is_none(), "{service}: {complaint:?}");
        }
        Ok(())
    }

    fn log_path(&self, service: &str) -> PathBuf {
        self.directory.path().join(format!("{service}.log"))
    }

    fn read_logs(&self) -> BTreeMap<String, String> {
        let read = |(name, _): &(String, Child)| (name.clone(), fs::read_to_string(self.log_path(name)).unwrap_or_default());
        self.running.iter().map(read).collect()
    }

    /// The end of each service's log, for a failure's message.
    pub fn logs(&self) -> String {
        let tail = |log: &str| log.lines().rev().take(25).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
        self.read_logs().iter().map(|(service, log)| format!("== {service}\n{}\n", tail(log))).collect()
    }
}

impl Drop for MachineUnderTest {
    /// The API server before etcd, so that none waits for another.
    fn drop(&mut self) {
        for (_, child) in self.running.iter_mut().rev() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const USERS_MANIFEST: &str = "apiVersion: v1
kind: Namespace
metadata: { name: demo }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: users-own, namespace: demo }
data: { greeting: hello }
";

/// The program where the image has it, and the directories that it writes to.
pub fn install(spec: &ServiceSpec, components: &Path) -> Result<()> {
    let component = match spec.id.as_str() {
        "etcd" => "etcd/bin/etcd",
        "kube-proxy" => "kubernetes/bin/node",
        _ => "kubernetes/bin/controlplane",
    };
    fs::create_dir_all(spec.program.parent().context("a program in a directory")?)?;
    if !spec.program.exists() {
        symlink(components.join(component), &spec.program)?;
    }
    let Filesystem::ReadOnly { writable } = &spec.filesystem else { return Ok(()) };
    for directory in writable {
        fs::create_dir_all(directory)?;
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
        chown(directory, Some(spec.account.id()), Some(spec.account.id()))?;
    }
    Ok(())
}

/// Starts a service as init would. The command runs its program, by way of others or by itself.
pub fn spawn(spec: &ServiceSpec, mut command: Command, notify: &Path, log: File) -> Result<Child> {
    command
        .args(&spec.args)
        .env_clear()
        .envs(&spec.environment)
        .env("NOTIFY_SOCKET", notify)
        .uid(spec.account.id())
        .gid(spec.account.id())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting {}", spec.program.display()))
}

/// Whether it has said so.
pub fn has_notified(socket: &tokio::net::UnixDatagram) -> bool {
    let mut message = [0; 256];
    socket.try_recv(&mut message).is_ok_and(|length| message[..length].starts_with(b"READY=1"))
}

/// Tries until it succeeds; the last error is the reason of the failure.
pub async fn until<T, F: Future<Output = Result<T>>>(what: &str, attempt: impl Fn() -> F) -> Result<T> {
    let deadline = Instant::now() + DEADLINE;
    let mut interval = tokio::time::interval(Duration::from_millis(100));
    loop {
        interval.tick().await;
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => return Err(error.context(format!("waiting until {what}"))),
            Err(_) => {}
        }
    }
}

/// Where `make components` has laid them.
pub fn components() -> Result<PathBuf> {
    let directory = std::env::var_os("CORTEN_COMPONENTS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/components"), PathBuf::from);
    for program in ["coredns/bin/coredns", "etcd/bin/etcd", "etcd/bin/etcdctl", "kubernetes/bin/controlplane"] {
        let path = directory.join(program);
        ensure!(path.exists(), "{} is not there: run `make components` first, or set CORTEN_COMPONENTS", path.display());
    }
    Ok(directory.canonicalize()?)
}

/// The ports are fixed, so the test brings its own network: loopback, with the node's address on it.
fn own_network(node_ip: IpAddr) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace; this test needs root")?;
    let address = format!("{node_ip}/{}", if node_ip.is_ipv4() { 32 } else { 128 });
    for args in [["link", "set", "lo", "up"].as_slice(), &["address", "add", &address, "dev", "lo"]] {
        let status = Command::new("ip").args(args).status().context("starting ip (Debian: iproute2)")?;
        ensure!(status.success(), "ip {args:?}: {status}");
    }
    Ok(())
}

/// An empty /run, for a pod's files in it, and a resolver that nobody answers at.
fn own_mounts() -> Result<()> {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace; this test needs root")?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
    // It may be a link into /run.
    let resolv_conf = fs::canonicalize("/etc/resolv.conf")?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), NOTHING)?;
    let own = Path::new("/run/resolv.conf");
    fs::write(own, "nameserver 192.0.2.53\n")?;
    if !resolv_conf.exists() {
        fs::create_dir_all(resolv_conf.parent().context("it has one")?)?;
        File::create(&resolv_conf)?;
    }
    Ok(mount(Some(own), &resolv_conf, NOTHING, MsFlags::MS_BIND, NOTHING)?)
}
