//! Layers that are being fetched now: the second pull that needs one waits for the first.
//!
//! ```text
//! join ─► leads: fetches; Lead dropped ─► followers look again: there? else one of them leads
//!    └──► follows: sees the leader's states
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use skep_store::ChainId;
use tokio::sync::watch;

use crate::model::image::LayerState;

/// By chain id.
#[derive(Debug, Default, Clone)]
pub(super) struct Inflight(Arc<Mutex<HashMap<ChainId, watch::Receiver<LayerState>>>>);

/// What joining gives.
pub(super) enum Role {
    Leads(Lead),
    Follows(watch::Receiver<LayerState>),
}

/// The right, and the duty, to fetch a layer. Dropping it passes it on.
pub(super) struct Lead {
    inflight: Inflight,
    layer: ChainId,
    states: watch::Sender<LayerState>,
}

impl Inflight {
    pub(super) fn join(&self, layer: ChainId) -> Role {
        let mut map = self.0.lock();
        if let Some(receiver) = map.get(&layer) {
            return Role::Follows(receiver.clone());
        }
        let (states, receiver) = watch::channel(LayerState::Waiting);
        map.insert(layer, receiver);
        Role::Leads(Lead { inflight: self.clone(), layer, states })
    }
}

impl Lead {
    pub(super) fn tell(&self, state: LayerState) {
        self.states.send_replace(state);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // Out of the map before the sender goes: who sees the end of the states finds the place free.
        self.inflight.0.lock().remove(&self.layer);
    }
}
