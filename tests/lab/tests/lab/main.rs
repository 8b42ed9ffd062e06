//! What podwire promises, tried on test hosts: each test is a sentence, and runs in a lab of its own.

mod change;
mod engine;
mod errors;
mod faults;
mod guards;
mod images;
mod many;
mod publish;
mod reach;
mod words;

fn main() {
    let all = [
        images::sentences(),
        publish::sentences(),
        reach::sentences(),
        change::sentences(),
        guards::sentences(),
        errors::sentences(),
        engine::sentences(),
        many::sentences(),
        faults::sentences(),
    ];
    lab::trial::run(all.into_iter().flatten().collect());
}
