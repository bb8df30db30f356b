//! What becomes of a text on its way.

use tokio::sync::Semaphore;

use super::*;

/// As a scraper has.
const DEADLINE: Duration = Duration::from_secs(30);

fn text() -> String {
    "0123456789abcdef".repeat(10 * CHUNK_BYTES / 16)
}

async fn read(stream: impl Stream<Item = io::Result<Bytes>>) -> (String, Option<io::Error>) {
    let (mut text, mut error) = (String::new(), None);
    let mut stream = std::pin::pin!(stream);
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => text.push_str(std::str::from_utf8(&chunk).unwrap()),
            Err(cut) => error = Some(cut),
        }
    }
    (text, error)
}

#[tokio::test]
async fn a_text_arrives_whole() {
    let permits = Arc::new(Semaphore::new(1));
    let stream = in_chunks(text(), permits.clone().try_acquire_owned().unwrap(), DEADLINE);
    let (read, error) = read(stream).await;
    assert!(read == text() && error.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stalled_scrape_keeps_no_text_and_learns_that_it_was_cut() {
    let permits = Arc::new(Semaphore::new(1));
    let stream = in_chunks(text(), permits.clone().try_acquire_owned().unwrap(), DEADLINE);
    let begun = tokio::time::Instant::now();
    // Nobody reads: the text must go by itself.
    drop(permits.acquire().await.unwrap());
    assert_eq!(begun.elapsed().as_secs(), DEADLINE.as_secs());
    let (read, error) = read(stream).await;
    assert!(read.len() <= 2 * CHUNK_BYTES, "{} bytes were kept", read.len());
    assert_eq!(error.map(|error| error.kind()), Some(io::ErrorKind::TimedOut));
}
