//! From the instances there are to those that were asked for.

use std::collections::BTreeSet;

use crate::model::{InstanceId, InstanceState, InstanceStatus, Workload};

/// What a scheduler does about one workload now. It looks again whenever something is applied or an instance is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Steps {
    /// Instances to ask to end.
    pub stop: Vec<InstanceId>,
    /// The ordinals of instances to start.
    pub start: Vec<u32>,
}

impl Steps {
    /// The steps from these instances, those that are stopping or have exited included, to a workload that was
    /// applied, or to nothing where it was removed. It keeps every promise of
    /// [`Scheduler::apply`](crate::port::Scheduler::apply) about which instances stop, stay and start.
    ///
    /// An instance of a task that has exited has to be kept until the task is removed: it tells that the task has run.
    #[must_use]
    pub fn toward(desired: Option<&Workload>, instances: &[InstanceStatus]) -> Self {
        let living = instances.iter().filter(|instance| instance.state != InstanceState::Stopping);
        let Some(workload) = desired else {
            return Self { stop: living.map(|instance| instance.id.clone()).collect(), start: Vec::new() };
        };
        if workload.is_task() {
            let start = if instances.is_empty() { vec![0] } else { Vec::new() };
            return Self { stop: Vec::new(), start };
        }
        let (retired, mut staying): (Vec<_>, Vec<_>) =
            living.partition(|instance| workload.retire.contains(&instance.id));
        let count = retired.len() + staying.len();
        let wanted = workload.replicas.map_or(count.max(1), |replicas| replicas as usize);
        // Of too many, what serves least goes first.
        staying.sort_by_key(|instance| (!instance.is_ready(), instance.ordinal));
        let excess = staying.split_off(wanted.min(staying.len()));
        let missing = wanted - staying.len();
        // No two that live share an ordinal, and one that is asked to end lives until it is gone.
        let taken: BTreeSet<u32> = instances.iter().map(|instance| instance.ordinal).collect();
        // Volumes belong to ordinals: a new instance waits for the last writer of its own.
        let limit = if workload.template.mounts.is_empty() { wanted + taken.len() } else { wanted };
        let free = (0..u32::try_from(limit).unwrap_or(u32::MAX)).filter(|ordinal| !taken.contains(ordinal));
        Self {
            stop: retired.into_iter().chain(excess).map(|instance| instance.id.clone()).collect(),
            start: free.take(missing).collect(),
        }
    }
}

impl Steps {
    /// As [`Steps::toward`], for a scheduler that rolls natively: instances of another template are replaced, each once a
    /// new one is ready, with one more than asked for meanwhile. Where they have volumes it is one after the other, the
    /// highest ordinal first.
    #[must_use]
    pub fn rolling(desired: &Workload, instances: &[InstanceStatus]) -> Self {
        let digest = desired.template.digest();
        let stays = |instance: &&InstanceStatus| {
            instance.state != InstanceState::Stopping && !desired.retire.contains(&instance.id)
        };
        let (current, mut outdated): (Vec<_>, Vec<_>) =
            instances.iter().filter(stays).partition(|instance| instance.template == digest);
        if desired.is_task() || outdated.is_empty() {
            return Self::toward(Some(desired), instances);
        }
        let count = current.len() + outdated.len();
        let wanted = desired.replicas.map_or(count, |replicas| replicas as usize);
        let ready = |all: &[&InstanceStatus]| all.iter().filter(|instance| instance.is_ready()).count();
        // What serves least goes first.
        outdated.sort_by_key(|instance| (instance.is_ready(), std::cmp::Reverse(instance.ordinal)));
        let useless = outdated.len() - ready(&outdated);
        let (spare, surge) = if desired.template.mounts.is_empty() {
            ((ready(&current) + ready(&outdated)).saturating_sub(wanted), 1)
        } else {
            let settled = ready(&current) == current.len() && count >= wanted && useless == 0;
            ((count - wanted.min(count)).max(usize::from(settled)), 0)
        };
        let stop = outdated.iter().take(useless + spare);
        let mut asked = desired.clone();
        asked.retire.extend(stop.map(|instance| instance.id.clone()));
        let room = wanted.saturating_sub(current.len()).min((wanted + surge).saturating_sub(count));
        let kept = count + room - (useless + spare).min(outdated.len());
        asked.replicas = Some(u32::try_from(kept).unwrap_or(u32::MAX));
        Self::toward(Some(&asked), instances)
    }
}

