//! `highwater cluster quorum`

use highwater_client::QuorumDescription;
use serde_json::{Value, json};

use crate::connect::Session;
use crate::exit::{Exit, Outcome};
use crate::output::{self, Column, Rows};

/// Does it.
pub(super) async fn run(session: &Session) -> Outcome {
    let quorum = session.admin().describe_quorum().await?;
    if session.json {
        output::print_json(&to_json(&quorum))?;
    } else {
        output::print(to_text(&quorum))?;
    }
    Ok(Exit::Ok)
}

fn to_json(quorum: &QuorumDescription) -> Value {
    let members = quorum.members.iter().map(|member| {
        json!({
            "node_id": member.node_id.get(),
            "host": member.host,
            "port": member.port,
            "voter": member.voter,
            "matched_index": member.matched_index,
        })
    });
    json!({
        "leader": quorum.leader.get(),
        "term": quorum.term,
        "last_index": quorum.last_index,
        "commit_index": quorum.commit_index,
        "snapshot_index": quorum.snapshot_index,
        "members": members.collect::<Vec<_>>(),
    })
}

fn to_text(quorum: &QuorumDescription) -> String {
    let mut rows = Rows::new(&[
        Column::Number("NODE"),
        Column::Text("ADDRESS"),
        Column::Text("ROLE"),
        Column::Number("MATCHED"),
        Column::Number("BEHIND"),
    ]);
    for member in &quorum.members {
        let role = match (member.node_id == quorum.leader, member.voter) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "learner",
        };
        let matched = member.matched_index;
        let behind = matched.map(|matched| quorum.last_index.saturating_sub(matched));
        let number = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |n| n.to_string());
        rows.push([
            member.node_id.to_string(),
            format!("{}:{}", member.host, member.port),
            role.to_owned(),
            number(matched),
            number(behind),
        ]);
    }
    let snapshot = quorum
        .snapshot_index
        .map_or_else(|| "none".to_owned(), |index| index.to_string());
    format!(
        "leader     {}\nterm       {}\nlast       {}\ncommitted  {}\nsnapshot   {snapshot}\n\n{rows}",
        quorum.leader, quorum.term, quorum.last_index, quorum.commit_index,
    )
}

#[cfg(test)]
mod tests {
    use highwater_client::{NodeId, QuorumMember};

    use super::*;

    fn sample() -> QuorumDescription {
        let member = |node, voter, matched_index| QuorumMember {
            node_id: NodeId::new(node),
            host: format!("b{node}"),
            port: 7171,
            voter,
            matched_index,
        };
        QuorumDescription {
            leader: NodeId::new(2),
            term: 7,
            last_index: 100,
            commit_index: 99,
            snapshot_index: Some(50),
            members: vec![
                member(1, true, Some(98)),
                member(2, true, Some(100)),
                member(4, false, None),
            ],
        }
    }

    #[test]
    fn members_show_their_role_and_how_far_they_are() {
        assert_eq!(
            to_text(&sample()),
            "\
leader     2
term       7
last       100
committed  99
snapshot   50

NODE  ADDRESS  ROLE     MATCHED  BEHIND
   1  b1:7171  voter         98       2
   2  b2:7171  leader       100       0
   4  b4:7171  learner        ?       ?
"
        );
    }

    #[test]
    fn json_has_every_field() {
        let json = to_json(&sample());
        assert_eq!(json["leader"], 2);
        assert_eq!(json["members"][2]["matched_index"], Value::Null);
        assert_eq!(json["members"][0]["voter"], true);
    }
}
