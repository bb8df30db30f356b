//! Network namespaces for tests. They need root.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::JoinHandle;

/// Runs a test in a new network namespace: on a thread of its own, since a namespace is a thread's. The host's name is the test's own too.
pub fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    use nix::sched::CloneFlags;
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS).expect("a network namespace (this test needs root)");
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
    });
    thread.join().unwrap();
}

/// Has the settings of a namespace's network under a root as well: those of whoever looks.
pub fn link_settings(root: &Path) {
    std::fs::create_dir_all(root.join("proc/sys")).unwrap();
    std::os::unix::fs::symlink("/proc/sys/net", root.join("proc/sys/net")).unwrap();
}

/// A process that holds a network namespace; both end with the value.
pub struct Namespace(Child);

impl Namespace {
    pub fn new() -> Namespace {
        let child = Command::new("unshare").args(["--net", "sleep", "900"]).spawn().unwrap();
        let namespace = Namespace(child);
        // Of this thread: a test may be in a namespace already.
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        while std::fs::read_link(namespace.path()).is_ok_and(|theirs| theirs == own) {
            std::thread::yield_now();
        }
        namespace
    }

    /// The one that the calling thread is in already.
    pub fn of_this_thread() -> Namespace {
        Namespace(Command::new("sleep").arg("900").spawn().unwrap())
    }

    /// Runs something on a thread of its own in the namespace: a namespace is a thread's. Sockets that it opens stay there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(self.inside(work)).join().unwrap())
    }

    /// The same for something that goes on.
    pub fn spawn(&self, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
        std::thread::spawn(self.inside(work))
    }

    fn inside<T, F: FnOnce() -> T + Send>(&self, work: F) -> impl FnOnce() -> T + Send + use<T, F> {
        let file = std::fs::File::open(self.path()).unwrap();
        move || {
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).expect("entering a network namespace (this test needs root)");
            work()
        }
    }

    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid()))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program.as_ref());
        command
    }

    /// Puts a program under a root that runs the host's of the same name in the namespace.
    pub fn install(&self, path: &Path) {
        let name = path.file_name().unwrap().display();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("#!/bin/sh\nexec nsenter --net={} {name} \"$@\"\n", self.path().display())).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What the command prints; empty for one that fails.
    pub fn text(&self, command: &[&str]) -> String {
        let output = self.command(command[0]).args(&command[1..]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A command that must work, its words apart by spaces.
    pub fn run(&self, line: &str) {
        let (program, rest) = line.split_once(' ').unwrap();
        let output = self.command(program).args(rest.split(' ')).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
