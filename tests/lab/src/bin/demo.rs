//! The main job, shown: a web server in a container, published, and fetched from another host.

use anyhow::Result;
use lab::{HOST4, HOST6, Lab, executable, image};

fn main() -> Result<()> {
    println!(
        "A host in namespaces of its own (eth0 {HOST4}, {HOST6}) and a neighbour, `outside`, on its network.\n\
         Lines that begin with # run on the host. Nothing on this machine itself is changed.\n"
    );
    println!("podwire: {}\n", executable("podwire")?.display());
    let lab = Lab::new()?.echoing();
    let archive = lab.dir().join("banner.tar");
    image::docker_archive(&image::banner(), &archive)?;
    lab.host("podwire version").ok();

    let with_registry =
        ["docker-registry", "skopeo"].iter().all(|tool| lab.quietly(&format!("command -v {tool}")).code == 0);
    let registry = with_registry.then(|| lab.registry(&archive));
    let image = if registry.is_some() {
        println!("\nA registry (docker-registry) runs on the host's 127.0.0.1:5000 and has the image.");
        lab.host(&format!("podwire pull {}", lab::registry::IMAGE)).ok();
        lab::registry::IMAGE
    } else {
        println!("\nThe image is made of busybox here (docker-registry and skopeo are not installed).");
        lab.host(&format!("podwire load -i {}", archive.display())).ok();
        "localhost/banner"
    };
    let before = lab.state();

    println!();
    lab.host(&format!("podwire run -dt --name webserver -p 8080:80 {image}")).ok();
    lab.host("podwire ps").ok();
    let fetched = fetch(&lab, &format!("curl -sS {HOST4}:8080"));
    assert!(fetched.out.contains(lab::BANNER), "the page must come: {}", fetched.err);

    println!("\nWhat that made:");
    lab.host("ip -br link; nft list map inet podwire publish4_any; ls /run/netns").ok();

    println!("\nAnd after its end:");
    lab.host("podwire rm -f webserver").ok();
    lab.outside(&format!("curl -sS {HOST4}:8080")).code(7);
    lab.host("ip -br link; ls /run/netns").ok();
    before.same(&lab, "after rm -f");
    println!(
        "\nLinks, addresses, routes, nftables elements, mounts, namespaces, processes and files are as before the run."
    );
    Ok(())
}

/// The server needs a moment to listen.
fn fetch(lab: &Lab, line: &str) -> lab::Run {
    let run = lab.outside(line);
    if run.code == 0 {
        return run;
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    lab.outside(line).ok()
}
