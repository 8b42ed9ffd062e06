//! What may happen to the file: many writers, death in the middle, damage, a full disk.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use podwire_store::{Store, StoreError};

/// In the environment of the child that a test starts: the root to write to.
const ROOT: &str = "PODWIRE_STORE_TEST_ROOT";

fn counter(store: &Store, key: &str) -> u32 {
    store.read(|tx| tx.meta_get(key)).unwrap().map_or(0, |text| text.parse().unwrap())
}

/// Adds one to each of 50 counters, in one transaction.
fn count_up(store: &Store) -> Result<(), StoreError> {
    store.write(|tx| {
        for key in (0..50).map(|n| format!("counter{n}")) {
            let before: u32 = tx.meta_get(&key)?.map_or(0, |text| text.parse().unwrap());
            tx.meta_set(&key, &(before + 1).to_string())?;
        }
        Ok(())
    })
}

/// Starts this test program again, to run one of its ignored tests.
fn again(test: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]).env(ROOT, root);
    command
}

#[test]
#[ignore = "a child of other tests"]
fn child_that_counts() {
    let root = std::env::var(ROOT).unwrap();
    let store = Store::open(Path::new(&root)).unwrap();
    for _ in 0..20 {
        count_up(&store).unwrap();
    }
}

#[test]
#[ignore = "a child of other tests"]
fn child_that_counts_for_ever() {
    let root = std::env::var(ROOT).unwrap();
    let store = Store::open(Path::new(&root)).unwrap();
    for n in 1.. {
        count_up(&store).unwrap();
        println!("\ncounted {n}");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn processes_that_write_at_once_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    // The file does not exist yet: they also race to make it.
    let start = |_| again("child_that_counts", directory.path()).stdout(Stdio::null()).spawn().unwrap();
    let children: Vec<_> = (0..6).map(start).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(counter(&store, "counter0"), 120);
    let names = std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["podwire.db", "podwire.db-shm", "podwire.db-wal"]);
}

#[test]
fn a_killed_writer_leaves_a_whole_transaction_or_none() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let mut child = again("child_that_counts_for_ever", directory.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        // Somewhere in the transaction after this one, another place each time.
        lines.find(|line| line.starts_with(&format!("counted {}", 3 + round))).unwrap();
        std::thread::sleep(std::time::Duration::from_micros(150 * round));
        child.kill().unwrap();
        child.wait().unwrap();

        let store = Store::open(directory.path()).unwrap();
        let counted = counter(&store, "counter0");
        assert!(counted > 0);
        for n in 0..50 {
            assert_eq!(counter(&store, &format!("counter{n}")), counted, "round {round}");
        }
        count_up(&store).unwrap();
    }
}

#[test]
fn a_reader_sees_one_moment_while_another_writes() {
    let directory = tempfile::tempdir().unwrap();
    let (reader, writer) = (Store::open(directory.path()).unwrap(), Store::open(directory.path()).unwrap());
    count_up(&writer).unwrap();
    reader
        .read(|tx| {
            let before = tx.meta_get("counter0")?;
            count_up(&writer)?;
            assert_eq!(tx.meta_get("counter49")?, before);
            Ok::<_, StoreError>(())
        })
        .unwrap();
    assert_eq!(counter(&reader, "counter0"), 2);
}

#[test]
fn a_new_store_is_for_its_owner_only_and_keeps_its_instance() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("var/lib/podwire");
    let first = Store::open(&root).unwrap();
    count_up(&first).unwrap();
    let instance = first.instance().to_owned();
    assert!(instance.len() == 8 && instance.bytes().all(|b| b.is_ascii_hexdigit()), "{instance}");
    assert_eq!(std::fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
    for file in std::fs::read_dir(&root).unwrap().map(Result::unwrap) {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    assert_eq!(Store::open(&root).unwrap().instance(), instance);
    let elsewhere = Store::open(&directory.path().join("other")).unwrap();
    assert_ne!(elsewhere.instance(), instance);
}

/// Opening and reading a store after `harm` gives one line that names the file.
fn check_damage(harm: impl Fn(&File)) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let path = store.path().to_owned();
    for _ in 0..20 {
        count_up(&store).unwrap();
    }
    drop(store);
    // The log would repair some of it.
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(connection);
    harm(&OpenOptions::new().write(true).open(&path).unwrap());

    let found = Store::open(directory.path()).and_then(|store| store.read(|tx| tx.containers()));
    let error = found.expect_err("damage is noticed");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with(&format!("the store {} is damaged: ", path.display())), "{text}");
    assert!(text.ends_with("move it away to begin with an empty one") && !text.contains('\n'), "{text}");
}

