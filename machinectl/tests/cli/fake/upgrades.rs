//! The fake machine's Upgrade service. Signatures, versions and chunks are checked as a machine checks them.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use api::v1::*;
use tokio_stream::StreamExt;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};
use update::{
    Base, Chunk, Digest, MAX_BASE_BYTES, PartName, Policy, Refused, Running, SignedManifest, TrustedKeys, admissible, decompress,
    decompress_from,
};

use super::Break;
use super::answers::{Answer, Answers, Stream, answer, stream, with_remedy};

fn refused(error: &dyn std::error::Error) -> Status {
    with_remedy(Code::FailedPrecondition, &error.to_string(), "nothing was written")
}

fn progress(phase: &str, message: &str, finished: bool) -> UpgradeProgress {
    UpgradeProgress { phase: phase.to_owned(), message: message.to_owned(), finished, ..Default::default() }
}

impl Answers {
    /// Verified, and whether it runs already.
    fn judge(&self, request: &OfferRequest) -> Result<(SignedManifest, bool), Status> {
        let story = self.story();
        let signed = SignedManifest::parse(&request.manifest).map_err(|error| refused(&error))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let keys = TrustedKeys { threshold: 1, keys: story.trusted.clone() };
        let manifest = signed.verify(&keys, now).map_err(|error| refused(&error))?;
        let running = Running {
            version: story.version.parse().expect("a version"),
            profile: story.profile.to_owned(),
            architecture: "x86_64".to_owned(),
            root_hash: (story.version == manifest.version.to_string()).then_some(manifest.root_hash),
            config_version: None,
        };
        match admissible(&manifest, &running, &Policy { allow_downgrade: request.allow_downgrade }) {
            Ok(()) => Ok((signed, false)),
            Err(Refused::SameImage { .. }) => Ok((signed, true)),
            Err(error) => Err(refused(&error)),
        }
    }

    fn missing(&self) -> Vec<Digest> {
        let story = self.story();
        let offered = story.offered.as_ref().expect("an offer");
        let running = story.running.as_ref().map(|running| running.manifest().peek().distinct_chunks()).unwrap_or_default();
        let has = |digest: &Digest| story.chunks.contains(&digest.0) || running.iter().any(|chunk| chunk.sha256 == *digest);
        offered.peek().needed_chunks().into_iter().map(|chunk| chunk.sha256).filter(|digest| !has(digest)).collect()
    }

    /// The chunk that was sent, whole or as a patch against what runs.
    fn made(&self, base: Option<PatchBase>, data: &[u8], chunk: &Chunk) -> Result<Vec<u8>, Status> {
        let Some(base) = base else { return Ok(decompress(data, chunk).expect("a whole chunk")) };
        let part = match base.part() {
            ImagePart::Root => PartName::Root,
            ImagePart::Verity => PartName::Verity,
            ImagePart::Uki => PartName::Uki,
            ImagePart::Unspecified => panic!("a patch against no part"),
        };
        let base = Base { part, offset: base.offset_bytes, length: base.length_bytes.try_into().expect("a length") };
        assert!(base.length <= MAX_BASE_BYTES, "{base:?}");
        let story = self.story();
        let running = story.really.as_ref().or(story.running.as_ref()).expect("a machine that said what it runs");
        decompress_from(&running.stretch(&base).expect("a stretch"), data, chunk).map_err(|_| {
            self.asked.note(format!("no patch of this {part}"));
            let details = ErrorDetails::with_error_info("BASE_MISMATCH", "corten.dev", HashMap::new());
            Status::with_error_details(Code::FailedPrecondition, format!("no patch of this {part}"), details)
        })
    }

    /// The reboot is asked for; the answer is lost if the story wants it so.
    async fn reboots(&self, stage: bool) -> Answer<Stream<UpgradeProgress>> {
        let cut = {
            let mut story = self.story();
            story.phase(if stage { "ready" } else { "booting" });
            let cut = std::mem::take(&mut story.cut_at_start);
            cut.then(|| story.lines.clone())
        };
        if let Some(lines) = cut {
            lines.cut();
            return std::future::pending().await;
        }
        let last = if stage { progress("ready", "boots it next", true) } else { progress("booting", "reboots", true) };
        stream(vec![progress("verifying", "reads slot b back", false), last])
    }
}

