//! A handover token makes at most one re-attachment, and a device whose AE changed hands without it comes back with the
//! token that it has (rows H04, S04, H06; docs/extensions.md).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use onemec_device::Answer;
use onemec_device::extensions::Hints;
use onemec_node::admin::types::MoveReason;
use onemec_tests::Cluster;
use onemec_tests::client::{Ask, assert_status, header, json_of, registration};
use onemec_tests::wait::until;

const AE: &str = "Cmeter";

fn token(answer: &Answer) -> String {
    header(answer, "x-onemec-token").expect("a handover token")
}

async fn come(cluster: &Cluster, to: &str, token: &str) -> Answer {
    cluster.client(to, AE).ask(&registration("meter").with("x-onemec-handover", token)).await
}

/// Refused for good, and told where the AE is.
fn assert_used(cluster: &Cluster, answer: &Answer, home: &str, what: &str) {
    assert_status(answer, 403, what);
    assert_eq!(header(answer, "x-m2m-rsc").as_deref(), Some("4117"), "{what}");
    assert!(answer.excerpt().contains("token-used"), "{what}: {}", answer.excerpt());
    let named = Hints::of(&answer.headers).home.map(|h| h.endpoint);
    assert_eq!(named, Some(cluster.door(home)), "{what}: it names the home");
}

#[tokio::test]
async fn a_used_token_moves_nothing_and_a_repeated_request_gets_the_same_answer() {
    let cluster = Cluster::start().await;
    let first = token(&cluster.client("edge1", AE).register_with_data("meter").await);
    let came = come(&cluster, "edge2", &first).await;
    assert_status(&came, 201, "the first use");
    let second = token(&came);

    // The answer was lost, the device asks again: nothing moves, it gets the next token.
    let epoch = cluster.ae("cloud", "meter").await.epoch;
    let again = come(&cluster, "edge2", &first).await;
    assert_status(&again, 201, "the same request again");
    assert_eq!(json_of(&again)["m2m:ae"]["ri"], json_of(&came)["m2m:ae"]["ri"]);
    assert_eq!(cluster.ae("cloud", "meter").await.epoch, epoch, "it moved once");

    for node in ["edge1", "cloud"] {
        assert_used(&cluster, &come(&cluster, node, &first).await, "edge2", &format!("a used token at {node}"));
    }
    assert_eq!(cluster.ae("cloud", "meter").await.home, "edge2", "it moved nothing");
    let third = token(&come(&cluster, "cloud", &second).await);
    assert_eq!(cluster.ae("cloud", "meter").await.home, "cloud", "the token of the answer does");
    // Also at the place to which it once led, and one that was never used but is older than a use.
    for (what, old) in [("first", &first), ("second", &second)] {
        assert_used(&cluster, &come(&cluster, "edge2", old).await, "cloud", what);
    }
    // At home nothing moves, and the token is used up all the same.
    assert_status(&come(&cluster, "cloud", &third).await, 201, "shown at home");
    assert_used(&cluster, &come(&cluster, "edge1", &third).await, "cloud", "what was shown at home");

    // Whoever has lost every answer retrieves its AE, at any CSE.
    let read = cluster.client("edge1", AE).ask(&Ask::retrieve("/~/edge1/-/meter")).await;
    assert_status(&read, 200, "its own AE");
    assert_status(&come(&cluster, "edge1", &token(&read)).await, 201, "with the token of a retrieve");
    let stranger = cluster.client("edge1", "CAdmin").ask(&Ask::retrieve("/-/meter")).await;
    assert_eq!(header(&stranger, "x-onemec-token"), None, "nobody else gets one");
}

#[tokio::test]
async fn of_two_concurrent_re_attachments_with_one_token_one_wins() {
    let cluster = Cluster::start().await;
    let mut now = token(&cluster.client("edge1", AE).register_with_data("meter").await);
    let mut home = "edge1".to_owned();
    for round in 0..6 {
        let others: Vec<String> = cluster.names().into_iter().filter(|n| *n != home).collect();
        let epoch = cluster.ae(&home, "meter").await.epoch;
        let (a, b) = tokio::join!(come(&cluster, &others[0], &now), come(&cluster, &others[1], &now));
        let (winner, won, lost) = match (a.status.as_u16(), b.status.as_u16()) {
            (201, 201) => panic!("round {round}: both won"),
            (201, _) => (&others[0], a, b),
            (_, 201) => (&others[1], b, a),
            both => panic!("round {round}: nobody won: {both:?} {} {}", a.excerpt(), b.excerpt()),
        };
        // Either it is told at once, or that it should ask again; then it is told.
        if lost.status != 503 {
            assert_used(&cluster, &lost, winner, &format!("round {round}"));
        }
        let ae = cluster.ae(winner, "meter").await;
        assert_eq!((&ae.home, ae.epoch), (winner, epoch + 1), "round {round}: exactly one move");
        (now, home) = (token(&won), winner.to_owned());
    }
}

#[tokio::test]
async fn a_token_from_before_a_failover_or_an_operators_move_still_works() {
    let mut cluster = Cluster::start().await;
    let first = token(&cluster.client("edge1", AE).register_with_data("meter").await);
    cluster.move_to("cloud", "meter", "edge2").await;
    let second = token(&come(&cluster, "edge1", &first).await);
    assert_eq!(cluster.ae("cloud", "meter").await.home, "edge1", "the device did not hear of the operator's move");

    cluster.replicated("cloud", AE).await;
    let before = cluster.ae("cloud", "meter").await.epoch;
    cluster.kill("edge1");
    let placed = cluster.placed("cloud", AE, "another leads", |p| p.epoch > before).await;
    let led = cluster.ae("cloud", "meter").await.primary;
    assert!(led != "edge1" && placed.epoch == before + 1);
    // The takeover's gap begins before the news of the death (row H10).
    let takeover = until("the takeover's record", async || {
        let all = cluster.admin(&led).handovers().await.ok()?;
        all.into_iter().find(|h| h.reason == MoveReason::Failover && h.aes == [AE])
    })
    .await;
    assert!(takeover.freeze_us > 0, "the detection is a part of the gap: {takeover:?}");
    assert_eq!(takeover.interruption_us, takeover.freeze_us + takeover.activate_us);

    let to = if led == "edge2" { "cloud" } else { "edge2" };
    assert_status(&come(&cluster, to, &second).await, 201, "the device comes back with the token that it had");
    assert_eq!(cluster.ae("cloud", "meter").await.home, to);
    assert_used(&cluster, &come(&cluster, &led, &second).await, to, "that token afterwards");
    cluster.restart("edge1").await;
    assert_used(&cluster, &come(&cluster, "edge1", &first).await, to, "the first one at the node that was dead");
    cluster.assert_all_run();
}