#[test]
fn damage_is_one_line_that_names_the_file() {
    check_damage(|file| file.set_len(0).unwrap());
    check_damage(|file| file.set_len(50).unwrap());
    check_damage(|file| file.set_len(file.metadata().unwrap().len() / 2).unwrap());
    check_damage(|file| file.write_all_at(b"{\"json\": \"not a store\"}", 0).unwrap());
    check_damage(|file| file.write_all_at(&[0xa5; 4096], 100).unwrap());
    check_damage(|file| {
        let length = file.metadata().unwrap().len();
        (1..length / 4096).for_each(|page| file.write_all_at(&[0xa5; 4096], page * 4096).unwrap());
    });
}

#[test]
fn a_row_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    store.write(|tx| tx.volume_put("data", &1)).unwrap();
    let connection = rusqlite::Connection::open(store.path()).unwrap();
    connection.execute_batch("UPDATE volume SET doc = '{'").unwrap();
    let error = store.read(|tx| tx.volume::<u8>("data")).unwrap_err().to_string();
    assert!(error.contains("volume data cannot be read"), "{error}");
    assert!(store.read(|tx| tx.containers()).is_ok(), "the rest is not affected");
}

#[test]
fn a_file_of_a_later_version_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = Store::open(directory.path()).unwrap().path().to_owned();
    rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA user_version=999").unwrap();
    assert!(matches!(Store::open(directory.path()), Err(StoreError::Later { found: 999, .. })));
}

#[test]
fn an_unreachable_root_is_an_error_that_names_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("file");
    File::create(&root).unwrap();
    let error = Store::open(&root).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
    assert!(error.to_string().contains("file/podwire.db"), "{error}");
}

/// Runs `f` in a mount namespace where a file system of `size` bytes is on a fresh directory.
fn on_small_disk(size: u64, f: impl FnOnce(&Path) + Send) {
    if !linux::process::is_root() {
        // Not by eprintln!, which the test runner hides.
        let _ = std::io::stderr().write_all(b"SKIPPED: needs root\n");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            linux::mounts::enter_private_namespace().unwrap();
            linux::mounts::tmpfs(root, Some(size), 0o700).unwrap();
            f(root);
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn a_disk_that_fills_up_while_writing_loses_nothing_written_before() {
    on_small_disk(320 << 10, |root| {
        let store = Store::open(root).unwrap();
        count_up(&store).unwrap();
        let filler = root.join("filler");
        let error = (0..)
            .map(|n: u32| {
                // Others fill the disk too.
                let mut file = OpenOptions::new().append(true).create(true).open(&filler).unwrap();
                let _ = file.write(&[0; 4096]);
                store.write(|tx| tx.volume_put(&format!("v{n}"), &"x".repeat(4096)))
            })
            .find_map(Result::err)
            .unwrap();
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
        assert!(error.to_string().starts_with("no space left on the file system of "), "{error}");
        assert_eq!(counter(&store, "counter49"), 1);
        drop(store);

        // Even then it can be opened, or says why not.
        match Store::open(root) {
            Ok(store) => assert_eq!(counter(&store, "counter49"), 1),
            Err(e) => assert!(matches!(e, StoreError::Full { .. }), "{e:?}"),
        }
        std::fs::remove_file(&filler).unwrap();
        let store = Store::open(root).unwrap();
        count_up(&store).unwrap();
        assert_eq!(counter(&store, "counter49"), 2);
    });
}

#[test]
fn a_store_that_finds_no_room_leaves_nothing() {
    on_small_disk(64 << 10, |root| {
        let error = Store::open(root).unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
        assert_eq!(std::fs::read_dir(root).unwrap().count(), 0);
    });
}
