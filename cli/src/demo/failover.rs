//! The demo with several brokers: one that leads is killed, the others take over, and it comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use highwater_broker::EmbeddedCluster;
use highwater_client::NodeId;
use highwater_config::BrokerConfig;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::demo::args::DemoArgs;
use crate::demo::board::Board;
use crate::demo::cluster_watch;
use crate::demo::files::FileSet;
use crate::demo::interrupted;
use crate::demo::screen::{Phase, Screen};
use crate::demo::stage::{Plan, Stage};
use crate::demo::track::{Track, millis};
use crate::demo::verdict::{Failover, Incident, Verdict};
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::note;

/// As many as survive the loss of one broker without becoming read-only.
const REPLICAS: u16 = 3;
/// All replicas together write about as much as one broker does alone.
const TEXT_BYTES_PER_SECOND: f64 = 16e6;
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(300);
const SESSION_TIMEOUT: Duration = Duration::from_millis(1500);
const ELECTION_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the cluster may take for each step; far longer than it takes on a machine that is busy.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Quicker than the defaults, so that a failover does not make a demo long, and still several
/// heartbeats may be lost before a broker is taken for dead.
fn quick(config: &mut BrokerConfig) {
    config.cluster.heartbeat_interval = HEARTBEAT_INTERVAL;
    config.cluster.session_timeout = SESSION_TIMEOUT;
    config.cluster.election_timeout = ELECTION_TIMEOUT;
}

/// Runs the demo.
///
/// Cancel safety: dropped, it leaves the brokers' threads and temporary directories to the end of
/// the process.
pub(super) async fn run(
    args: &DemoArgs,
    files: FileSet,
    interrupt: &mut Interrupt,
) -> Result<Verdict> {
    let start = Instant::now();
    let mut cluster = EmbeddedCluster::start_with(args.nodes as usize, |_, config| quick(config))
        .await
        .context("starting the brokers")?;
    describe(&cluster, start.elapsed());
    super::describe_feeds(&files);
    let verdict = tokio::select! {
        verdict = perform(args, files, &mut cluster) => verdict,
        () = interrupt.wait() => Err(interrupted().into()),
    };
    // Also after a failure: the directories are either kept and named, or removed.
    finish(cluster, args.keep).await?;
    verdict
}

fn describe(cluster: &EmbeddedCluster, took: Duration) {
    note(format_args!(
        "{} brokers form a cluster after {}; seed {}",
        cluster.len(),
        millis(took),
        cluster.addresses()[0]
    ));
    note(format_args!(
        "Settings: cluster.heartbeat.interval={}ms, cluster.session.timeout={}ms,\n          \
         cluster.election.timeout={}ms, {REPLICAS} replicas; the rest as by default",
        HEARTBEAT_INTERVAL.as_millis(),
        SESSION_TIMEOUT.as_millis(),
        ELECTION_TIMEOUT.as_millis(),
    ));
}

/// Streams, kills a leader, watches the others take over, brings it back and checks.
async fn perform(
    args: &DemoArgs,
    files: FileSet,
    cluster: &mut EmbeddedCluster,
) -> Result<Verdict> {
    let start = Instant::now();
    let seeds = cluster.addresses().to_vec();
    let plan = Plan {
        seeds: seeds.clone(),
        replicas: REPLICAS,
        text_bytes_per_second: TEXT_BYTES_PER_SECOND,
        resolves_doubts: false,
    };
    let mut stage = Stage::set(plan, files).await?;
    let board = Arc::new(Board::new(start, stage.tracks()));
    let phase = Phase::new("streaming, and reading everything back");
    let screen =
        Screen::new(stage.tracks(), phase.clone(), args.duration).with_board(Arc::clone(&board));
    // All of it stops when dropped, too.
    let mut watching = JoinSet::new();
    cluster_watch::watch(&board, &seeds, &mut watching).await?;
    let mut drawing = JoinSet::new();
    drawing.spawn(screen.run());

    stream_until(
        &mut stage,
        "all replicas to be in sync",
        &board,
        Board::is_whole,
    )
    .await?;
    stage.run_for(args.duration / 3).await?;
    let failover = kill_and_restart(args, &mut stage, &board, &phase, cluster, start).await?;
    phase.set("streaming on all brokers again");
    stage
        .run_for(args.duration.saturating_sub(start.elapsed()))
        .await?;
    phase.set("waiting for the last records");
    stage.finish().await?;
    let incident = Incident::Failover(failover);
    let verdict = Verdict::new(start.elapsed(), incident, stage.tracks());
    drawing.shutdown().await;
    watching.shutdown().await;
    Ok(verdict)
}

