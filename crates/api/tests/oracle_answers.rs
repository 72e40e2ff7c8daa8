//! The reference node's 250 answers, from a chain that was replayed through a node, from the node after a restart, and from
//! an API that has no node beside it.

use crate::support::oracle_answers::{self, Known, OracleAnswer};
use crate::support::{Served, oracle_at_its_end};

/// Asks all of them; what differs. Each answer that a tier gave says which, at height 420.
async fn differences(served: &Served, answers: &[OracleAnswer]) -> Vec<String> {
    let known = Known::of(answers);
    let mut found = Vec::new();
    for expected in answers {
        let response = served.get(&expected.path).await;
        if let Some(height) = response.headers().get("x-forebay-height") {
            assert_eq!(height, "420", "{}", expected.path);
            assert!(response.headers().contains_key("x-forebay-tier"));
        }
        let (status, body) = crate::support::body_of(response).await;
        found.extend(oracle_answers::difference(expected, status, &body, &known, true));
    }
    found
}

/// The slot at which the oracle was asked, as its answer to getNextForgers tells.
fn oracles_moment(answers: &[OracleAnswer]) -> i64 {
    let next = answers.iter().find(|one| one.path.starts_with("/api/delegates/getNextForgers")).unwrap();
    next.body["currentSlot"].as_i64().unwrap() * 30
}

#[tokio::test(flavor = "multi_thread")]
async fn all_answers_are_the_reference_nodes_running_restarted_and_without_a_node() {
    let Some(answers) = oracle_answers::load() else { return };
    let Some((bench, node)) = oracle_at_its_end().await else { return };
    let now = oracles_moment(&answers);
    let mut found = Vec::new();

    let running = Served::start(&bench, Some(node.node.clone()), now).await;
    found.extend(differences(&running, &answers).await.into_iter().map(|one| format!("running: {one}")));

    // A second API, as another process would have it.
    let alone = Served::start(&bench, None, now).await;
    found.extend(differences(&alone, &answers).await.into_iter().map(|one| format!("alone: {one}")));

    node.stop().await.unwrap();
    let node = bench.start().await.unwrap();
    let restarted = Served::start(&bench, Some(node.node.clone()), now).await;
    found.extend(differences(&restarted, &answers).await.into_iter().map(|one| format!("restarted: {one}")));
    // The one from before the restart goes on.
    found.extend(differences(&alone, &answers).await.into_iter().map(|one| format!("still alone: {one}")));
    node.stop().await.unwrap();

    assert!(found.is_empty(), "{} differ:\n{}", found.len(), found.join("\n"));
}
