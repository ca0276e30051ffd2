//! Planned moves: nobody notices more than one slow request (rows H02, G04, O06).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use onemec_tests::client::{Ask, Client};
use onemec_tests::{Cluster, Writer, history};

#[tokio::test]
async fn row_h02_operator_move_keeps_everything() {
    let cluster = Cluster::start().await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(50).await;
    let mut reader = Client::new(cluster.door("cloud"), "Cmeter");
    let container = writer.device.container.clone();
    let before = reader.expect(200, &Ask::retrieve("/~/edge1/-/meter")).await;
    let data = reader.expect(200, &Ask::retrieve(&container)).await;

    for (turn, to) in ["edge2", "edge1", "edge2"].into_iter().enumerate() {
        let moved = cluster.move_to("cloud", "meter", to).await;
        assert_eq!(moved.handover.epoch, turn as u64 + 2, "{moved:?}");
        writer.writes(50).await;
        let ae = cluster.ae("cloud", "meter").await;
        assert_eq!((ae.home.as_str(), ae.primary.as_str()), (to, to));
    }

    let written = writer.finish().await;
    written.assert_all_acknowledged();
    let after = reader.expect(200, &Ask::retrieve("/~/edge1/-/meter")).await;
    for attribute in ["ri", "rn", "aei", "api", "ct", "et", "lbl", "srv", "rr"] {
        assert_eq!(after["m2m:ae"][attribute], before["m2m:ae"][attribute], "{attribute}");
    }
    let now = reader.expect(200, &Ask::retrieve(&container)).await;
    assert_eq!(now["m2m:cnt"]["ri"], data["m2m:cnt"]["ri"]);
    assert_eq!(now["m2m:cnt"]["cni"], written.events.len());
    let written = [written];
    let verdict = history::verify(&cluster, &written).await;
    history::report("h02", &written, &verdict);
}
