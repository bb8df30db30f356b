//! Takes connections and passes their bytes on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::pool::Pool;

/// A server on the same network answers at once; one that does not is left for the next.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// accept(2) fails when descriptors run out: they come back as connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Runs for as long as the agent lives.
pub async fn serve(listener: TcpListener, pool: Arc<Pool>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(pass(client, pool.clone()));
            }
            Err(error) => {
                tracing::warn!("balancer: taking a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Without a server the client's connection is closed: it tries again by its own rules.
async fn pass(mut client: TcpStream, pool: Arc<Pool>) {
    let mut tried = Vec::new();
    while let Some(mut choice) = pool.choose(&tried) {
        tried.push(choice.address);
        let Some(mut server) = connect(choice.address).await else { continue };
        // Either end may have had enough: both are closed then, and nobody is told.
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => {}
            () = choice.gone() => {}
        }
        return;
    }
}

async fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = timeout(CONNECT_DEADLINE, TcpStream::connect(address)).await.ok()?.ok()?;
    stream.set_nodelay(true).ok()?;
    Some(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A server that says its name to whoever connects and waits for the end.
    async fn server(name: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    stream.write_all(name.as_bytes()).await.unwrap();
                    let _ = stream.read(&mut [0; 1]).await;
                });
            }
        });
        address
    }

    async fn balancer(pool: Arc<Pool>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, pool));
        address
    }

    async fn answer(balancer: SocketAddr) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(balancer).await.unwrap();
        let mut name = [0; 1];
        let length = stream.read(&mut name).await.unwrap_or(0);
        (stream, String::from_utf8_lossy(&name[..length]).into_owned())
    }

    #[tokio::test]
    async fn goes_to_the_next_when_one_refuses() {
        let pool = Arc::new(Pool::default());
        // A port that nobody listens on any more.
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        pool.add(dead, true);
        pool.add(server("b").await, false);
        let balancer = balancer(pool).await;
        assert_eq!(answer(balancer).await.1, "b");
    }

    #[tokio::test]
    async fn connections_end_with_their_server_and_without_any() {
        let pool = Arc::new(Pool::default());
        let only = server("a").await;
        pool.add(only, false);
        let balancer = balancer(pool.clone()).await;
        let (mut stream, name) = answer(balancer).await;
        assert_eq!(name, "a");
        pool.remove(only);
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
        assert_eq!(answer(balancer).await.1, "");
    }
}
