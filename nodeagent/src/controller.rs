//! The loop that every controller runs in: observe, plan, apply, and wait for a change.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use crate::node::Node;
use crate::plan::Plan;
use crate::store::Resource;

/// Keeps one subject as it should be. `plan` is pure; what it needs to know is in `Seen`.
pub trait Controller: Send + 'static {
    type Seen: Send + Sync;
    type Action: std::fmt::Debug + Send;

    /// Names the controller in `machinectl get controllers`.
    const NAME: &'static str;

    /// Which changes of the board make it look again.
    const WAKE: Wake = Wake::AnyChange;

    /// How long nothing may change on the board before the controller looks again at what it does not hear of.
    const LOOK_AGAIN: Duration = Duration::from_secs(30);

    /// The same after what was seen last: for those who have to look often at times.
    fn look_again(&self) -> Duration {
        Self::LOOK_AGAIN
    }

    /// Ends when something beside the board has changed; it may be dropped before that.
    fn woken(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    fn observe(&mut self, node: &Node) -> impl Future<Output = anyhow::Result<Self::Seen>> + Send;

    fn plan(&self, seen: &Self::Seen) -> Plan<Self::Action>;

    fn apply(&mut self, action: Self::Action, node: &Node) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What wakes a controller before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Whatever changes on the board: for those who learn there of things that they then look up elsewhere.
    AnyChange,
    /// Changes of the kinds that `observe` read the last time.
    WhatItReads,
}

/// What a controller is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllerStatus {
    pub state: ControllerState,
    /// What it waits for.
    #[serde(default)]
    pub waits_for: Vec<String>,
    /// What went wrong last, with all causes; empty when the last round went well.
    #[serde(default)]
    pub error: String,
    /// The config's generation that it looked at, or a later one.
    #[serde(default)]
    pub generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ControllerState {
    Settled,
    Waiting,
    Acting,
    Failed,
}

impl Resource for ControllerStatus {
    const KIND: &'static str = "controllers";
}

const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Runs a controller for as long as the agent lives.
pub async fn run<C: Controller>(mut controller: C, node: Node) {
    let node = node.recording();
    let (mut board, mut config) = (node.store.revision(), node.watch_config());
    let mut backoff = BACKOFF_MIN;
    let mut failing = false;
    loop {
        let revision = *board.borrow_and_update();
        config.mark_unchanged();
        let outcome = round(&mut controller, &node, failing).await;
        failing = outcome.is_err();
        match outcome {
            // What was done may call for more: look again at once.
            Ok(true) => backoff = BACKOFF_MIN,
            Ok(false) => {
                backoff = BACKOFF_MIN;
                let reads = node.store.take_reads();
                let look_again = Instant::now() + controller.look_again();
                let mut woken = std::pin::pin!(controller.woken());
                let changed = async {
                    loop {
                        tokio::select! {
                            changed = board.changed() => changed?,
                            changed = config.changed() => return changed,
                            () = &mut woken => return Ok(()),
                        }
                        if C::WAKE == Wake::AnyChange || node.store.changed_after(revision, &reads) {
                            return Ok(());
                        }
                    }
                };
                // A time-out is the resync; a closed board is the agent's end.
                if let Ok(Err(_)) = timeout_at(look_again, changed).await {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(controller = C::NAME, "{error:#}");
                report::<C>(&node, ControllerState::Failed, Vec::new(), format!("{error:#}"), generation(&node));
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

/// One observation and what follows from it; whether anything was done. A failure is told of until a try has worked: who looks must not
/// meet the tries between.
async fn round<C: Controller>(controller: &mut C, node: &Node, failing: bool) -> anyhow::Result<bool> {
    let generation = generation(node);
    let seen = controller.observe(node).await?;
    match controller.plan(&seen) {
        Plan::Settled => report::<C>(node, ControllerState::Settled, Vec::new(), String::new(), generation),
        Plan::Waiting(missing) => {
            let waits_for = missing.iter().map(ToString::to_string).collect();
            report::<C>(node, ControllerState::Waiting, waits_for, String::new(), generation);
        }
        Plan::Act(actions) => {
            if !failing {
                report::<C>(node, ControllerState::Acting, Vec::new(), String::new(), generation);
            }
            for action in actions {
                tracing::debug!(controller = C::NAME, ?action);
                controller.apply(action, node).await?;
            }
            return Ok(true);
        }
    }
    Ok(false)
}

fn report<C: Controller>(node: &Node, state: ControllerState, waits_for: Vec<String>, error: String, generation: u64) {
    node.store.put(C::NAME, &ControllerStatus { state, waits_for, error, generation });
}

/// Of the config in force; 0 without one.
fn generation(node: &Node) -> u64 {
    node.config().map_or(0, |applied| applied.generation)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use machine::Root;

    use super::*;
    use crate::init_client::InitClient;

    #[derive(Debug, Serialize, Deserialize)]
    struct Lamp(u32);
    impl Resource for Lamp {
        const KIND: &'static str = "lamps";
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Door(u32);
    impl Resource for Door {
        const KIND: &'static str = "doors";
    }

    /// Counts how often it looks at the lamps.
    struct Watchman(Arc<AtomicUsize>);

    impl Controller for Watchman {
        type Seen = ();
        type Action = ();
        const NAME: &'static str = "watchman";
        const WAKE: Wake = Wake::WhatItReads;

        async fn observe(&mut self, node: &Node) -> anyhow::Result<()> {
            node.store.all::<Lamp>();
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }

        fn plan(&self, _: &()) -> Plan<()> {
            Plan::Settled
        }

        async fn apply(&mut self, _: (), _: &Node) -> anyhow::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn wakes_for_what_it_reads_and_when_its_time_comes() {
        let root = Root::new("/nowhere");
        let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
        let looks = Arc::new(AtomicUsize::new(0));
        let running = tokio::spawn(run(Watchman(looks.clone()), node.clone()));
        // Paused time moves on only when everything else has nothing to do.
        let settle = || tokio::time::sleep(Duration::from_millis(1));
        let looked = || looks.load(Ordering::Relaxed);
        settle().await;
        let before = looked();
        node.store.put("front", &Door(1));
        settle().await;
        assert_eq!(looked(), before);
        node.store.put("hall", &Lamp(1));
        settle().await;
        assert_eq!(looked(), before + 1);
        tokio::time::sleep(Watchman::LOOK_AGAIN).await;
        assert_eq!(looked(), before + 2);
        running.abort();
    }
}