#[cfg(test)]
mod tests {
    use super::Steps;
    use crate::model::{
        AppId, AppName, ByteSize, EnvironmentId, EnvironmentName, InstanceId, InstanceState, InstanceStatus,
        Mount, OperationId, RevisionNumber, Role, ServiceId, ServiceName, Slot, Template, TenantId,
        TenantName, Timestamp, VolumeName, Workload, WorkloadKey, WorkloadLabels,
    };

    fn workload(role: Role, replicas: u32) -> Workload {
        let key = WorkloadKey::new(
            TenantId::new("t-1").unwrap(),
            EnvironmentId::new("e-1").unwrap(),
            AppId::new("a-1").unwrap(),
            ServiceId::new("s-1").unwrap(),
            role,
        );
        let labels = WorkloadLabels::new(
            TenantName::new("acme").unwrap(),
            EnvironmentName::new("production").unwrap(),
            AppName::new("shop").unwrap(),
            ServiceName::new("web").unwrap(),
        );
        Workload::new(key, labels, RevisionNumber(1), Template::new(Vec::new()), replicas)
    }

    fn service(replicas: u32) -> Workload {
        workload(Role::Slot(Slot::Blue), replicas)
    }

    fn id(ordinal: u32) -> InstanceId {
        InstanceId::new(format!("i-{ordinal}")).unwrap()
    }

    /// Instances of the ordinals from 0.
    fn instances(states: &[InstanceState]) -> Vec<InstanceStatus> {
        let digest = Template::new(Vec::new()).digest();
        let instance = |(ordinal, state): (u32, &InstanceState)| {
            let mut status =
                InstanceStatus::new(id(ordinal), ordinal, RevisionNumber(1), digest.clone(), Timestamp(0));
            status.state = *state;
            status
        };
        (0..).zip(states).map(instance).collect()
    }

    #[track_caller]
    fn leads_to(desired: Option<&Workload>, states: &[InstanceState], stop: &[u32], start: &[u32]) {
        let steps = Steps::toward(desired, &instances(states));
        assert_eq!(
            (steps.stop, &steps.start[..]),
            (stop.iter().map(|ordinal| id(*ordinal)).collect(), start)
        );
    }

    use InstanceState::{BackingOff, Exited, Ready, Starting, Stopping, Unready};

    /// Lets every step come true at once until there is none; the fewest ready there were, and all that was ever started.
    fn roll(desired: &Workload, mut all: Vec<InstanceStatus>) -> (usize, Vec<u32>) {
        let (mut fewest, mut started) = (usize::MAX, Vec::new());
        for turn in 0.. {
            assert!(turn < 100, "it never ends: {all:?}");
            let steps = Steps::rolling(desired, &all);
            if steps == Steps::default() {
                break;
            }
            all.retain(|instance| !steps.stop.contains(&instance.id));
            fewest = fewest.min(all.iter().filter(|instance| instance.is_ready()).count());
            for ordinal in steps.start {
                let name = InstanceId::new(format!("n-{turn}-{ordinal}")).unwrap();
                let digest = desired.template.digest();
                let mut new = InstanceStatus::new(name, ordinal, RevisionNumber(2), digest, Timestamp(0));
                new.state = Ready;
                started.push(ordinal);
                all.push(new);
            }
        }
        assert!(all.iter().all(|instance| instance.template == desired.template.digest()));
        assert_eq!(Some(all.len()), desired.replicas.map(|count| count as usize));
        (fewest, started)
    }

