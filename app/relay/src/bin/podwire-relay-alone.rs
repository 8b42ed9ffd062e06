//! The relay alone, for its tests and benches: the argument is its order, standard input its first conversation. With
//! `try WHAT` it goes into the cage instead, and does what is not done there.

fn main() {
    let mut arguments = std::env::args().skip(1);
    let code = match (arguments.next().as_deref(), arguments.next()) {
        (Some("try"), Some(what)) => relay::try_in_cage(&what),
        _ => relay::relay_main(),
    };
    std::process::exit(code);
}
