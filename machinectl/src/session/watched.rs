//! A TLS stream that remembers why it broke. A machine refuses a client certificate after the handshake (TLS 1.3), so the alert reaches the
//! HTTP/2 layer, which tells callers no more than that the connection was closed.

use std::io::{Error, IoSlice, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Why the connection broke, once it has.
#[derive(Debug, Clone, Default)]
pub struct Cause(Arc<Mutex<Option<String>>>);

impl Cause {
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, error: &Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }
}

#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    cause: Cause,
    /// A write that failed, while the other end's last words are awaited.
    doomed: Option<Error>,
}

impl<S> Watched<S> {
    pub fn new(stream: S, cause: Cause) -> Watched<S> {
        Watched { stream, cause, doomed: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        Poll::Ready(read.inspect_err(|error| self.cause.note(error)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Watched<S> {
    /// A write that fails only says that the other end is gone: its alert is still there to be read, so that is awaited before the error
    /// goes on. A connection that is gone always becomes readable.
    fn poll_doomed<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<Result<T>>,
    ) -> Poll<Result<T>> {
        let error = match self.doomed.take() {
            Some(error) => error,
            None => match ready!(write(Pin::new(&mut self.stream), context)) {
                Ok(done) => return Poll::Ready(Ok(done)),
                Err(error) => error,
            },
        };
        let mut last_words = [0; 64];
        match Pin::new(&mut self.stream).poll_read(context, &mut ReadBuf::new(&mut last_words)) {
            Poll::Pending => {
                self.doomed = Some(error);
                return Poll::Pending;
            }
            Poll::Ready(Err(alert)) => self.cause.note(&alert),
            Poll::Ready(Ok(())) => self.cause.note(&error),
        }
        Poll::Ready(Err(error))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.poll_doomed(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        self.poll_doomed(context, |stream, context| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_doomed(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
