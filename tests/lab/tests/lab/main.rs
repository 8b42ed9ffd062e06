//! What podwire promises, tried on test hosts: each test is a sentence, and runs in a lab of its own.

mod cage;
mod change;
mod churn;
mod command_lines;
mod containers;
mod dhcp;
mod dns;
mod engine;
mod environment;
mod errors;
mod everyday_commands;
mod everyday_commit;
mod everyday_conf;
mod everyday_json;
mod everyday_run;
mod everyday_system;
mod everyday_tasks;
mod everyday_volumes;
mod faults;
mod guards;
mod heal;
mod images;
mod images_names;
mod images_out;
mod kube;
mod limits;
mod macvlan;
mod many;
mod matrix;
mod networks;
mod podman;
mod pods;
mod ports;
mod publish;
mod reach;
mod relay;
mod rootless;
mod rootless_user;
mod shares;
mod sweep;
mod users;
mod words;

fn main() {
    let all = [
        images::sentences(),
        images_names::sentences(),
        images_out::sentences(),
        publish::sentences(),
        ports::sentences(),
        reach::sentences(),
        cage::sentences(),
        change::sentences(),
        churn::sentences(),
        command_lines::sentences(),
        containers::sentences(),
        dns::sentences(),
        networks::sentences(),
        macvlan::sentences(),
        dhcp::sentences(),
        guards::sentences(),
        heal::sentences(),
        environment::sentences(),
        errors::sentences(),
        everyday_commands::sentences(),
        everyday_commit::sentences(),
        everyday_conf::sentences(),
        everyday_json::sentences(),
        everyday_run::sentences(),
        everyday_system::sentences(),
        everyday_tasks::sentences(),
        everyday_volumes::sentences(),
        shares::sentences(),
        podman::sentences(),
        pods::sentences(),
        kube::sentences(),
        engine::sentences(),
        relay::sentences(),
        rootless::sentences(),
        rootless_user::sentences(),
        users::sentences(),
        many::sentences(),
        limits::sentences(),
        matrix::sentences(),
        faults::sentences(),
        sweep::sentences(),
    ];
    lab::trial::run(all.into_iter().flatten().collect());
}
