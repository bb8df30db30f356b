//! Answers that come in pieces. A task makes them; it waits while the client does not read, and ends when the client goes.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::refusal::Refusal;

/// Messages that wait for a slow client: with the transport's window all that a stalled stream costs.
const WAITING: usize = 2;
/// How long a client may leave a message unread.
const STALLED: Duration = Duration::from_secs(10 * 60);

pub type Answers<T> = ReceiverStream<Result<T, Status>>;

/// Where a task puts its answers.
#[derive(Debug, Clone)]
pub struct Sink<T>(mpsc::Sender<Result<T, Status>>);

/// The client went away, or does not read.
#[derive(Debug)]
pub struct Gone;

impl<T: Send + 'static> Sink<T> {
    pub async fn send(&self, message: T) -> Result<(), Gone> {
        match tokio::time::timeout(STALLED, self.0.send(Ok(message))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    /// Sends what a client takes at once; what finds no room is left out.
    pub fn offer(&self, message: T) {
        // A client that went away is found out by the next send.
        let _ = self.0.try_send(Ok(message));
    }

    /// As [`Sink::send`], from a thread that may wait.
    pub fn send_blocking(&self, message: T) -> Result<(), Gone> {
        self.0.blocking_send(Ok(message)).map_err(|_| Gone)
    }

    /// Ends when the client goes.
    pub async fn gone(&self) -> Gone {
        self.0.closed().await;
        Gone
    }
}

/// Runs the task and answers with what it sends. A refusal is the stream's end.
pub fn answer<T, F>(task: impl FnOnce(Sink<T>) -> F) -> Answers<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Ended>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(WAITING);
    let work = task(Sink(sender.clone()));
    tokio::spawn(async move {
        if let Err(Ended::Refused(refusal)) = work.await {
            // Nobody may be left to hear it.
            let _ = sender.send(Err(refusal.into())).await;
        }
    });
    ReceiverStream::new(receiver)
}

/// Why a task stopped before its work was done.
#[derive(Debug)]
pub enum Ended {
    Gone,
    Refused(Refusal),
}

impl From<Gone> for Ended {
    fn from(_: Gone) -> Ended {
        Ended::Gone
    }
}

impl<E: Into<Refusal>> From<E> for Ended {
    fn from(error: E) -> Ended {
        Ended::Refused(error.into())
    }
}
