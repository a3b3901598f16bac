//! Images that containers are being made from: until the container counts as a user, the image must not lose its layers.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use skep_store::LayerLease;

use crate::model::image::ImageId;

/// How many containers are being made from each image.
#[derive(Debug, Default, Clone)]
pub(super) struct Holds(Arc<Mutex<HashMap<ImageId, usize>>>);

/// Keeps an image's layers while it, or a clone of it, lives.
#[derive(Debug, Clone)]
pub struct ImageHold {
    _held: Arc<Held>,
    /// A removal that had looked for holds before this one was taken finds the lease.
    _lease: Arc<LayerLease>,
}

#[derive(Debug)]
struct Held {
    holds: Holds,
    id: ImageId,
}

impl Holds {
    pub(super) fn hold(&self, id: ImageId, lease: LayerLease) -> ImageHold {
        *self.0.lock().entry(id).or_default() += 1;
        ImageHold { _held: Arc::new(Held { holds: self.clone(), id }), _lease: Arc::new(lease) }
    }

    pub(super) fn is_held(&self, id: &ImageId) -> bool {
        self.0.lock().contains_key(id)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut holds = self.holds.0.lock();
        if let Some(count) = holds.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                holds.remove(&self.id);
            }
        }
    }
}
