//! All commands: one line here and one file each.

mod attach;
mod commit;
pub(crate) mod completion;
mod container_cleanup;
mod container_prune;
pub(crate) mod cp;
mod create;
mod diff;
mod events;
mod exec;
mod exists;
mod export;
mod healthcheck;
mod history;
mod image_prune;
mod image_tree;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod kube_generate;
mod kube_play;
mod load;
mod login;
mod logs;
mod man;
mod network_connect;
mod network_create;
mod network_disconnect;
mod network_exists;
mod network_export;
mod network_import;
mod network_inspect;
mod network_leases;
mod network_ls;
mod network_prune;
mod network_reload;
mod network_resolve;
mod network_rm;
mod network_update;
mod pause;
pub(crate) mod pod_create;
mod pod_inspect;
mod pod_logs;
mod pod_pause;
mod pod_ps;
mod pod_rm;
mod pod_start;
mod pod_stats;
mod pod_stop;
mod pod_top;
pub(crate) mod port;
pub(crate) mod ps;
pub(crate) mod pull;
mod push;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod start;
mod stats;
mod stop;
mod system_df;
mod system_migrate;
mod system_prune;
mod system_reset;
mod tag;
mod top;
mod unshare;
mod update;
pub(crate) mod version;
mod volume_create;
mod volume_export;
mod volume_inspect;
mod volume_ls;
mod volume_prune;
mod volume_rm;
mod wait;

use engine::Kind;

use crate::flags::Entry;
use crate::global::{complain, say};
use crate::outcome::Outcome;

/// Words that stand before a command.
pub(crate) const NOUNS: &[(&str, &str)] = &[
    ("container", "Manage containers"),
    ("generate", "Write what runs for other programs"),
    ("healthcheck", "Check the health of containers"),
    ("image", "Manage images"),
    ("kube", "Play, write and take down Kubernetes files"),
    ("network", "Manage networks"),
    ("play", "Play what other programs write"),
    ("pod", "Manage pods"),
    ("system", "Manage podwire: its disk, its events, its traces"),
    ("volume", "Manage volumes"),
];

const SEVERAL_PODS: &str = "[options] POD [POD...]";
const SEVERAL_CONTAINERS: &str = "[options] CONTAINER [CONTAINER...]";

