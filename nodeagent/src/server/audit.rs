//! Service Audit: the audit log, to read. What the chain is worth is for the reader to find out, who need not trust this machine.

use std::path::PathBuf;

use api::v1::audit_server;
use api::v1::{ReadAuditRequest, ReadAuditResponse};
use tonic::{Request, Response, Status};

use super::stream::{Answers, Ended, Gone, Sink, answer};
use crate::audit::{self, Page};

/// Lines in one message.
const LINES: usize = 1000;

#[derive(Debug)]
pub struct Audit(pub audit::Audit);

#[tonic::async_trait]
impl audit_server::Audit for Audit {
    type ReadStream = Answers<ReadAuditResponse>;

    async fn read(&self, request: Request<ReadAuditRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let audit = self.0.clone();
        Ok(Response::new(answer(|sink| read(audit, request.into_inner(), sink))))
    }
}

async fn read(audit: audit::Audit, request: ReadAuditRequest, sink: Sink<ReadAuditResponse>) -> Result<(), Ended> {
    let mut newest = audit.newest();
    let mut from = request.from;
    loop {
        newest.borrow_and_update();
        while let Some(page) = page(audit.directory.clone(), from).await? {
            from = page.start.number + page.lines.len() as u64 + 1;
            send(page, &sink).await?;
        }
        if !request.follow {
            return Ok(());
        }
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { return Ok(()) },
            Gone = sink.gone() => return Err(Ended::Gone),
        }
    }
}

async fn page(directory: PathBuf, from: u64) -> Result<Option<Page>, Ended> {
    let read = tokio::task::spawn_blocking(move || audit::page(&directory, from)).await.map_err(anyhow::Error::from)?;
    Ok(read?)
}

async fn send(page: Page, sink: &Sink<ReadAuditResponse>) -> Result<(), Gone> {
    let mut start = Some(page.start.to_string());
    for lines in page.lines.chunks(LINES) {
        sink.send(ReadAuditResponse { start: start.take().unwrap_or_default(), lines: lines.to_vec() }).await?;
    }
    Ok(())
}
