//! The image swap as clients see it: streams that stop, clients that vanish, reboots.

use std::time::Duration;

use api::v1::upgrade_client::UpgradeClient;
use api::v1::{
    ImagePart, OfferRequest, OfferResponse, PatchBase, RollbackUpgradeRequest, StartUpgradeRequest, UpgradeProgress, UploadRequest,
    WatchUpgradeRequest,
};
use controlplane::pki::MachineRole;
use machine::disk::Slot;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt;
use update::Digest;

use super::harness::Machine;
use crate::upgrade::played::{Disk, Image, Update};
use crate::upgrade::upload::Sent;

struct Upgrading {
    machine: Machine,
    disk: Disk,
    client: UpgradeClient<Channel>,
    new: Image,
    update: Update,
}

impl Upgrading {
    async fn new() -> Upgrading {
        let (old, new) = (Image::new("0.1.0"), Image::new("0.2.0"));
        let disk = Disk::new(&old);
        let machine = Machine::on_disk(disk.root(), disk.facts(&old, Slot::A, false)).await;
        let client = UpgradeClient::new(machine.admin().await);
        Upgrading { machine, disk, client, update: new.update(), new }
    }

    async fn offer(&mut self) -> OfferResponse {
        let manifest = self.update.signed().bytes().to_vec();
        self.client.offer(OfferRequest { manifest, ..Default::default() }).await.unwrap().into_inner()
    }

    fn message(&self, digest: &[u8]) -> UploadRequest {
        let data = self.update.chunk(&Digest(digest.try_into().unwrap()));
        UploadRequest { update: self.update.id(), digest: digest.to_vec(), data, base: None }
    }

    async fn upload(&mut self, digests: &[Vec<u8>]) -> u64 {
        let messages: Vec<UploadRequest> = digests.iter().map(|digest| self.message(digest)).collect();
        let uploaded = self.client.upload(tokio_stream::iter(messages)).await.unwrap().into_inner();
        assert_eq!(uploaded.chunks_written, digests.len() as u64);
        uploaded.missing
    }

    async fn start(&mut self, request: StartUpgradeRequest) -> Vec<UpgradeProgress> {
        let request = StartUpgradeRequest { update: self.update.id(), ..request };
        let stream = self.client.start(request).await.unwrap().into_inner();
        stream.map(Result::unwrap).collect().await
    }

    async fn until_reboot(&self) {
        let asked = async {
            while !self.machine.init.asked().iter().any(|request| request.contains("Reboot")) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), asked).await.expect("the agent asks init for a reboot");
    }
}

#[tokio::test]
async fn offered_sent_started_and_watched() {
    let mut upgrading = Upgrading::new().await;
    let offered = upgrading.offer().await;
    assert_eq!((offered.update.clone(), offered.version.as_str(), offered.running), (upgrading.update.id(), "0.2.0", false));
    assert!(offered.missing_bytes > 0 && offered.missing_bytes < offered.total_bytes);
    let mut reader = UpgradeClient::new(upgrading.machine.client(MachineRole::Reader).await.unwrap());
    let mut watched = reader.watch(WatchUpgradeRequest {}).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().phase, "writing");
    let refused = reader.start(StartUpgradeRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    assert_eq!(upgrading.upload(&offered.missing).await, 0);
    let plan = upgrading.start(StartUpgradeRequest { dry_run: true, ..Default::default() }).await;
    assert!(plan[0].finished && plan[0].plan.iter().any(|line| line.contains("keep it if the health gate passes")), "{plan:?}");
    let progress = upgrading.start(StartUpgradeRequest::default()).await;
    let last = progress.last().unwrap();
    assert_eq!((last.phase.as_str(), last.message.as_str(), last.finished), ("booting", "rebooting into 0.2.0", true));
    assert!(progress.iter().rev().skip(1).all(|message| !message.finished), "{progress:?}");
    upgrading.until_reboot().await;
    while watched.message().await.unwrap().unwrap().phase != "booting" {}
    upgrading.machine.until_event("stage upgrading -> ").await;
    assert_eq!(upgrading.disk.entries(), ["corten-a.conf", "corten-b+3.conf"]);
    assert!(upgrading.disk.holds(Slot::B, &upgrading.new));
}

#[tokio::test]
async fn a_stream_that_ends_early_and_a_client_that_vanishes() {
    let mut upgrading = Upgrading::new().await;
    let missing = upgrading.offer().await.missing;
    assert!(missing.len() >= 4, "{}", missing.len());
    // The first ends in order, with one chunk of those that were asked for.
    assert_eq!(upgrading.upload(&missing[..1]).await, missing.len() as u64 - 1);

    // The second sends two chunks and is gone without a word: its connection breaks.
    let (sender, messages) = mpsc::channel(4);
    let mut other = UpgradeClient::new(upgrading.machine.admin().await);
    let vanishing = tokio::spawn(async move { other.upload(ReceiverStream::new(messages)).await });
    for digest in &missing[1..3] {
        sender.send(upgrading.message(digest)).await.unwrap();
    }
    let mut watched = upgrading.client.watch(WatchUpgradeRequest {}).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().phase, "writing");
    // Both are on their way; then the connection is cut, wherever they are.
    while sender.capacity() < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    vanishing.abort();
    drop(sender);

    let left = upgrading.offer().await.missing;
    assert!(left.len() < missing.len() && left.len() >= missing.len() - 3, "{} of {}", left.len(), missing.len());
    assert_eq!(upgrading.upload(&left).await, 0);
    let progress = upgrading.start(StartUpgradeRequest { stage: true, ..Default::default() }).await;
    assert_eq!((progress.last().unwrap().phase.as_str(), progress.last().unwrap().finished), ("ready", true));
    assert!(!upgrading.machine.init.asked().iter().any(|request| request.contains("Reboot")));
    assert_eq!(upgrading.machine.node.stage().name(), "booting");
}