    #[test]
    fn a_native_roll_never_has_fewer_ready_than_asked_for() {
        for count in 1..6 {
            let mut desired = service(count);
            desired.template.incarnation = 1;
            let before = vec![Ready; count as usize];
            assert_eq!(roll(&desired, instances(&before)).0, count as usize);
        }
        let mut desired = service(2);
        desired.template.incarnation = 1;
        // What never was ready makes room at once, and a smaller count is kept.
        roll(&desired, instances(&[Starting, BackingOff]));
        roll(&desired, instances(&[Ready, Ready, Ready, Ready]));
        roll(&desired, instances(&[]));
    }

    #[test]
    fn a_native_roll_waits_for_what_is_not_ready_yet() {
        let mut desired = service(2);
        desired.template.incarnation = 1;
        let mut all = instances(&[Ready, Ready, Starting]);
        all[2].template = desired.template.digest();
        assert_eq!(Steps::rolling(&desired, &all), Steps::default());
    }

    #[test]
    fn a_native_roll_of_volumes_goes_from_the_highest_ordinal_down() {
        let mut desired = service(3);
        desired.template.incarnation = 1;
        desired.template.mounts.push(Mount::new(VolumeName::new("data").unwrap(), None, ByteSize(1)));
        let (fewest, started) = roll(&desired, instances(&[Ready, Ready, Ready]));
        assert_eq!((fewest, started), (2, vec![2, 1, 0]));
    }

    #[test]
    fn what_is_missing_starts_and_what_is_too_much_stops() {
        leads_to(Some(&service(2)), &[], &[], &[0, 1]);
        leads_to(Some(&service(2)), &[Ready, BackingOff], &[], &[]);
        leads_to(Some(&service(1)), &[Ready, Ready, Ready], &[1, 2], &[]);
        leads_to(Some(&service(0)), &[Ready, Stopping], &[0], &[]);
    }

    #[test]
    fn the_unready_go_first() {
        leads_to(Some(&service(1)), &[Unready, Ready, Starting], &[0, 2], &[]);
    }

    #[test]
    fn the_retired_are_replaced_at_once_under_another_ordinal() {
        let mut retiring = service(2);
        retiring.retire = vec![id(0), id(9)];
        leads_to(Some(&retiring), &[Ready, Ready], &[0], &[2]);
        leads_to(Some(&retiring), &[Stopping, Ready, Starting], &[], &[]);
    }

    #[test]
    fn a_volume_waits_until_its_last_writer_is_gone() {
        let mut retiring = service(2);
        retiring.template.mounts.push(Mount::new(VolumeName::new("data").unwrap(), None, ByteSize(1)));
        retiring.retire = vec![id(0)];
        leads_to(Some(&retiring), &[Ready, Ready], &[0], &[]);
        leads_to(Some(&retiring), &[Stopping, Ready], &[], &[]);
        let gone = &instances(&[Ready, Ready])[1..];
        assert_eq!(Steps::toward(Some(&retiring), gone).start, [0]);
    }

    #[test]
    fn a_count_that_is_left_to_the_scheduler_stays_as_it_is() {
        let mut scaled = service(1);
        scaled.replicas = None;
        leads_to(Some(&scaled), &[], &[], &[0]);
        leads_to(Some(&scaled), &[Ready, Ready, Ready], &[], &[]);
        scaled.retire = vec![id(0)];
        leads_to(Some(&scaled), &[Ready, Ready, Ready], &[0], &[3]);
    }

    #[test]
    fn a_task_starts_once() {
        let task = workload(Role::Task(OperationId::new("o-1").unwrap()), 1);
        leads_to(Some(&task), &[], &[], &[0]);
        leads_to(Some(&task), &[Exited], &[], &[]);
    }

    #[test]
    fn of_what_was_removed_nothing_stays() {
        leads_to(None, &[Ready, Stopping, BackingOff, Exited], &[0, 2, 3], &[]);
    }
}