async fn kill_and_restart(
    args: &DemoArgs,
    stage: &mut Stage,
    board: &Arc<Board>,
    phase: &Phase,
    cluster: &mut EmbeddedCluster,
    start: Instant,
) -> Result<Failover> {
    let (victim, busiest) = board.busiest_leader().context("nobody leads anything")?;
    let led = board.led_by(victim);
    let before = board.controller();
    phase.set(format!("killing broker {victim}, the leader of {busiest}"));
    let unacknowledged = stage.unacknowledged();
    for track in stage.tracks() {
        track.watch_silences();
    }
    board.killed(victim, &led);
    let killed = Instant::now();
    let number = number_of(victim);
    stage
        .run_during(cluster.kill(number))
        .await?
        .context("killing the broker")?;
    phase.set(format!("broker {victim} is dead, the others take over"));
    stream_until(stage, "the others to take over", board, |board| {
        board.is_without(victim)
    })
    .await?;
    let moved = Instant::now();
    let elected = moved.saturating_duration_since(killed);
    stream_until(stage, "records to be acknowledged again", board, |board| {
        board.flows_since(moved)
    })
    .await?;
    let (silence_of_led, _) = silences(&stage.tracks(), &led);
    board.note(format!(
        "all partitions acknowledge again; longest pause {} ms",
        silence_of_led.as_millis()
    ));
    phase.set(format!("broker {victim} is dead, the others serve"));
    stage.run_for(args.duration / 6).await?;

    phase.set(format!("broker {victim} starts again"));
    board.note(format!("broker {victim} is started again on its data"));
    let restarted = Instant::now();
    stage
        .run_during(cluster.restart(number))
        .await?
        .context("starting the broker again")?;
    let serving = restarted.elapsed();
    board.returned();
    phase.set(format!("broker {victim} catches up"));
    stream_until(stage, "it to be in sync again", board, Board::is_whole).await?;
    let in_sync = restarted.elapsed();
    board.note(format!(
        "broker {victim} is in sync with all partitions again"
    ));
    let (silence_of_led, silence_of_others) = silences(&stage.tracks(), &led);
    Ok(Failover {
        at: killed.saturating_duration_since(start),
        victim,
        unacknowledged,
        led: led
            .iter()
            .map(|(topic, partition)| format!("{topic}/{partition}"))
            .collect(),
        controllers: (before, board.controller()),
        elected,
        silence_of_led,
        silence_of_others,
        down: restarted.saturating_duration_since(killed),
        serving,
        in_sync,
    })
}

/// Goes on streaming until the cluster is where it should be, which must not take for ever.
async fn stream_until(
    stage: &mut Stage,
    what: &str,
    board: &Board,
    reached: impl Fn(&Board) -> bool,
) -> Result<()> {
    let reached = async {
        while !reached(board) {
            sleep(LOOK_EVERY).await;
        }
    };
    let in_time = stage.run_during(timeout(STEP_TIMEOUT, reached)).await?;
    in_time.map_err(|_| {
        let message = format!("waited {} s in vain for {what}", STEP_TIMEOUT.as_secs());
        Failure::new(Exit::Timeout, "timeout", message).into()
    })
}

/// Longest times without an acknowledgement, of these partitions and of all others.
fn silences(tracks: &[Arc<Track>], of: &[(&'static str, u32)]) -> (Duration, Duration) {
    let now = Instant::now();
    let (mut those, mut others) = (Duration::ZERO, Duration::ZERO);
    for track in tracks {
        for partition in 0..track.partitions() {
            let longest = track.acks(partition).longest(now).unwrap_or_default();
            if of.contains(&(track.name(), partition)) {
                those = those.max(longest);
            } else {
                others = others.max(longest);
            }
        }
    }
    (those, others)
}

/// Embedded brokers have ids from 1.
fn number_of(node: NodeId) -> usize {
    node.get().saturating_sub(1) as usize
}

async fn finish(mut cluster: EmbeddedCluster, keep: bool) -> Result<()> {
    if !keep {
        // What they would put in order is thrown away.
        for number in 0..cluster.len() {
            cluster.kill(number).await.context("ending a broker")?;
        }
        return Ok(());
    }
    let directories = cluster
        .shutdown_and_keep()
        .await
        .context("stopping the brokers")?;
    for (number, directory) in directories.iter().enumerate() {
        note(format_args!(
            "The data of broker {} is kept in {}",
            number + 1,
            directory.display()
        ));
    }
    note("Look at it: highwater log verify DIRECTORY");
    Ok(())
}
