//! A real file system that is full: a small tmpfs, where the test may mount one.
//!
//! Without root there is none; the simulated disk (`a_full_disk_at_every_size_loses_nothing`) tests
//! the same then, and this test says that it did nothing.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod support;

use std::path::Path;
use std::process::Command;

use highwater_storage::{AppendError, Engine, EngineOptions, LogHealth, LogOptions};
use support::{at, batch, epoch, meta, ms};

struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn tmpfs(path: &'a Path, options: &str) -> Option<Self> {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(path)
            .output();
        mount
            .is_ok_and(|output| output.status.success())
            .then_some(Self(path))
    }

    fn resize(&self, options: &str) {
        let remount = Command::new("mount")
            .args(["-o", options])
            .arg(self.0)
            .output()
            .unwrap();
        assert!(remount.status.success(), "{remount:?}");
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}

#[test]
fn a_full_file_system_refuses_appends_until_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mounted) = Mounted::tmpfs(dir.path(), "size=3m") else {
        eprintln!("skipped: cannot mount a tmpfs here");
        return;
    };
    let engine = Engine::open(dir.path(), EngineOptions::default()).unwrap();
    let log = engine.create_log(meta(0), LogOptions::default()).unwrap();
    let mut appended = 0u64;
    let refused = loop {
        // Small and large ones: copied into the map, and written to the file.
        let bytes = if appended.is_multiple_of(2) {
            1000
        } else {
            60_000
        };
        match log.append(&batch(1, bytes, 1, appended), epoch(1), ms(1)) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
        assert!(appended < 10_000, "the file system is full at last");
    };
    assert!(matches!(refused, AppendError::DiskFull { .. }), "{refused}");
    assert!(refused.is_retriable() && appended > 30, "{appended}");
    assert!(matches!(log.health(), LogHealth::DiskFull));
    assert_eq!(log.end(), at(appended));
    // Reads go on, and what is there can be made durable.
    let mut from = at(0);
    while from < log.end() {
        from = log.read(from, log.end(), 1 << 20).unwrap().next;
    }
    mounted.resize("remount,size=20m");
    for n in 0..30 {
        log.append(&batch(1, 60_000, 1, n), epoch(1), ms(1))
            .unwrap();
    }
    assert!(matches!(log.health(), LogHealth::Online));
    assert_eq!(log.flush().unwrap(), at(appended + 30));
    engine.close().unwrap();
    drop((log, engine));
    let engine = Engine::open(dir.path(), EngineOptions::default()).unwrap();
    let opened = engine.open_logs(&|_| Some(LogOptions::default()), &|_| {});
    assert_eq!(
        opened[0].result.as_ref().unwrap().0.end(),
        at(appended + 30)
    );
    drop(opened);
    drop(engine);
}
