//! What every controller and API handler is given: the machine's files, init, the board, the config in force, and the stage.

use std::sync::Arc;

use machine::Root;
use machine::config::Config;
use machine::protocol::BootFacts;
use machine::stage::Stage;
use tokio::sync::watch;

use crate::authority_keys::Held;
use crate::console::Console;
use crate::events::EventLog;
use crate::init_client::InitClient;
use crate::stage::{StageEvent, next};
use crate::store::Store;

/// A handle to the machine; clones are the same machine.
#[derive(Debug, Clone)]
pub struct Node {
    pub root: Root,
    pub init: InitClient,
    pub store: Arc<Store>,
    pub events: Arc<EventLog>,
    pub console: Console,
    /// What a control plane got from others when it joined.
    pub authority_keys: Arc<Held>,
    stage: Arc<watch::Sender<Stage>>,
    config: Arc<watch::Sender<Option<Applied>>>,
}

/// A config in force.
#[derive(Debug, Clone)]
pub struct Applied {
    pub generation: u64,
    pub config: Arc<Config>,
}

impl Node {
    pub fn new(root: Root, init: InitClient) -> Node {
        Node {
            console: Console::new(&root),
            root,
            init,
            store: Arc::default(),
            events: Arc::default(),
            authority_keys: Arc::default(),
            stage: Arc::new(watch::Sender::new(Stage::Maintenance)),
            config: Arc::new(watch::Sender::new(None)),
        }
    }

    /// A handle to the same machine whose board remembers what is read through it.
    pub fn recording(&self) -> Node {
        Node { store: Arc::new(self.store.recording()), ..self.clone() }
    }

    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Takes the machine to the stage that follows, and tells of it. One that is on its way stays where it is.
    pub fn happened(&self, event: StageEvent) {
        let mut before = Stage::Maintenance;
        let entered = self.stage.send_if_modified(|stage| {
            before = *stage;
            *stage = next(before, event);
            *stage != before
        });
        if entered {
            let change = format!("stage {} -> {}", before.name(), self.stage().name());
            self.events.emit("machine", "StageChanged", &change);
            self.console.print(&change);
        }
    }

    pub fn watch_stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// What init found at boot; nothing of it before init has told.
    pub fn boot_facts(&self) -> BootFacts {
        self.store.all::<BootFacts>().into_values().next().unwrap_or_default()
    }

    /// The config in force; `None` in maintenance.
    pub fn config(&self) -> Option<Applied> {
        self.config.borrow().clone()
    }

    /// The config in force, with the authorities' keys that a control plane got when it joined.
    pub fn joined_config(&self) -> Option<Arc<Config>> {
        Some(self.authority_keys.complete(self.config()?.config))
    }

    pub fn set_config(&self, applied: Applied) {
        self.config.send_replace(Some(applied));
    }

    pub fn watch_config(&self) -> watch::Receiver<Option<Applied>> {
        self.config.subscribe()
    }
}
