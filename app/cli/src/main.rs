//! The `podwire` command; all of it is in the library beside, where fuzzers reach it too.

fn main() -> std::process::ExitCode {
    podwire::main()
}
