//! The scripts of the conformance test on the simulation.

#[path = "../../conformance/mod.rs"]
mod scripts;

use super::whole::turn;
use crate::apiserver::{ApiServer, Store};
use crate::clock::{Clock, in_paused_time};
use crate::world::agent::Volume;
use crate::world::cluster::{self, Behaviour, Cluster};
use crate::world::database::Database;
use crate::world::pods::Stuck;
use crate::world::{NAMESPACE, members, provisioner};
use graph_backup_operator::api::Reason;
use scripts::{REPORT, Script, Stage, Task};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const fn behaviour(task: Task) -> Behaviour {
    match task {
        Task::Succeeds => Behaviour::Says(REPORT),
        Task::Fails => Behaviour::Fails(Reason::ToolFailed),
        Task::Works => Behaviour::Hangs,
        Task::HasNoImage => Behaviour::Stuck(Stuck::Image),
        Task::HasNoNode => Behaviour::Stuck(Stuck::Unschedulable),
    }
}

#[test]
fn every_script_holds() {
    scripts::every_script_holds(play);
}

fn play(script: Script) {
    in_paused_time(async {
        let clock = Clock::start(Duration::ZERO);
        let inspections = Task::ALL.map(behaviour).to_vec();
        let world = cluster::Script { inspections, ..cluster::Script::default() };
        let volume = Arc::new(Mutex::new(Volume::default()));
        let cluster = Cluster::new(clock, world, Database::new(&[]), volume);
        let mut store = Store::new(clock);
        // As the test cluster has it.
        provisioner::create_class(&mut store, members::CLASS, true, true);
        let past = (store, Vec::new());
        let server = ApiServer::new(clock, past, Box::new(|_| None), |_| false, Box::new(|_| Vec::new()));
        turn(clock, server.clone(), cluster);
        script(&Stage::new(server.client(0), NAMESPACE)).await;
    });
}
