//! Three brokers of `docker-compose.yml`: a kill, a cut network, a restart of everything, and every
//! record once.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::command::{DEADLINE, Running, wait_until};
use crate::compose::{BROKERS, Partition, Project};

const TOPIC: &str = "events";

/// What `produce` sends while the faults happen: 0, 1, 2 and so on, one a line.
struct Producer {
    stop: Arc<AtomicBool>,
    feeding: std::thread::JoinHandle<u64>,
    running: Running,
}

impl Producer {
    fn start(project: &Project) -> Self {
        let mut running = project.start_client(&["produce", TOPIC, "--acks", "all"]);
        let mut stdin = running.take_stdin();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let feeding = std::thread::spawn(move || {
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                let written = writeln!(stdin, "{sent}").and_then(|()| stdin.flush());
                // It ended by itself; its status will tell why.
                if written.is_err() {
                    break;
                }
                sent += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            sent
        });
        Self {
            stop,
            feeding,
            running,
        }
    }

    /// Ends it; how many records it sent, each of which was acknowledged.
    #[track_caller]
    fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.feeding.join().unwrap();
        let run = self.running.wait(DEADLINE);
        let acknowledged = format!("{sent} records acknowledged");
        assert!(
            run.ok && run.stderr.contains(&acknowledged),
            "{sent} were sent: {run:?}"
        );
        sent
    }
}

/// That records are committed now, in every partition: more of them than a moment ago.
#[track_caller]
fn assert_goes_on(project: &Project, without: u32) {
    let led = |partition: &Partition| {
        partition.leader.is_some_and(|leader| leader != without) && partition.end.is_some()
    };
    let what = format!("every partition has a leader other than broker{without}");
    let before = project.wait_for_partitions(&what, TOPIC, led);
    let after = wait_until(
        "records are committed in every partition",
        || project.partitions(TOPIC),
        |seen| {
            seen.as_ref().is_ok_and(|after| {
                after.len() == before.len()
                    && before.iter().zip(after).all(|(old, new)| new.end > old.end)
            })
        },
    );
    assert!(after.is_ok());
}

#[track_caller]
fn wait_until_all_in_sync(project: &Project) {
    project.wait_for_partitions("every replica is in sync", TOPIC, |partition| {
        partition.leader.is_some() && partition.isr.len() == BROKERS.len()
    });
}

/// That the cluster has the records 0 to `sent`, each once, and in each partition in order.
#[track_caller]
fn assert_all_there(project: &Project, sent: u64) {
    let text = project
        .client(&["consume", TOPIC, "-e", "-f", "%p %v\\n"])
        .ok();
    let mut last = BTreeMap::new();
    let mut values = Vec::new();
    for line in text.lines() {
        let (partition, value) = line.split_once(' ').unwrap();
        let value: u64 = value.parse().unwrap();
        if let Some(before) = last.insert(partition.to_owned(), value) {
            assert!(
                before < value,
                "partition {partition}: {value} after {before}"
            );
        }
        values.push(value);
    }
    values.sort_unstable();
    let missing: Vec<u64> = (0..sent)
        .filter(|value| values.binary_search(value).is_err())
        .collect();
    assert!(missing.is_empty(), "acknowledged, but lost: {missing:?}");
    assert_eq!(values.len() as u64, sent, "some are there twice");
}

#[test]
fn a_cluster_survives_a_kill_and_a_cut_network() {
    let project = Project::new();
    project.up();
    let create = ["topic", "create", TOPIC, "-p", "6", "-r", "3"];
    let settings = ["-c", "min.insync.replicas=2"];
    project.client(&[&create[..], &settings].concat()).ok();
    wait_until_all_in_sync(&project);

    let producer = Producer::start(&project);
    let led = |partition: &Partition| partition.leader.is_some() && partition.end > Some(0);
    let partitions = project.wait_for_partitions("every partition has records", TOPIC, led);

    let killed = partitions[0].leader.unwrap();
    println!("kill broker{killed}, the leader of partition 0");
    project.kill(killed);
    assert_goes_on(&project, killed);
    project.compose(&["start", &format!("broker{killed}")]);
    wait_until_all_in_sync(&project);

    let partitions = project.partitions(TOPIC).unwrap();
    let cut_off = partitions[1].leader.unwrap();
    println!("cut broker{cut_off}, the leader of partition 1, off its network");
    project.disconnect(cut_off);
    assert_goes_on(&project, cut_off);
    wait_until(
        "the broker that is cut off says that it is not ready",
        || project.health(cut_off),
        |health| !health.ok && health.stderr.contains("503"),
    );
    project.connect(cut_off);
    wait_until_all_in_sync(&project);
    project.wait_until_healthy(cut_off);

    let partitions = project.partitions(TOPIC).unwrap();
    let stopped = partitions[2].leader.unwrap();
    println!("stop broker{stopped}, the leader of partition 2, in order");
    project.compose(&["stop", &format!("broker{stopped}")]);
    assert_eq!(project.inspect(stopped, "{{.State.ExitCode}}"), "0");
    assert_goes_on(&project, stopped);
    project.compose(&["start", &format!("broker{stopped}")]);
    wait_until_all_in_sync(&project);

    let sent = producer.finish();
    println!("{sent} records acknowledged");
    assert_all_there(&project, sent);

    // From the host, through the published ports and the advertised names.
    for broker in BROKERS {
        let address = format!("broker{broker}:{}", 7170 + broker);
        let list = project.on_the_host(&["topic", "list", "-b", &address]);
        assert!(list.contains(TOPIC), "{list}");
    }
    let text = project.on_the_host(&["consume", TOPIC, "-e", "-b", "broker1:7171"]);
    assert_eq!(text.lines().count() as u64, sent);

    println!("stop all, start all: the volumes keep what there is");
    project.compose(&["down"]);
    project.up();
    wait_until_all_in_sync(&project);
    assert_all_there(&project, sent);

    project.compose(&["down", "--volumes"]);
    assert_eq!(project.left_over(), []);
}
