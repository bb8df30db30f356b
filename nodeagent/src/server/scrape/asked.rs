//! What takes its time to find out, for scrapers: one asks at a time, what was told a moment ago serves the others, and what hangs holds up
//! nobody.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// How long a scraper waits for an answer; the one from before serves him, unless it is older than [`OLD`].
const DEADLINE: Duration = Duration::from_secs(2);
const OLD: Duration = Duration::from_secs(60);

type Told<T> = Option<(Instant, Arc<T>)>;

/// Clones are the same.
#[derive(Debug, Clone)]
pub struct Asked<T> {
    told: Arc<Mutex<Told<T>>>,
    turn: Arc<Semaphore>,
    fresh: Duration,
}

impl<T: Send + Sync + 'static> Asked<T> {
    /// For as long as `fresh`, what was told serves further scrapers.
    pub fn new(fresh: Duration) -> Asked<T> {
        Asked { told: Arc::default(), turn: Arc::new(Semaphore::new(1)), fresh }
    }

    /// What is told now, or was a moment ago; `None` where there was no answer.
    pub async fn get(&self, ask: impl Future<Output = Option<T>> + Send + 'static) -> Option<Arc<T>> {
        if let Some(fresh) = self.told_within(self.fresh) {
            return Some(fresh);
        }
        // One who is still at it is waited for by nobody else.
        if let Ok(turn) = self.turn.clone().try_acquire_owned() {
            let told = self.told.clone();
            let asking = tokio::spawn(async move {
                if let Some(answer) = ask.await {
                    *told.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), Arc::new(answer)));
                }
                drop(turn);
            });
            // It goes on by itself.
            let _ = timeout(DEADLINE, asking).await;
        }
        self.told_within(OLD)
    }

    #[cfg(test)]
    pub fn is_asking(&self) -> bool {
        self.turn.available_permits() == 0
    }

    /// Waits until nobody asks.
    #[cfg(test)]
    pub async fn answered(&self) {
        drop(self.turn.acquire().await.unwrap());
    }

    fn told_within(&self, age: Duration) -> Option<Arc<T>> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.as_ref().filter(|(at, _)| at.elapsed() < age).map(|(_, answer)| answer.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_hangs_holds_up_nobody() {
        let asked: Asked<u32> = Asked::new(Duration::from_secs(5));
        let (answer, late) = oneshot::channel();
        assert_eq!(asked.get(async { late.await.ok() }).await, None);
        assert_eq!(asked.get(async { unreachable!("one is still at it") }).await, None);
        assert!(asked.is_asking());
        answer.send(1).unwrap();
        asked.answered().await;
        assert_eq!(asked.get(async { unreachable!("it is fresh") }).await.as_deref(), Some(&1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_serves_for_a_while_and_goes_when_it_is_old() {
        let asked: Asked<u32> = Asked::new(Duration::from_secs(5));
        assert_eq!(asked.get(ready(Some(1))).await.as_deref(), Some(&1));
        assert_eq!(asked.get(ready(Some(2))).await.as_deref(), Some(&1));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(asked.get(ready(Some(2))).await.as_deref(), Some(&2));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(asked.get(ready(None)).await.as_deref(), Some(&2), "who does not answer now has answered before");
        tokio::time::advance(OLD).await;
        assert_eq!(asked.get(pending()).await, None);
    }
}
