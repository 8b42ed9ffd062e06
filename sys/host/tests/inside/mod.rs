//! Runs a test again, alone, in namespaces of its own.

use std::process::Command;

const INSIDE: &str = "PODWIRE_TEST_INSIDE";

/// Runs `body` as the only one in fresh namespaces; without root, skips it visibly.
pub(crate) fn alone(test: &str, body: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED {test}: needs root");
        return;
    }
    let enter =
        "mount -t tmpfs -o mode=755 none /run && mount -t sysfs sysfs /sys && ip link set lo up && exec \"$0\" \"$@\"";
    let exe = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args([
            "-n",
            "-m",
            "--propagation",
            "private",
            "--fork",
            "--pid",
            "--mount-proc",
            "--kill-child",
            "sh",
            "-c",
            enter,
        ])
        .arg(exe)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    eprintln!("{text}");
}

/// The output of a command that must succeed.
pub(crate) fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}\n{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Tests that run alone.
#[allow(unused_macros, reason = "some test files call `alone` themselves")]
macro_rules! alone_tests {
    ($($(#[$doc:meta])* fn $name:ident() $body:block)*) => {$(
        $(#[$doc])*
        #[test]
        fn $name() {
            inside::alone(stringify!($name), || $body);
        }
    )*};
}
#[allow(unused_imports, reason = "as above")]
pub(crate) use alone_tests;