/// One line per command: its names, what it does, what follows it.
#[rustfmt::skip]
pub(crate) const COMMANDS: &[Entry] = &[
    Entry::new::<attach::AttachCommand>(&["attach", "container attach"], "Take part in a running container's input and output", "[options] CONTAINER"),
    Entry::new::<commit::Commit>(&["commit", "container commit"], "Make an image of what a container changed", "[options] CONTAINER [IMAGE]"),
    Entry::new::<completion::Completion>(&["completion"], "Write what makes a shell complete podwire's command lines", "[options] bash|zsh|fish"),
    Entry::new::<container_cleanup::ContainerCleanup>(&["container cleanup"], "Take away what is left of containers that have ended", SEVERAL_CONTAINERS),
    Entry::new::<container_prune::ContainerPrune>(&["container prune"], "Remove all containers that do not run", "[options]"),
    Entry::new::<cp::Cp>(&["cp", "container cp"], "Copy files between containers and the host", "[options] [CONTAINER:]SRC_PATH [CONTAINER:]DEST_PATH"),
    Entry::new::<create::Create>(&["create", "container create"], "Create but do not start a container", "[options] IMAGE [COMMAND [ARG...]]"),
    Entry::new::<diff::Diff>(&["diff"], "Show what a container or an image changed", "[options] CONTAINER|IMAGE [CONTAINER|IMAGE]"),
    Entry::new::<diff::ContainerDiff>(&["container diff"], "Show what a container changed", "[options] CONTAINER [CONTAINER]"),
    Entry::new::<events::Events>(&["events", "system events"], "Tell what happens to containers, images, networks and volumes", "[options]"),
    Entry::new::<exec::Exec>(&["exec", "container exec"], "Run a process in a running container", "[options] CONTAINER COMMAND [ARG...]"),
    Entry::new::<exists::ContainerExists>(&["container exists"], "Check if a container exists", "CONTAINER"),
    Entry::new::<exists::ImageExists>(&["image exists"], "Check if an image exists", "IMAGE"),
    Entry::new::<export::Export>(&["export", "container export"], "Write the files of a container as a tar archive", "[options] CONTAINER"),
    Entry::new::<healthcheck::HealthcheckRun>(&["healthcheck run"], "Run the health check of a container", "CONTAINER"),
    Entry::new::<history::History>(&["history", "image history"], "Show how an image was made", "[options] IMAGE"),
    Entry::new::<diff::ImageDiff>(&["image diff"], "Show what an image changed", "[options] IMAGE [IMAGE]"),
    Entry::new::<image_prune::ImagePrune>(&["image prune"], "Remove images that nobody uses", "[options]"),
    Entry::new::<image_tree::ImageTree>(&["image tree"], "Show the layers of an image", "[options] IMAGE"),
    Entry::new::<images::Images>(&["images", "image ls", "image list"], "List images", "[options] [IMAGE]"),
    Entry::new::<import::Import>(&["import", "image import"], "Import a tarball as an image", "[options] PATH [REFERENCE]"),
    Entry::new::<info::Info>(&["info", "system info"], "Display information about podwire and this machine", "[options]"),
    Entry::new::<inspect::Inspect>(&["inspect"], "Display a container, image or network", "[options] NAME [NAME...]"),
    Entry::new::<inspect::InspectContainer>(&["container inspect"], "Display a container", "[options] CONTAINER [CONTAINER...]"),
    Entry::new::<inspect::InspectImage>(&["image inspect"], "Display an image", "[options] IMAGE [IMAGE...]"),
    Entry::new::<kill::Kill>(&["kill", "container kill"], "Send a signal to running containers", SEVERAL_CONTAINERS),
    Entry::new::<kube_play::KubeDown>(&["kube down"], "Stop and remove the pods of a Kubernetes file", "[options] FILE|-"),
    Entry::new::<kube_generate::KubeGenerate>(&["kube generate", "generate kube"], "Write a pod or containers as a Kubernetes file", "[options] POD|CONTAINER [CONTAINER...]"),
    Entry::new::<kube_play::KubePlay>(&["kube play", "play kube"], "Make and start the pods of a Kubernetes file", "[options] FILE|-"),
    Entry::new::<load::Load>(&["load", "image load"], "Load images from an archive", "[options]"),
    Entry::new::<login::Login>(&["login"], "Log in to a registry", "[options] [REGISTRY]"),
    Entry::new::<login::Logout>(&["logout"], "Log out of a registry", "[options] [REGISTRY]"),
    Entry::new::<logs::Logs>(&["logs", "container logs"], "Fetch the logs of containers", SEVERAL_CONTAINERS),
    Entry::hidden::<man::Man>(&["man"], "Write a manual page for each command into a directory", "DIRECTORY"),
    Entry::new::<network_connect::NetworkConnect>(&["network connect"], "Add a container to a network", "[options] NETWORK CONTAINER"),
    Entry::new::<network_create::NetworkCreate>(&["network create"], "Create a network", "[options] [NAME]"),
    Entry::new::<network_disconnect::NetworkDisconnect>(&["network disconnect"], "Take a container off a network", "[options] NETWORK CONTAINER"),
    Entry::new::<network_exists::NetworkExists>(&["network exists"], "Check if a network exists", "NETWORK"),
    Entry::new::<network_export::NetworkExport>(&["network export"], "Write networks as Podman's files", "[options] [NETWORK...]"),
    Entry::new::<network_import::NetworkImport>(&["network import"], "Add networks from Podman's or CNI's files", "[FILE|DIR...]"),
    Entry::new::<network_inspect::NetworkInspect>(&["network inspect"], "Display networks", "[options] NETWORK [NETWORK...]"),
    Entry::new::<network_leases::NetworkLeases>(&["network leases"], "List addresses that DHCP servers have leased to containers", "[options] [NETWORK]"),
    Entry::new::<network_ls::NetworkLs>(&["network ls", "network list"], "List networks", "[options]"),
    Entry::new::<network_prune::NetworkPrune>(&["network prune"], "Remove networks that no container uses", "[options]"),
    Entry::new::<network_reload::NetworkReload>(&["network reload"], "Make the firewall and links of containers as they should be", "[options] [CONTAINER...]"),
    Entry::new::<network_resolve::NetworkResolve>(&["network resolve"], "Print the addresses that containers have under a name", "[options] NAME"),
    Entry::new::<network_rm::NetworkRm>(&["network rm", "network remove"], "Remove networks", "[options] NETWORK [NETWORK...]"),
    Entry::new::<network_update::NetworkUpdate>(&["network update"], "Change a network's DNS servers", "[options] NETWORK"),
    Entry::new::<pause::Pause>(&["pause", "container pause"], "Stop the processes of containers where they are", SEVERAL_CONTAINERS),
    Entry::new::<pod_create::PodCreate>(&["pod create"], "Create a pod", "[options] [NAME]"),
    Entry::new::<pod_rm::PodExists>(&["pod exists"], "Check if a pod exists", "POD"),
    Entry::new::<pod_inspect::PodInspect>(&["pod inspect"], "Display pods", SEVERAL_PODS),
    Entry::new::<pod_stop::PodKill>(&["pod kill"], "Send a signal to the containers of pods", SEVERAL_PODS),
    Entry::new::<pod_logs::PodLogs>(&["pod logs"], "Fetch the logs of a pod's containers", "[options] POD"),
    Entry::new::<pod_pause::PodPause>(&["pod pause"], "Pause the containers of pods", SEVERAL_PODS),
    Entry::new::<pod_rm::PodPrune>(&["pod prune"], "Remove all pods that have stopped", "[options]"),
    Entry::new::<pod_ps::PodPs>(&["pod ps", "pod ls", "pod list"], "List pods", "[options]"),
    Entry::new::<pod_start::PodRestart>(&["pod restart"], "Restart the containers of pods", SEVERAL_PODS),
    Entry::new::<pod_rm::PodRm>(&["pod rm"], "Remove pods with their containers", SEVERAL_PODS),
    Entry::new::<pod_start::PodStart>(&["pod start"], "Start the containers of pods", SEVERAL_PODS),
    Entry::new::<pod_stats::PodStats>(&["pod stats"], "Show what the containers of pods use of the machine", "[options] [POD...]"),
    Entry::new::<pod_stop::PodStop>(&["pod stop"], "Stop the containers of pods", SEVERAL_PODS),
    Entry::new::<pod_top::PodTop>(&["pod top"], "Display the processes of a pod's containers", "[options] POD [COLUMN...]"),
    Entry::new::<pod_pause::PodUnpause>(&["pod unpause"], "Let the containers of paused pods go on", SEVERAL_PODS),
    Entry::new::<port::Port>(&["port", "container port"], "List published ports of a container", "[options] CONTAINER [PORT]"),
    Entry::new::<ps::Ps>(&["ps", "container ps", "container ls", "container list"], "List containers", "[options]"),
    Entry::new::<pull::Pull>(&["pull", "image pull"], "Pull images from a registry", "[options] IMAGE [IMAGE...]"),
    Entry::new::<push::Push>(&["push", "image push"], "Push an image to a registry or into files", "[options] IMAGE [DESTINATION]"),
    Entry::new::<rename::Rename>(&["rename", "container rename"], "Rename a container", "CONTAINER NAME"),
    Entry::new::<restart::Restart>(&["restart", "container restart"], "Restart containers", SEVERAL_CONTAINERS),
    Entry::new::<rm::Rm>(&["rm", "container rm"], "Remove containers", SEVERAL_CONTAINERS),
    Entry::new::<rmi::Rmi>(&["rmi", "image rm", "image remove"], "Remove images", "[options] IMAGE [IMAGE...]"),
    Entry::new::<run::Run>(&["run", "container run"], "Run a command in a new container", "[options] IMAGE [COMMAND [ARG...]]"),
    Entry::new::<save::Save>(&["save", "image save"], "Save images to an archive or a directory", "[options] IMAGE [IMAGE...]"),
    Entry::new::<search::Search>(&["search", "image search"], "Search registries for images", "[options] TERM"),
    Entry::new::<start::Start>(&["start", "container start"], "Start containers", SEVERAL_CONTAINERS),
    Entry::new::<stats::Stats>(&["stats", "container stats"], "Show what containers use of the machine", "[options] [CONTAINER...]"),
    Entry::new::<stop::Stop>(&["stop", "container stop"], "Stop running containers", SEVERAL_CONTAINERS),
    Entry::new::<system_df::SystemDf>(&["system df"], "Show what images, containers and volumes take of the disk", "[options]"),
    Entry::new::<system_migrate::SystemMigrate>(&["system migrate"], "Stop all containers, and give them another OCI runtime", "[options]"),
    Entry::new::<system_prune::SystemPrune>(&["system prune"], "Remove what nobody uses", "[options]"),
    Entry::new::<system_migrate::SystemRenumber>(&["system renumber"], "Give locks new numbers; podwire has no locks with numbers", ""),
    Entry::new::<system_reset::SystemReset>(&["system reset"], "Remove everything that podwire has and has made", "[options]"),
    Entry::new::<tag::Tag>(&["tag", "image tag"], "Give an image more names", "IMAGE TARGET_NAME [TARGET_NAME...]"),
    Entry::new::<top::Top>(&["top", "container top"], "Show the processes of a container", "[options] CONTAINER [COLUMNS|ARGS...]"),
    Entry::new::<pause::Unpause>(&["unpause", "container unpause"], "Let the processes of containers go on", SEVERAL_CONTAINERS),
    Entry::new::<unshare::Unshare>(&["unshare"], "Run a command in the user namespace of an ordinary user's containers", "[options] [COMMAND [ARG...]]"),
    Entry::new::<tag::Untag>(&["untag", "image untag"], "Take names away from an image", "IMAGE [NAME...]"),
    Entry::new::<update::Update>(&["update", "container update"], "Change the limits, the policy or the published ports of a container", "[options] CONTAINER"),
    Entry::new::<version::Version>(&["version"], "Display the version", "[options]"),
    Entry::new::<volume_create::VolumeCreate>(&["volume create"], "Create a volume", "[options] [NAME]"),
    Entry::new::<exists::VolumeExists>(&["volume exists"], "Check if a volume exists", "VOLUME"),
    Entry::new::<volume_export::VolumeExport>(&["volume export"], "Write the files of a volume as a tar archive", "[options] VOLUME"),
    Entry::new::<volume_export::VolumeImport>(&["volume import"], "Add the files of a tar archive to a volume", "VOLUME [SOURCE]"),
    Entry::new::<volume_inspect::VolumeInspect>(&["volume inspect"], "Display volumes", "[options] VOLUME [VOLUME...]"),
    Entry::new::<volume_ls::VolumeLs>(&["volume ls", "volume list"], "List volumes", "[options]"),
    Entry::new::<volume_prune::VolumePrune>(&["volume prune"], "Remove volumes that no container uses", "[options]"),
    Entry::new::<volume_rm::VolumeRm>(&["volume rm", "volume remove"], "Remove volumes", "[options] VOLUME [VOLUME...]"),
    Entry::new::<wait::Wait>(&["wait", "container wait"], "Wait for containers to stop and print their exit codes", SEVERAL_CONTAINERS),
];

/// Does it to every name: results are printed, errors told as they come; the worst exit code counts.
fn each(
    names: &[String],
    exit_code: impl Fn(&engine::Error) -> u8,
    mut act: impl FnMut(&str) -> Result<Option<String>, engine::Error>,
) -> Outcome {
    let mut worst = 0;
    for name in names {
        match act(name) {
            Ok(Some(line)) => say(line)?,
            Ok(None) => {}
            Err(error) => {
                complain(format_args!("Error: {error}"));
                worst = worst.max(exit_code(&error));
            }
        }
    }
    Ok(worst)
}

/// Podman's exit codes of `rm`, `rmi` and `network rm`: 1 for what is not there, 2 for what is in use.
fn removal_code(error: &engine::Error) -> u8 {
    match error.kind {
        Kind::NotFound => 1,
        Kind::InUse | Kind::WrongState => 2,
        _ => error.exit_code(),
    }
}