#[tonic::async_trait]
impl upgrade_server::Upgrade for Answers {
    async fn offer(&self, request: Request<OfferRequest>) -> Answer<OfferResponse> {
        let request = request.into_inner();
        let OfferRequest { dry_run, allow_downgrade, retry_failed, .. } = request;
        self.asked.note(format!("offer dry_run={dry_run} allow_downgrade={allow_downgrade} retry_failed={retry_failed}"));
        let (signed, running) = self.judge(&request)?;
        let manifest = signed.peek().clone();
        {
            let mut story = self.story();
            story.offered = Some(signed.clone());
            if !dry_run {
                story.begin("upgrade", &manifest.version.to_string());
            }
        }
        let missing = self.missing();
        let running_root_hash =
            self.story().running.as_ref().map(|running| running.manifest().peek().root_hash.to_string()).unwrap_or_default();
        let size = |digest: &Digest| manifest.distinct_chunks().iter().find(|chunk| chunk.sha256 == *digest).map_or(0, |chunk| chunk.size);
        answer(OfferResponse {
            update: signed.id().to_string(),
            version: manifest.version.to_string(),
            missing_bytes: missing.iter().map(|digest| u64::from(size(digest))).sum(),
            missing: missing.into_iter().map(|digest| digest.0.to_vec()).collect(),
            total_bytes: manifest.total_bytes(),
            plan: vec!["write slot b".to_owned(), "reboot into it".to_owned()],
            running,
            running_root_hash,
        })
    }

    async fn upload(&self, request: Request<Streaming<UploadRequest>>) -> Answer<UploadResponse> {
        let (mut messages, mut written, mut patches, mut bytes) = (request.into_inner(), 0, 0, 0);
        let mut first = true;
        while let Some(message) = messages.next().await {
            let UploadRequest { update, digest, data, base } = message?;
            let id = self.story().offered.as_ref().expect("an offer").id().to_string();
            assert_eq!(update, if std::mem::take(&mut first) { id.as_str() } else { "" });
            let digest = Digest(digest.try_into().expect("32 bytes"));
            let chunks = self.story().offered.as_ref().expect("an offer").peek().distinct_chunks();
            let chunk = chunks.iter().find(|chunk| chunk.sha256 == digest).expect("a chunk of the update");
            patches += usize::from(base.is_some());
            bytes += self.made(base, &data, chunk)?.len() as u64;
            assert!(self.story().chunks.insert(digest.0), "a chunk was sent twice");
            written += 1;
            let breaks = self.story().breaks_after.take_if(|(after, _)| *after == written);
            if let Some((_, how)) = breaks {
                self.asked.note(format!("upload of {written} chunks, then {how:?}"));
                match how {
                    Break::Cut => self.story().lines.cut(),
                    Break::Stalled => {
                        let details = ErrorDetails::with_error_info("STALLED", "corten.dev", HashMap::new());
                        return Err(Status::with_error_details(Code::FailedPrecondition, "no chunk came for 60 seconds", details));
                    }
                }
            }
        }
        let patched = if patches > 0 { format!(", {patches} as patches") } else { String::new() };
        self.asked.note(format!("upload of {written} chunks{patched}"));
        answer(UploadResponse { chunks_written: written as u64, bytes_written: bytes, missing: self.missing().len() as u64 })
    }

    type StartStream = Stream<UpgradeProgress>;
    async fn start(&self, request: Request<StartUpgradeRequest>) -> Answer<Self::StartStream> {
        let StartUpgradeRequest { update, dry_run, stage, reboot_mode, without_snapshot, .. } = request.into_inner();
        assert!(!dry_run && update == self.story().offered.as_ref().expect("an offer").id().to_string());
        assert_eq!(self.missing(), [], "chunks are missing");
        let mode = RebootMode::try_from(reboot_mode).expect("a mode").as_str_name();
        let unsaved = if without_snapshot { " without_snapshot" } else { "" };
        self.asked.note(format!("start stage={stage} {mode}{unsaved}"));
        self.reboots(stage).await
    }

    type RollbackStream = Stream<UpgradeProgress>;
    async fn rollback(&self, request: Request<RollbackUpgradeRequest>) -> Answer<Self::RollbackStream> {
        let RollbackUpgradeRequest { dry_run, stage, .. } = request.into_inner();
        self.asked.note(format!("rollback of the image dry_run={dry_run} stage={stage}"));
        if dry_run {
            let plan = vec!["boot 0.0.9 in slot b".to_owned()];
            return stream(vec![UpgradeProgress { plan, finished: true, ..Default::default() }]);
        }
        if self.story().record()["phase"] == "proving" {
            self.story().give_up();
            return stream(vec![progress("failed", "the image on trial is given up", true)]);
        }
        self.story().begin("rollback", "0.0.9");
        self.reboots(stage).await
    }

    type WatchStream = Stream<UpgradeProgress>;
    async fn watch(&self, _: Request<WatchUpgradeRequest>) -> Answer<Self::WatchStream> {
        stream(vec![progress("writing", "copies what it has", false)])
    }
}
