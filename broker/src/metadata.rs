//! The cluster as this broker acts on it: the image whose local consequences are done.
//!
//! The metadata log runs ahead of it a little. What requests see is this image, so that whoever finds
//! a partition in it finds its log as well.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use highwater_coordination::cluster_image::ClusterImage;
use tokio::sync::watch;

/// The published image.
#[derive(Debug)]
pub(crate) struct Metadata {
    published: ArcSwap<ClusterImage>,
    index: watch::Sender<u64>,
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            published: ArcSwap::default(),
            index: watch::channel(0).0,
        }
    }
}

impl Metadata {
    /// The image as it is now.
    pub(crate) fn image(&self) -> Arc<ClusterImage> {
        self.published.load_full()
    }

    /// Position in the metadata log up to which the image goes.
    pub(crate) fn index(&self) -> u64 {
        *self.index.borrow()
    }

    /// The consequences of the log up to `index` are done.
    pub(crate) fn publish(&self, index: u64, image: Arc<ClusterImage>) {
        self.published.store(image);
        self.index.send_replace(index);
    }

    /// Tells of each publication.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }

    /// Waits until the image is as wanted. Says whether it became so in time.
    pub(crate) async fn wait_for(
        &self,
        wanted: impl Fn(&ClusterImage) -> bool,
        within: Duration,
    ) -> bool {
        let mut changes = self.watch();
        let waiting = async {
            while !wanted(&self.published.load()) {
                if changes.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(within, waiting).await.unwrap_or(false)
    }
}
