//! AlterVoters.

use crate::codec::wire_struct;
use crate::ids::NodeId;

wire_struct! {
    /// Changes who votes. A node that no longer votes goes on learning.
    pub struct AlterVotersRequest {
        /// Who shall vote.
        pub add: Vec<NodeId>;
        /// Who shall not any more.
        pub remove: Vec<NodeId>;
    }
}

wire_struct! {
    /// The change is committed.
    pub struct AlterVotersResponse {
        /// Who votes now.
        pub voters: Vec<NodeId>;
    }
}