#[tokio::test]
async fn a_start_goes_on_without_its_client() {
    let mut upgrading = Upgrading::new().await;
    let missing = upgrading.offer().await.missing;
    upgrading.upload(&missing).await;
    let mut other = UpgradeClient::new(upgrading.machine.admin().await);
    let stream = other.start(StartUpgradeRequest { update: upgrading.update.id(), ..Default::default() }).await.unwrap();
    drop((stream, other));
    upgrading.until_reboot().await;
    assert_eq!(upgrading.disk.entries(), ["corten-a.conf", "corten-b+3.conf"]);
}

#[tokio::test]
async fn refusals_name_what_is_wrong() {
    let mut upgrading = Upgrading::new().await;
    let refused = upgrading.client.offer(OfferRequest { manifest: b"{".to_vec(), ..Default::default() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = upgrading.client.upload(tokio_stream::iter(Vec::<UploadRequest>::new())).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "update: no message; expected the update's name in the first one")
    );
    let started = upgrading.client.start(StartUpgradeRequest { update: "ab".to_owned(), ..Default::default() }).await;
    let refused = started.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::FailedPrecondition, "update \"ab\" is not the one that was offered last"));
    let rolled = upgrading.client.rollback(RollbackUpgradeRequest { dry_run: true, ..Default::default() }).await.unwrap_err();
    assert_eq!(rolled.message(), "slot b holds no image that was ever known to be good");
    // A damaged chunk ends the stream; what came before it is kept.
    let missing = upgrading.offer().await.missing;
    let bad = UploadRequest { data: vec![1, 2, 3], ..upgrading.message(&missing[1]) };
    let messages = vec![upgrading.message(&missing[0]), bad, upgrading.message(&missing[2])];
    let refused = upgrading.client.upload(tokio_stream::iter(messages)).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().starts_with("data: chunk "), "{refused}");
    assert_eq!(upgrading.offer().await.missing, missing[1..]);
}

#[tokio::test]
async fn a_patch_that_does_not_fit_is_told_apart() {
    let mut upgrading = Upgrading::new().await;
    let offered = upgrading.offer().await;
    let old = Image::new("0.1.0");
    assert_eq!(offered.running_root_hash, old.root_hash.to_string());
    let patch = |part, length_bytes| Some(PatchBase { part, offset_bytes: 0, length_bytes });
    let cases = [
        (Code::FailedPrecondition, "patch for chunk ", patch(ImagePart::Root.into(), 1000)),
        (Code::InvalidArgument, "base.length_bytes: 4294967295; expected 1 to 524288", patch(ImagePart::Uki.into(), u64::MAX)),
        (Code::InvalidArgument, "base.part: 0; expected root (1), verity (2) or uki (3)", patch(0, 1000)),
        (Code::InvalidArgument, "base.part: 9; expected root (1), verity (2) or uki (3)", patch(9, 1000)),
    ];
    for (code, words, base) in cases {
        // What needs no prefix is taken for a patch all the same: here it is cut short.
        let mut message = upgrading.message(&offered.missing[1]);
        message.data.pop();
        let messages = vec![upgrading.message(&offered.missing[0]), UploadRequest { base, ..message }];
        let refused = upgrading.client.upload(tokio_stream::iter(messages)).await.unwrap_err();
        assert!(refused.code() == code && refused.message().starts_with(words), "{refused}");
        let reason = refused.get_error_details().error_info().map(|info| info.reason.clone());
        assert_eq!(reason.as_deref(), (code == Code::FailedPrecondition).then_some("BASE_MISMATCH"));
    }
    assert_eq!(upgrading.offer().await.missing, offered.missing[1..]);
    // With the update file of what runs, it does.
    let digest = Digest(offered.missing[1].as_slice().try_into().unwrap());
    let Sent { digest, data, base } = upgrading.update.patch(&digest, &old.update()).unwrap();
    let base = base.map(|base| PatchBase { part: ImagePart::Root.into(), offset_bytes: base.offset, length_bytes: base.length.into() });
    let messages = vec![UploadRequest { update: upgrading.update.id(), digest, data, base }];
    let uploaded = upgrading.client.upload(tokio_stream::iter(messages)).await.unwrap().into_inner();
    assert_eq!(uploaded.missing, offered.missing.len() as u64 - 2);
}
