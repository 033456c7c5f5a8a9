//! Where the nodes of the cluster are, as the metadata says.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_protocol::ids::NodeId;
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::peers::AddressBook;
use crate::quorum::Applied;

/// `host:port` by node.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    by_node: RwLock<BTreeMap<NodeId, String>>,
}

impl Addresses {
    /// What connections to other brokers are made by.
    pub(crate) fn book(self: &Arc<Self>) -> AddressBook {
        let this = Arc::clone(self);
        Arc::new(move |node| this.by_node.read().get(&node).cloned())
    }

    /// Takes over where brokers are, now and whenever the metadata changes, as long as it can.
    pub(crate) fn follow(
        self: &Arc<Self>,
        runtime: &Handle,
        mut applied: watch::Receiver<Arc<Applied>>,
    ) {
        self.take_over(&applied.borrow_and_update());
        let this = Arc::clone(self);
        runtime.spawn(async move {
            while applied.changed().await.is_ok() {
                let now = Arc::clone(&applied.borrow_and_update());
                this.take_over(&now);
            }
        });
    }

    fn take_over(&self, applied: &Applied) {
        let brokers = applied.image.brokers();
        let now: BTreeMap<_, _> = brokers
            .map(|(node, broker)| (node, address(&broker.host, broker.port)))
            .collect();
        if *self.by_node.read() != now {
            *self.by_node.write() = now;
        }
    }
}

/// Host and port as one text; an IPv6 address in brackets.
pub(crate) fn address(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
