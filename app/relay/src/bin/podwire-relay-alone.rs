//! The relay alone, for its tests and benches: the argument is its order, standard input its first conversation.

fn main() {
    std::process::exit(relay::relay_main());
}
